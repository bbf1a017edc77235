"""A set of files is tidied as a whole: also those of past days, and of services that no longer send."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import time
from pathlib import Path

import pytest

from prefork_logd.config.output_paths import PathPattern
from prefork_logd.config.outputs import OutputSettings
from prefork_logd.errors import file_reason
from prefork_logd.files import compression, pattern_tidying
from prefork_logd.files.pattern_tidying import PatternTidying
from tests.support.harness import wait_for

NOW_S = time.mktime((2026, 11, 29, 12, 0, 0, 0, 0, 0))
DAY_S = 86_400


class Set:
    """A directory of files, and the one who tidies it."""

    def __init__(self, base: Path, path: str = "{service}-{date}.jsonl", **settings: object) -> None:
        self.base = base
        self.opened: set[str] = set()
        chosen = OutputSettings(path=f"{base}/{path}", **settings)  # type: ignore[arg-type]
        self.tidying = PatternTidying(
            chosen, str(base), PathPattern(chosen.path), lambda path: path in self.opened, lambda: NOW_S
        )
        self.now_s = 0.0
        self.levels: set[int] = set()

    def add(self, name: str, age_days: float = 0.0, nbytes: int = 5) -> Path:
        """Make a file that was written so long ago."""
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (nbytes - 1) + b"\n")
        os.utime(path, (NOW_S - age_days * DAY_S,) * 2)
        return path

    def run(self) -> list[str]:
        """Do all that is to do; return what was said."""
        self.now_s += 2 * pattern_tidying.ROUND_S
        events = [*self.tidying.advance(self.now_s)]

        def rest() -> bool:
            self.now_s = max(self.now_s, self.tidying.next_deadline_s)
            events.extend(self.tidying.advance(self.now_s))
            tidying = self.tidying
            return tidying._round is None and tidying.compressor_pid is None and not tidying._waiting

        wait_for(rest, "the end of the round")
        self.levels = {event.level for event in events}
        return [event.text for event in events]

    def names(self) -> list[str]:
        """Return what is there."""
        return sorted(str(path.relative_to(self.base)) for path in self.base.rglob("*") if path.is_file())


@pytest.mark.slow
def test_files_of_past_days_are_compressed(tmp_path: Path) -> None:
    """Not that of today, and not one that is open; their lines stay what they are."""
    made = Set(tmp_path, compress="gzip")
    for name in ("a-2026-11-27.jsonl", "b-2026-11-28.jsonl", "a-2026-11-29.jsonl"):
        made.add(name)
    made.opened.add(str(tmp_path / "b-2026-11-28.jsonl"))
    made.add("a-2026-11-26.jsonl.20261127T000000Z.000004")
    made.add("a-2026-11-26.jsonl.20261127T000000Z.000005.gz.tmp")
    made.add("a-2026-11-26.jsonl.20261127T000000Z.000006", nbytes=1).write_bytes(b"")
    made.run()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW_S))
    assert made.names() == [
        "a-2026-11-26.jsonl.20261127T000000Z.000004.gz",
        f"a-2026-11-27.jsonl.{stamp}.000001.gz",
        "a-2026-11-29.jsonl",
        "b-2026-11-28.jsonl",
    ]
    assert gzip.decompress((tmp_path / made.names()[1]).read_bytes()) == b"xxxx\n"
    # Records that come late make a new file, which gets the next number.
    made.add("a-2026-11-27.jsonl")
    made.run()
    assert f"a-2026-11-27.jsonl.{stamp}.000002.gz" in made.names()


def test_without_compression_files_of_past_days_keep_their_names(tmp_path: Path) -> None:
    """They are removed by their age, with the directories that become empty."""
    made = Set(tmp_path, "{date}/{service}/all.jsonl", keep_for="7d")
    for day, age in (("2026-11-28", 1), ("2026-11-20", 9), ("2026-11-21", 8)):
        made.add(f"{day}/shop/all.jsonl", age)
    made.add("2026-11-20/notes.txt", 20)
    assert len(made.run()) == 2
    assert made.names() == ["2026-11-20/notes.txt", "2026-11-28/shop/all.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-11-20", "2026-11-28"]


def test_services_that_no_longer_send_are_bounded_too(tmp_path: Path) -> None:
    """By the size of the whole set, the oldest first; open files only count."""
    made = Set(tmp_path, "{service}.jsonl", keep_bytes=250)
    for index in range(5):
        made.add(f"s{index}.jsonl", index, 100)
    made.opened.add(str(tmp_path / "s4.jsonl"))
    made.run()
    assert made.names() == ["s0.jsonl", "s1.jsonl", "s4.jsonl"]


@pytest.mark.slow
def test_closed_files_are_rotated(tmp_path: Path) -> None:
    """By size and by age; of each path the newest rotated files are kept."""
    made = Set(tmp_path, "{service}.jsonl", rotate_bytes=100, keep=2)
    made.add("big.jsonl", nbytes=100)
    made.add("small.jsonl", nbytes=99)
    for number in (1, 2, 3):
        made.add(f"small.jsonl.20261127T000000Z.00000{number}", 3 - number)
    made.run()
    names = made.names()
    assert names[0].startswith("big.jsonl.2026")
    assert names[1:] == [
        "small.jsonl",
        "small.jsonl.20261127T000000Z.000002",
        "small.jsonl.20261127T000000Z.000003",
    ]


def test_a_file_that_was_written_since_it_was_listed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service may come back in the middle of a round."""
    monkeypatch.setattr(pattern_tidying, "LONGEST_PIECE_S", 0.0)
    made = Set(tmp_path, "{service}.jsonl", keep_for="1d")
    paths = [made.add(f"s{index}.jsonl", 5) for index in range(3)]
    made.tidying.advance(1.0)
    while made.tidying._round is not None and not any(not path.exists() for path in paths):
        for path in paths:
            os.utime(path, (NOW_S, NOW_S)) if path.name == "s2.jsonl" else None
        made.tidying.advance(made.tidying.next_deadline_s)
    made.run()
    assert made.names() == ["s2.jsonl"]


