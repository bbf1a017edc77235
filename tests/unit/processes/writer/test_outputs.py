"""An output that cannot be written holds everybody up, or skips records: as it is set, counted, and said once."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.files.fifo import HASTY_S
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import OutputField
from prefork_logd.processes.writer import skipping
from prefork_logd.processes.writer.outputs import Outputs
from tests.support.starts import BOARD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOML = """
store = []
[[output]]
path = "all.jsonl"
[[output]]
name = "other"
path = "{path}"
on_error = "{on_error}"
"""
ALL, OTHER = 1, 2


class Rig:
    """Two outputs: a file, and another one."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        self.outputs = Outputs(BOARD)
        for place in (ALL, OTHER):
            for field in OutputField:
                BOARD.output(place)[field] = 0

    def configure(self, path: str = "fifo", on_error: str = "skip", generation: int = 1) -> list[str]:
        """Take up a configuration."""
        toml = TOML.format(path=self.directory / path, on_error=on_error)
        settings = loads(toml, overrides={"state_dir": str(self.directory)})
        return self.outputs.configure(Configuration(generation, settings, (ALL, OTHER)))

    def turn(self, lines: bytes = b"a line\n", *, sync: bool = False) -> bool:
        """Append lines to both and commit; tell whether that could be done."""
        for place in (ALL, OTHER):
            self.outputs.add_lines(place, "", lines.count(b"\n"), memoryview(lines))
        return self.again(sync=sync)

    def again(self, *, sync: bool = False) -> bool:
        """Try once more what could not be done."""
        self.outputs.find()
        done = self.outputs.append() and (not sync or self.outputs.sync())
        if done:
            self.outputs.committed()
        return done

    def counted(self) -> tuple[int, int, bool]:
        """Return records, skipped and failing of the other output."""
        counters = BOARD.output(OTHER)
        return counters[OutputField.RECORDS], counters[OutputField.SKIPPED], bool(counters[OutputField.FAILED])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Return two outputs, one of them a FIFO that is not opened yet."""
    os.mkfifo(tmp_path / "fifo")
    made = Rig(tmp_path)
    yield made
    made.outputs.close()


def test_a_fifo_without_a_reader_holds_up_nobody(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Not even at a start; with a reader it goes on, and both is said."""
    assert rig.configure() == []
    for _ in range(5):
        assert rig.turn()
    assert rig.counted() == (0, 5, True)
    assert caplog.text.count("it has no reader") == 1
    reader = os.open(rig.directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert rig.turn(b"here\n")
    assert os.read(reader, 100) == b"here\n"
    assert rig.counted() == (1, 5, False)
    os.close(reader)
    assert rig.turn()
    assert rig.counted() == (1, 6, True)
    assert (rig.directory / "all.jsonl").read_bytes().count(b"\n") == 7
    assert [record.getMessage().partition("/fifo")[2] for record in caplog.records] == [
        ": cannot open: it has no reader; its records are skipped until it works again",
        ": written again; skipped 5 records",
    ]
    assert rig.outputs.reopen() == []


def test_block_holds_everybody_up(rig: Rig) -> None:
    """As it is without a word in the configuration; a reload to "skip" lets them go on."""
    (problem,) = rig.configure(on_error="block")
    assert "it has no reader" in problem
    assert not rig.turn()
    assert rig.counted() == (0, 0, True)
    assert rig.configure(on_error="skip", generation=2) == []
    assert rig.again()
    assert rig.counted() == (0, 1, True)


def test_a_reader_that_stalls_costs_others_a_moment(rig: Rig) -> None:
    """Once, and not in each turn; what it was sent in part, it gets whole."""
    reader = os.open(rig.directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    rig.configure()
    lines = b"".join(b"%06d\n" % number for number in range(20_000))
    began_s = time.monotonic()
    for _ in range(50):
        assert rig.turn(lines)
    assert time.monotonic() - began_s < 10 * HASTY_S
    assert rig.counted() == (20_000, 49 * 20_000, True)
    got = b""
    while len(got) < len(lines):
        got += os.read(reader, 1 << 20)
        rig.turn(b"")
        rig.outputs.add_lines(OTHER, "", 1, memoryview(b"x\n"))
        rig.again()
    assert got.startswith(lines)
    os.close(reader)


def test_one_that_comes_and_goes_does_not_fill_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At most one line every ten seconds; an episode that lasts is logged then."""
    rig.configure()
    for _ in range(20):
        rig.turn()
        reader = os.open(rig.directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        rig.turn()
        os.close(reader)
    assert len(caplog.records) == 2
    rig.turn()
    later_s = time.monotonic() + skipping.QUIET_S + 1
    monkeypatch.setattr(skipping.time, "monotonic", lambda: later_s)
    rig.turn()
    assert len(caplog.records) == 3
    assert rig.counted()[1] == 22


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_file_on_a_failing_disk_is_skipped(rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No line is torn, and none comes later."""
    rig.configure("other.jsonl")
    assert rig.turn(b"before\n")
    real, fd = os.writev, rig.outputs.at(OTHER).file._fd

    def fail(to: int, chunks: list[bytes]) -> int:
        if to == fd:
            raise OSError(number, os.strerror(number))
        return real(to, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", fail)
        assert rig.turn(b"skipped\n")
    assert rig.turn(b"after\n")
    assert (rig.directory / "other.jsonl").read_bytes() == b"before\nafter\n"
    assert (rig.directory / "all.jsonl").read_bytes() == b"before\nskipped\nafter\n"
    assert rig.counted() == (2, 1, False)


def test_a_sync_that_fails_skips_what_it_was_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be on the disk is not in the file either: it is counted as skipped."""
    rig.configure("other.jsonl")
    assert rig.turn(b"before\n", sync=True)
    real, fd = os.fdatasync, rig.outputs.at(OTHER).file._fd
    failed = []

    def fail(of: int) -> None:
        if of == fd and not failed:
            failed.append(of)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(of)

    monkeypatch.setattr(os, "fdatasync", fail)
    assert rig.turn(b"not synced\n", sync=True)
    assert rig.turn(b"after\n", sync=True)
    assert rig.counted() == (2, 1, False)
    (aside,) = rig.directory.glob("other.jsonl.failed-*")
    assert aside.read_bytes() == b"before\n"
    assert (rig.directory / "other.jsonl").read_bytes() == b"after\n"


def test_rejected_frames_are_only_counted_without_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again with each of them, and holds up no record."""
    (tmp_path / "rejected.jsonl").mkdir()
    rig = Rig(tmp_path)
    assert rig.configure("other.jsonl") == []
    rig.outputs.add_lines(0, "", 1, memoryview(b"{}\n"))
    assert rig.turn()
    (tmp_path / "rejected.jsonl").rmdir()
    rig.outputs.add_lines(0, "", 1, memoryview(b"{}\n"))
    assert rig.turn()
    assert (tmp_path / "rejected.jsonl").read_bytes() == b"{}\n"
    assert caplog.text.count("rejected frames are only counted until it works again") == 1
    rig.outputs.close()


@pytest.mark.parametrize("name", ["other.jsonl", "link.jsonl"])
def test_an_output_that_comes_back_before_all_have_let_go_of_it(tmp_path: Path, name: str) -> None:
    """Taken out by a reload and put back by the next, in its place or through a link: it is not locked out."""
    rig = Rig(tmp_path)
    (tmp_path / "link.jsonl").symlink_to("other.jsonl")
    assert rig.configure("other.jsonl", "block", generation=1) == []
    only = loads('store = []\n[[output]]\npath = "all.jsonl"', overrides={"state_dir": str(tmp_path)})
    assert rig.outputs.configure(Configuration(2, only, (ALL,))) == []
    rig.outputs.add_lines(OTHER, "", 1, memoryview(b"of a worker with the first configuration\n"))
    both = loads(TOML.format(path=tmp_path / name, on_error="block"), overrides={"state_dir": str(tmp_path)})
    place = OTHER if name == "other.jsonl" else OTHER + 1
    assert rig.outputs.configure(Configuration(3, both, (ALL, place))) == []
    rig.outputs.add_lines(place, "", 1, memoryview(b"of a worker with the last\n"))
    assert rig.again(sync=True)
    rig.outputs.forget(3)
    rig.outputs.add_lines(place, "", 1, memoryview(b"later\n"))
    assert rig.again(sync=True)
    assert (tmp_path / "other.jsonl").read_bytes().count(b"\n") == 3
    rig.outputs.close()
