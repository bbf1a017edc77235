"""The files of one output: bounded in number, each line once in the right one, whatever fails or dies meanwhile."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import OutputField
from prefork_logd.processes.writer import output_set
from prefork_logd.processes.writer.commit_steps import CommitSteps
from prefork_logd.processes.writer.free_space import FreeSpace
from prefork_logd.processes.writer.output_set import OutputSet
from prefork_logd.system import libc
from tests.support import procfs
from tests.support.starts import BOARD, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOML = 'store = []\n[[output]]\nname = "all"\npath = "logs/{service}.jsonl"\n'


NO_MINIMUM = "[limits]\nmin_free_bytes = 0\n"


class KilledError(Exception):
    """The writer dies here."""


class Place:
    """A state directory with a writer."""

    def __init__(self, state_dir: Path, toml: str = TOML) -> None:
        self.state_dir = state_dir
        self.logs = state_dir / "logs"
        self.toml = toml
        self.generation = 1
        for field in OutputField:
            BOARD.output(1)[field] = 0
        self.restart()

    def restart(self, toml: str = "") -> None:
        """Start a writer after the death of the last one."""
        self.toml = toml or self.toml
        self.start = Start(self.state_dir, self.toml)
        assert self.start.advance() == ""
        self.outputs = self.start.outputs
        settings = loads(NO_MINIMUM, "", {"state_dir": str(self.state_dir)})
        self.free_space = FreeSpace(BOARD.journal, self.start.record_log.wake_stores, settings)

    @property
    def set(self) -> OutputSet:
        found = self.outputs.at(1)
        assert isinstance(found, OutputSet)
        return found

    def gather(self, lines: Mapping[str, bytes], output_id: int = 1, peer: int = 0) -> None:
        """Gather lines by the name of their service."""
        for name, data in lines.items():
            self.outputs.add_lines(output_id, f"{name}.jsonl", data.count(b"\n"), memoryview(data), peer)

    def commit(self, *, sync: bool = True) -> bool:
        """Take the steps of a commit."""
        steps = CommitSteps(self.outputs, self.start.record_log, self.start.recovery, self.free_space)
        return steps.write({}, nbytes=1, must_sync=sync, is_synced=True)

    def turn(self, lines: Mapping[str, bytes], *, sync: bool = True) -> bool:
        """Gather lines and commit them."""
        self.gather(lines)
        return self.commit(sync=sync)

    def die_after_append(self, lines: Mapping[str, bytes]) -> None:
        """Append lines, and die before the journal has the commit."""
        journal = self.start.recovery.journal

        def die(*_: object, **__: object) -> None:
            raise KilledError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal, "commit", die)
            with pytest.raises(KilledError):
                self.turn(lines)
        self.start.close()

    def found(self) -> dict[str, bytes]:
        """Return what is in the files."""
        return {path.name.removesuffix(".jsonl"): path.read_bytes() for path in sorted(self.logs.glob("*.jsonl"))}

    def counted(self, field: OutputField) -> int:
        return int(BOARD.output(1)[field])


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Place]:
    """Return a function that makes the one place of a test; nothing waits for a disk."""
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, lambda fd: None)
    return lambda *arguments: Place(tmp_path, *arguments)


def test_each_file_gets_its_lines(make: Callable[..., Place]) -> None:
    """In order, over many turns; and a name that does not fit the pattern is refused."""
    place = make()
    for number in range(3):
        assert place.turn({"a": b"a%d\n" % number, "b": b"b%d\nB\n" % number})
    assert place.found() == {"a": b"a0\na1\na2\n", "b": b"b0\nB\nb1\nB\nb2\nB\n"}
    assert place.counted(OutputField.RECORDS) == 9
    assert place.counted(OutputField.OPEN_FILES) == 2
    for name in ("../x.jsonl", "a/b.jsonl", "a.log", "", ".jsonl"):
        with pytest.raises(KeyError):
            place.outputs.add_lines(1, name, 1, memoryview(b"x\n"))
    place.start.close()
    assert place.counted(OutputField.OPEN_FILES) == 0


def test_open_files_are_bounded(make: Callable[..., Place]) -> None:
    """The one written longest ago is closed; a turn that might open too many is ended before."""
    place = make(f"{TOML}max_open_files = 8\n")
    before = procfs.descriptors(os.getpid())
    rng = random.Random(1)
    written: dict[str, bytes] = {}
    for number in range(300):
        while not place.outputs.is_full:
            for name in (f"s{rng.randrange(50)}" for _ in range(2)):
                line = b"%d %d\n" % (number, len(written.get(name, b"")))
                place.gather({name: line})
                written[name] = written.get(name, b"") + line
        assert place.commit(sync=number % 2 == 0)
        assert len(place.set.files) <= 8
        assert procfs.descriptors(os.getpid()) <= before + 8
        assert len(place.start.recovery.journal.committed.files) <= 10
    assert place.found() == written
    place.turn({"s1": b"x\n"})
    assert list(place.set.files)[-1] == f"{place.logs}/s1.jsonl"
    place.start.close()


def test_new_files_are_bounded(
    make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client can begin so many in a day; the rest is in one file, counted, and told once."""
    day = ["2026-11-28"]
    monkeypatch.setattr(output_set, "_today", lambda: day[0])
    place = make(f"{TOML}max_new_files = 3\n")
    place.logs.mkdir(exist_ok=True)
    (place.logs / "old.jsonl").touch()
    for number in range(10):
        place.turn({f"s{number}": b"%d\n" % number, "old": b"o\n"})
    assert place.found() == {
        "_other": b"3\n4\n5\n6\n7\n8\n9\n", "old": b"o\n" * 10, "s0": b"0\n", "s1": b"1\n", "s2": b"2\n",
    }  # fmt: skip
    assert place.counted(OutputField.OVERFLOWED) == 7
    assert caplog.text.count("began 3 files today, and max_new_files is 3, of which one client gets half") == 1
    # A file of today may be made again, after a rotation or a removal.
    (place.logs / "s1.jsonl").unlink()
    place.turn({"s1": b"again\n"})
    assert place.found()["s1"].endswith(b"again\n")
    day[0] = "2026-11-29"
    place.turn({"s7": b"new\n"})
    assert place.found()["s7"] == b"new\n"


