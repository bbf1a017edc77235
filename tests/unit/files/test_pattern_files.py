"""The files of a pattern are found by their names alone, and those to remove by their age, number and size."""

from __future__ import annotations

import os
from pathlib import Path

from prefork_logd.config.output_paths import PathPattern
from prefork_logd.files import pattern_files
from prefork_logd.files.pattern_files import PatternFile


def made(base: Path, *names: str) -> None:
    """Make files with one line."""
    for name in names:
        (base / name).parent.mkdir(exist_ok=True, parents=True)
        (base / name).write_bytes(b"line\n")


def test_names_of_the_set(tmp_path: Path) -> None:
    """Current, rotated and compressed files; nothing else is read or followed."""
    base = tmp_path / "logs"
    made(
        base,
        "shop/a-2026-11-29.jsonl",
        "shop/a-2026-11-28.jsonl.20261129T000000Z.000001",
        "shop/a-2026-11-28.jsonl.20261129T000000Z.000002.gz",
        "shop/a-2026-11-28.jsonl.20261129T000000Z.000003.gz.tmp",
        "shop/a-2026-11-28.jsonl.20261129T000000Z.000003.tmp",
        "shop/a-2026-11-28.jsonl.bak",
        "shop/notes.txt",
        "shop/a.jsonl",
        "sh op/a-2026-11-29.jsonl",
        "shop/deep/a-2026-11-29.jsonl",
        "a-2026-11-29.jsonl",
    )
    made(tmp_path, "elsewhere/a-2026-11-29.jsonl", "target-2026-11-29.jsonl")
    (base / "linked").symlink_to("../elsewhere")
    (base / "shop" / "b-2026-11-29.jsonl").symlink_to("../../target-2026-11-29.jsonl")
    os.mkfifo(base / "shop" / "c-2026-11-29.jsonl")
    pattern = PathPattern(f"{base}/{{service}}/{{logger}}-{{date}}.jsonl")
    found = [one for one in pattern_files.read(str(base), pattern) if isinstance(one, PatternFile)]
    unfinished = [one for one in pattern_files.read(str(base), pattern) if isinstance(one, str)]
    assert sorted((Path(one.path).name, one.sequence, one.suffix, one.date) for one in found) == [
        ("a-2026-11-28.jsonl.20261129T000000Z.000001", 1, "", "2026-11-28"),
        ("a-2026-11-28.jsonl.20261129T000000Z.000002.gz", 2, ".gz", "2026-11-28"),
        ("a-2026-11-29.jsonl", 0, "", "2026-11-29"),
    ]
    assert {one.current for one in found} == {f"{base}/shop/a-2026-11-28.jsonl", f"{base}/shop/a-2026-11-29.jsonl"}
    (path,) = unfinished
    assert pattern_files.temporary_source(path) == f"{base}/shop/a-2026-11-28.jsonl.20261129T000000Z.000003"
    assert [pattern_files.is_finished(one, "2026-11-29") for one in found if not one.sequence] == [False]
    assert [pattern_files.is_finished(one, "2026-11-30") for one in found if not one.sequence] == [True]
    # Recovery finds more: files that another program has renamed.
    names = {entry.name for entry in pattern_files.entries(str(base), pattern)}
    assert "a-2026-11-28.jsonl.bak" in names
    assert "notes.txt" not in names


def test_a_missing_directory_is_empty(tmp_path: Path) -> None:
    """As before the first record."""
    assert list(pattern_files.entries(str(tmp_path / "logs"), PathPattern("/l/{service}.jsonl"))) == []


def _file(name: str, sequence: int = 0, nbytes: int = 10, written_s: float = 0.0) -> PatternFile:
    return PatternFile(f"{name}.{sequence}", name, sequence, "", "", nbytes, written_s)


def test_the_oldest_go_first() -> None:
    """By age, by the size of the whole set, and by the number of rotations of each path."""
    files = [
        *(_file("a", number, written_s=number) for number in (1, 2, 3)),
        *(_file("b", number, written_s=10 + number) for number in (1, 2)),
        _file("c", written_s=5.0),
    ]

    def names(**limits: float) -> list[str]:
        given = {"keep": 0, "keep_bytes": 0, "oldest_s": float("-inf"), **limits}
        spared = _file("a", 2, written_s=2)
        return [one.path for one in pattern_files.surplus(files, lambda one: one == spared, **given)]  # type: ignore[arg-type]

    assert names() == []
    assert names(keep=1) == ["a.1", "b.1"]
    assert names(oldest_s=3.5) == ["a.1", "a.3"]
    assert names(keep_bytes=30) == ["a.1", "a.3"]
    assert names(keep_bytes=5) == ["a.1", "a.3", "c.0", "b.1", "b.2"]