@pytest.mark.slow
def test_a_compressor_that_fails_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next round tries again."""
    made = Set(tmp_path, compress="gzip")
    path = made.add("a-2026-11-26.jsonl.20261127T000000Z.000004")
    path.with_name(f"{path.name}.gz").write_bytes(b"something else")
    events = made.run()
    assert made.levels == {logging.WARNING}
    events += made.run()
    assert [event for event in events if "cannot compress it" in event] == [
        f"{path}: cannot compress it: {compression.explain(errno.EEXIST << 8)}; it stays as it is, and is tried again"
    ]
    path.with_name(f"{path.name}.gz").unlink()

    def refuse(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(compression, "start", refuse)
        made.now_s += pattern_tidying.RETRY_S
        assert any(file_reason(errno.EAGAIN) in event for event in made.run())
    made.now_s += pattern_tidying.RETRY_S
    made.run()
    assert made.names() == ["a-2026-11-26.jsonl.20261127T000000Z.000004.gz"]


def test_a_directory_that_cannot_be_read_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed on the ground of half a list."""
    made = Set(tmp_path, "{service}.jsonl", keep_for="1d")
    made.add("a.jsonl", 5)
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, os.strerror(13), str(path)))
        )
        why = file_reason(errno.EACCES)
        assert made.run() == [f"{tmp_path}: cannot rotate or remove files: {why}; tried again each minute"]
        assert made.levels == {logging.WARNING}
        assert made.run() == []
    assert made.names() == ["a.jsonl"]
    made.run()
    assert made.names() == []


def test_a_file_that_could_not_be_synced_counts_with_the_others(tmp_path: Path) -> None:
    """By its age; it is neither rotated nor compressed, since its disk failed."""
    made = Set(tmp_path, keep_for="3d", compress="gzip", rotate_bytes=1)
    made.add("a-2026-11-01.jsonl.failed-1", 5)
    made.add("a-2026-11-28.jsonl.failed-2", 1)
    made.run()
    assert made.names() == ["a-2026-11-28.jsonl.failed-2"]


@pytest.mark.slow
def test_nothing_is_done_unasked(tmp_path: Path) -> None:
    """Without rotation, compression and limits a set is never listed, and a closed one has no child."""
    made = Set(tmp_path)
    assert made.tidying.next_deadline_s == float("inf")
    busy = Set(tmp_path, compress="gzip")
    busy.add("a-2026-11-26.jsonl.20261127T000000Z.000004", nbytes=30_000_000)
    while busy.tidying.compressor_pid is None:
        busy.tidying.advance(max(0.0, busy.tidying.next_deadline_s))
    pid = busy.tidying.compressor_pid
    busy.tidying.close()
    assert not Path(f"/proc/{pid}").exists()