def test_no_peer_begins_more_files_than_it_leaves(make: Callable[..., Place]) -> None:
    """So another one always gets some; lines of any peer go to a file that is there."""
    place = make(f"{TOML}max_new_files = 16\n")

    def begun(peer: int, count: int) -> int:
        """Let a peer have lines for files of its own, and return how many it gets."""
        for number in range(count):
            place.gather({f"peer{peer}-{number}": b"line\n"}, peer=peer)
            assert place.commit(sync=False)
        return sum(name.startswith(f"peer{peer}-") for name in place.found())

    assert [begun(peer, count) for peer, count in ((1, 3), (2, 20), (3, 20))] == [3, 7, 3]
    place.gather({"peer3-0": b"of another one\n"}, peer=2)
    assert place.commit(sync=False)
    assert place.found()["peer3-0"] == b"line\nof another one\n"
    assert [begun(peer, 20) for peer in (4, 5, 6)] == [2, 1, 0]
    place.start.close()


def test_files_of_an_unknown_peer_have_no_share(make: Callable[..., Place]) -> None:
    """As those of a stream that other collectors have filled."""
    place = make(f"{TOML}max_new_files = 5\n")
    for number in range(9):
        place.turn({f"s{number}": b"line\n"})
    assert place.found().keys() == {"_other", "s0", "s1", "s2", "s3", "s4"}
    place.start.close()


