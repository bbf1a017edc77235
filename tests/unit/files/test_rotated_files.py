"""Rotated names are never used twice, and nothing that is not ours is ever touched."""

import fcntl
import logging
import os
from pathlib import Path

import pytest

from prefork_logd.files import rotated_files
from prefork_logd.files.opening import Identity
from prefork_logd.files.rotated_files import Sibling, clean_up, find, reserve, surplus

FOREIGN = [
    "all.jsonl.1",
    "all.jsonl.20261123T080000Z.1",
    "all.jsonl.20261123T080000Z.000001.bz2",
    "all.jsonl.20261123T080000Z.000001.gz.bak",
    "all.jsonl.20261123T080000Z.000001.tmp",
    "all.jsonl.20261123T080000Z.000001\n",
    "all.jsonl.20261123T080000.000001",
    "all.jsonl.20261123T080000Z.00000\N{ARABIC-INDIC DIGIT ONE}",
    "all_jsonl.20261123T080000Z.000001",
    "xall.jsonl.20261123T080000Z.000001",
    "all.jsonl.20261123T080000Z.000001.gz.gz",
]


@pytest.fixture
def path(tmp_path):
    """Return the path of a current file, beside files of others."""
    for name in FOREIGN:
        (tmp_path / name).write_text("theirs, torn")
    (tmp_path / "all.jsonl.20261123T080000Z.000007").mkdir()
    (tmp_path / "all.jsonl.20261123T080000Z.000008").symlink_to("all.jsonl.1")
    return str(tmp_path / "all.jsonl")


def rotated(sequence, nbytes=10, suffix=""):
    return Sibling(sequence, f"{sequence:06d}{suffix}", suffix, nbytes, Identity(1, sequence))


def test_only_our_own_names_are_found_in_the_order_of_their_numbers(path, tmp_path):
    ours = [
        "all.jsonl.20991231T235959Z.000002.gz",
        "all.jsonl.20261123T080000Z.000010",
        "all.jsonl.19700101T000000Z.1000000.zst",
    ]
    for name in ours:
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "all.jsonl.20261123T080000Z.000011.gz.tmp").touch()
    found, unfinished = find(path)
    assert [Path(sibling.path).name for sibling in found] == ours
    assert [(sibling.sequence, sibling.suffix, sibling.nbytes) for sibling in found] == [
        (2, ".gz", 5),
        (10, "", 5),
        (1_000_000, ".zst", 5),
    ]
    assert [Path(name).name for name in unfinished] == ["all.jsonl.20261123T080000Z.000011.gz.tmp"]


def test_a_directory_that_is_gone_holds_nothing(tmp_path):
    assert find(str(tmp_path / "gone" / "all.jsonl")) == ([], [])
    assert clean_up(str(tmp_path / "gone" / "all.jsonl"), None) == []


@pytest.mark.parametrize("wall_s", [0, -1e18, 1e18, 1_795_420_800])
def test_names_grow_whatever_the_clock_says(path, wall_s):
    """Also beside unfinished compressions, with the clock standing still or far off."""
    os.close(os.open(f"{path}.20991231T235959Z.000041.zst.tmp", os.O_CREAT))
    names = [reserve(path, wall_s) for _ in range(3)]
    assert [int(name.rpartition(".")[2]) for name in names] == [42, 43, 44]
    assert [sibling.path for sibling in find(path)[0]] == names


def test_a_name_taken_meanwhile_is_not_overwritten(path, monkeypatch):
    """Two that reserve at once: the later one fails rather than share."""
    monkeypatch.setattr(rotated_files, "find", lambda path: ([], []))
    reserve(path, 0)
    with pytest.raises(FileExistsError):
        reserve(path, 0)


@pytest.mark.parametrize(
    ("keep", "keep_bytes", "spared", "removed"),
    [
        (0, 0, [], []),
        (2, 0, [], [1, 2]),
        (9, 0, [], []),
        (0, 20, [], [1, 2]),
        (0, 19, [], [1, 2, 3]),
        (1, 30, [], [1, 2, 3]),
        (0, 1, [4], [1, 2, 3]),
        (1, 0, [2], [1, 3]),
    ],
)
def test_the_surplus_is_the_oldest(keep, keep_bytes, spared, removed):
    found = [rotated(number) for number in (1, 2, 3, 4)]
    assert [sibling.sequence for sibling in surplus(found, keep, keep_bytes, spared)] == removed


def test_a_file_and_its_compressed_form_count_once():
    found = [rotated(1), rotated(2), rotated(2, 3, ".gz"), rotated(3)]
    assert [sibling.sequence for sibling in surplus(found, 2, 0, ())] == [1]
    assert len(surplus(found, 1, 0, ())) == 3


def test_cleaning_up_after_a_crash(path, tmp_path):
    """Names reserved in vain and unfinished compressions go, torn lines are cut, everything else stays as it is."""
    stem = "all.jsonl.20261123T080000Z."
    before = {name: (tmp_path / name).read_bytes() for name in FOREIGN}
    (tmp_path / f"{stem}000020").write_bytes(b"whole\n")
    (tmp_path / f"{stem}000021").write_bytes(b"whole\ntorn")
    (tmp_path / f"{stem}000021.gz.tmp").write_bytes(b"half")
    (tmp_path / f"{stem}000022").touch()
    (tmp_path / f"{stem}000023.gz").touch()
    (tmp_path / f"{stem}000024").write_bytes(b"current\nbeing written")
    status = (tmp_path / f"{stem}000024").stat()
    events = clean_up(path, Identity(status.st_dev, status.st_ino))
    assert len(events) == 1
    assert "000021: cut off a torn line of 4 bytes" in events[0].text
    assert events[0].level == logging.WARNING
    assert {sibling.sequence: sibling.nbytes for sibling in find(path)[0]} == {20: 6, 21: 6, 23: 0, 24: 21}
    assert find(path)[1] == []
    assert {name: (tmp_path / name).read_bytes() for name in FOREIGN} == before


def test_a_compression_that_goes_on_is_let_be(path):
    source = f"{path}.20261123T080000Z.000020"
    for name, content in ((source, b"line\n"), (source + ".gz.tmp", b"half")):
        Path(name).write_bytes(content)
    with Path(source).open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        clean_up(path, None)
        assert find(path)[1] == [source + ".gz.tmp"]
    clean_up(path, None)
    assert find(path)[1] == []