def test_the_lines_of_many_files_are_on_their_way_to_the_disk_before_the_first_sync(
    make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the disk writes them at once, and not one file after the other."""
    calls: list[str] = []

    def noting(what: str) -> Callable[[int], None]:
        """Return a call that notes the output file of its descriptor."""

        def note(fd: int) -> None:
            name = Path(f"/proc/self/fd/{fd}").readlink().name
            calls.extend([f"{what} {name}"] if name.endswith(".jsonl") else [])

        return note

    monkeypatch.setattr(libc, "start_writing", noting("start"))
    monkeypatch.setattr(os, "fdatasync", noting("sync"))
    place = make()
    for number in range(2):
        calls.clear()
        place.turn(dict.fromkeys(("a", "b", "c"), b"%d\n" % number))
    assert calls == [f"{what} {name}.jsonl" for what in ("start", "sync") for name in ("a", "b", "c")]
    calls.clear()
    place.turn({"a": b"2\n"})
    assert calls == ["sync a.jsonl"]
    place.start.close()


@pytest.mark.parametrize("when", range(5))
def test_a_writer_that_dies_doubles_nothing(make: Callable[..., Place], when: int) -> None:
    """In a turn with open, new, closed and reopened files: each is cut back to what is committed."""
    place = make(f"{TOML}max_open_files = 4\n")
    rng = random.Random(when)
    committed: dict[str, bytes] = {}
    for number in range(60):
        lines = {f"s{rng.randrange(9)}": b"%d\n" % number * rng.randrange(1, 4) for _ in range(3)}
        if rng.random() < 0.3:
            place.die_after_append(lines)
            place.restart()
            assert {name: data for name, data in place.found().items() if data} == committed
        assert place.turn(lines, sync=rng.random() < 0.5)
        committed = {name: committed.get(name, b"") + lines.get(name, b"") for name in {**committed, **lines}}
        committed = dict(sorted(committed.items()))
        assert place.found() == committed
    place.start.close()


def test_a_renamed_file_is_cut_too(make: Callable[..., Place]) -> None:
    """By whatever another program has called it in the meantime."""
    place = make()
    place.turn({"a": b"kept\n"})
    place.die_after_append({"a": b"not committed\n"})
    (place.logs / "a.jsonl").rename(place.logs / "a.jsonl.20261129T000000Z.000001")
    place.restart()
    assert (place.logs / "a.jsonl.20261129T000000Z.000001").read_bytes() == b"kept\n"
    place.start.close()


def test_a_file_that_is_truncated_meanwhile(make: Callable[..., Place]) -> None:
    """By copytruncate: what is appended later is whole, also over a death."""
    place = make()
    place.turn({"a": b"copied\n" * 5})
    os.truncate(place.logs / "a.jsonl", 0)
    place.turn({"a": b"after\n"})
    assert place.found() == {"a": b"after\n"}
    place.die_after_append({"a": b"lost\n" * 3})
    place.restart()
    assert place.found() == {"a": b"after\n"}
    place.start.close()


def test_files_are_moved_and_removed(make: Callable[..., Place]) -> None:
    """SIGHUP after a rename, a removed file, and a directory that is gone."""
    place = make('store = []\n[[output]]\npath = "logs/{service}.jsonl"\n')
    place.turn({"a": b"1\n", "b": b"1\n"})
    (place.logs / "a.jsonl").rename(place.logs / "a.old")
    assert place.outputs.reopen() == []
    place.turn({"a": b"2\n", "b": b"2\n"})
    assert (place.logs / "a.old").read_bytes() == b"1\n"
    assert place.found() == {"a": b"2\n", "b": b"1\n2\n"}
    place.logs.rename(place.state_dir / "gone")
    place.turn({"a": b"3\n"})
    assert place.found() == {"a": b"3\n"}
    place.start.close()


def test_a_full_disk_holds_all_lines(
    make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What could be written stays, and is not written again; one line tells of all files."""
    place = make()
    place.turn({"a": b"0\n", "b": b"0\n", "c": b"0\n"})
    full = {place.outputs.at(1).files[f"{place.logs}/{name}.jsonl"].file._fd for name in "bc"}  # type: ignore[union-attr]
    real = os.writev

    def writev(fd: int, buffers: list[memoryview]) -> int:
        if fd in full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", writev)
        assert not place.turn({"a": b"1\n", "b": b"1\n", "c": b"1\n"})
        assert not place.commit()
        assert place.counted(OutputField.FAILED)
    assert place.commit()
    assert place.found() == dict.fromkeys("abc", b"0\n1\n")
    assert not place.counted(OutputField.FAILED)
    assert caplog.text.count("No space left") == 1
    assert caplog.text.count("written again") == 1
    place.start.close()


def test_skipped_lines_are_counted(make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """With on_error = "skip" nobody waits."""
    place = make(f'{TOML}on_error = "skip"\n')
    place.turn({"a": b"0\n"})

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", refuse)
        assert place.turn({"a": b"1\n", "b": b"1\n2\n"})
    assert place.counted(OutputField.SKIPPED) == 3
    assert place.turn({"a": b"3\n"})
    assert place.found() == {"a": b"0\n3\n", "b": b""}
    place.start.close()


def test_a_bad_name_stops_nobody(make: Callable[..., Place], caplog: pytest.LogCaptureFixture) -> None:
    """A link that somebody has planted, a directory, or a name that the file system does not take."""
    place = make()
    place.logs.mkdir(exist_ok=True)
    (place.logs / "linked.jsonl").symlink_to("/etc/passwd")
    (place.logs / "directory.jsonl").mkdir()
    for _ in range(2):
        assert place.turn({"linked": b"1\n", "directory": b"2\n", "fine": b"3\n"})
    found = {path.name: path.read_bytes() for path in place.logs.iterdir() if path.is_file() and not path.is_symlink()}
    assert found == {"_other.jsonl": b"1\n2\n" * 2, "fine.jsonl": b"3\n" * 2}
    assert place.counted(OutputField.OVERFLOWED) == 4
    assert len([record for record in caplog.records if "go to" in record.getMessage()]) == 1
    place.start.close()


def configure(place: Place, toml: str, output_ids: tuple[int, ...]) -> list[str]:
    """Reload."""
    place.generation += 1
    settings = loads(toml, overrides={"state_dir": str(place.state_dir)})
    return place.outputs.configure(Configuration(place.generation, settings, output_ids))


def test_a_reload_to_paths_that_lead_to_the_same_files(make: Callable[..., Place]) -> None:
    """Workers may have lines for the old and the new output; each file is opened once."""
    place = make()
    place.turn({"a": b"1\n"})
    assert configure(place, TOML.replace("{service}", "{logger}"), (2,)) == []
    place.gather({"a": b"new\n"}, 2)
    place.gather({"a": b"old\n", "b": b"old\n"})
    place.gather({"b": b"new\n"}, 2)
    assert place.commit()
    assert place.found() == {"a": b"1\nnew\nold\n", "b": b"old\nnew\n"}
    place.outputs.forget(2)
    assert not place.outputs.has(1)
    place.gather({"a": b"2\n", "b": b"2\n"}, 2)
    assert place.commit()
    assert place.found() == {"a": b"1\nnew\nold\n2\n", "b": b"old\nnew\n2\n"}
    place.start.close()


def test_a_reload_between_one_file_and_many(make: Callable[..., Place]) -> None:
    """In both directions, while lines for the old output still come."""
    plain = 'store = []\n[[output]]\npath = "logs/a.jsonl"\n'
    place = make()
    place.turn({"a": b"1\n", "b": b"1\n"})
    assert configure(place, plain, (2,)) == []
    place.gather({"a": b"old\n"})
    place.outputs.add_lines(2, "", 1, memoryview(b"new\n"))
    assert place.commit()
    assert place.found() == {"a": b"1\nold\nnew\n", "b": b"1\n"}
    place.outputs.forget(2)
    assert configure(place, TOML, (3,)) == []
    place.gather({"a": b"many\n"}, 3)
    place.outputs.add_lines(2, "", 1, memoryview(b"late\n"))
    assert place.commit()
    assert place.found()["a"] == b"1\nold\nnew\nmany\nlate\n"
    place.outputs.forget(3)
    place.gather({"a": b"last\n"}, 3)
    assert place.commit()
    assert place.found()["a"] == b"1\nold\nnew\nmany\nlate\nlast\n"
    place.start.close()


def test_other_settings_for_the_same_path(make: Callable[..., Place]) -> None:
    """Open files take them, too."""
    place = make()
    place.turn({"a": b"1\n"})
    assert configure(place, f'{TOML}on_error = "skip"\nrotate_bytes = 4\nmax_open_files = 1\n', (1,)) == []
    place.turn({"a": b"2\n"})
    assert place.outputs.rotate() > 0
    place.turn({"b": b"3\n"})
    assert place.found() == {"a": b"", "b": b"3\n"}
    assert len(place.set.files) == 1
    (rotated,) = place.logs.glob("a.jsonl.*")
    assert rotated.read_bytes() == b"1\n2\n"
    place.start.close()


def test_a_quiet_file_is_closed(make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be compressed or removed; it is opened again for the next line."""
    place = make()
    place.turn({"a": b"1\n"})
    place.outputs.rotate()
    assert len(place.set.files) == 1
    monkeypatch.setattr(output_set, "IDLE_S", 0.0)
    place.set._idle_check_s = 0.0
    place.outputs.rotate()
    assert len(place.set.files) == 0
    place.turn({"a": b"2\n"})
    assert place.found() == {"a": b"1\n2\n"}
    place.start.close()


def test_names_are_synced_before_a_file_is_closed(make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """A later line may be acknowledged in a turn that has no reason to sync the directory."""
    place = make(f"{TOML}max_open_files = 1\n")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    place.turn({"a": b"1\n"}, sync=False)
    assert "logs" not in synced
    place.turn({"b": b"1\n"}, sync=False)
    assert synced.count("logs") == 1
    place.start.close()


def test_a_directory_that_cannot_be_made_is_told_at_the_start(tmp_path: Path) -> None:
    """As an output that cannot be opened is."""
    (tmp_path / "file").touch()
    settings = loads(TOML.replace("logs/", "file/logs/"), overrides={"state_dir": str(tmp_path)})
    for on_error, problems in (("block", 1), ("skip", 0)):
        start = Start(tmp_path, TOML.replace("logs/", "file/logs/") + f'on_error = "{on_error}"\n')
        assert start.advance() == ""
        assert len(start.recovery.problems) == problems
        start.close()
    assert settings.output[0].has_fields


def test_without_descriptors_idle_files_are_closed(make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the process may be lower than `max_open_files`; nobody waits for ever."""
    place = make()
    place.turn({f"s{number}": b"1\n" for number in range(20)})
    real = os.open

    def limited(path: str, *arguments: int, **more: int) -> int:
        if str(path).endswith(".jsonl") and len(place.set.files) > 10:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", limited)
        assert not place.turn({"new": b"1\n"})
        assert place.commit()
    assert place.found()["new"] == b"1\n"
    assert len(place.set.files) == 1
    place.start.close()
