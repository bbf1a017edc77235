"""Announcements, and the verdict on bytes beyond a file's committed length."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import OutputError
from prefork_logd.journal import intent
from prefork_logd.journal.intent import LONGEST_ASIDE, PENDING, Announced, Evidence, Fate, Intent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE, OTHER = (1, 2), (1, 3)
FILES = {FILE: (10, 30), (7, 1 << 63): (0, 0)}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Intent]:
    """Return an intent in a new file."""
    path = tmp_path / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    yield Intent(path, fd)
    os.close(fd)


def test_what_is_written_is_read(opened: Intent) -> None:
    """The last announcement and the last copy, whatever was longer before them."""
    assert opened.read() == (None, 0, b"")
    opened.announce(8, FILES | {(2, number): (1, 1) for number in range(100)})
    opened.copy(7, b"a longer body")
    opened.announce(9, FILES)
    opened.copy(8, b"body")
    assert opened.read() == (Announced(9, FILES), 8, b"body")


def test_another_boot_believes_nothing(opened: Intent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power loss any part of it may be there."""
    opened.announce(9, FILES)
    opened.copy(8, b"body")
    boot = tmp_path / "boot"
    boot.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(intent, "BOOT_ID", boot)
    assert Intent(tmp_path / "lock", opened._fd).read() == (None, 0, b"")


def test_altered_bytes_are_not_believed(opened: Intent) -> None:
    """A bit anywhere, or an end that is missing."""
    opened.announce(9, FILES)
    opened.copy(8, b"body")
    for at, size in ((0, 40 + 2 * 32), (intent.COPY_AT, 44)):
        genuine = os.pread(opened._fd, size, at)
        for place in range(size):
            os.pwrite(opened._fd, bytes((genuine[place] ^ 4,)), at + place)
            assert opened.read() != (Announced(9, FILES), 8, b"body"), f"byte {at + place}"
            os.pwrite(opened._fd, genuine[place : place + 1], at + place)
    os.ftruncate(opened._fd, intent.COPY_AT + 10)
    assert opened.read() == (Announced(9, FILES), 0, b"")
    os.ftruncate(opened._fd, 50)
    assert opened.read() == (None, 0, b"")


def test_what_has_no_room_proves_nothing(opened: Intent) -> None:
    """A table or a body that is too large is left out, and is not taken for an empty one of a file."""
    opened.announce(9, {(1, number): (1, 1) for number in range(intent._MOST_FILES + 1)})
    opened.copy(8, bytes(intent.LONGEST_COPY + 1))
    assert opened.read() == (Announced(9, {}), 8, b"")


def test_a_full_disk_announces_nothing(opened: Intent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be appended then; the copy is worth nothing of the kind."""
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: 10)
    with pytest.raises(OutputError, match="No space left"):
        opened.announce(9, FILES)
    opened.copy(9, b"body")


TURN = Announced(9, FILES)


@pytest.mark.parametrize(
    ("evidence", "size", "fate"),
    [
        (Evidence(8, TURN, 8), 30, Fate.CUT),  # the last turn, not committed
        (Evidence(8, TURN, 8), 11, Fate.CUT),
        (Evidence(8, TURN, 8), 31, Fate.KEEP),  # more than was announced
        (Evidence(9, TURN, 9), 30, Fate.KEEP),  # committed, and then somebody else wrote
        (Evidence(7, TURN, 8), 30, Fate.KEEP),  # the journal is an older copy
        (Evidence(8, TURN, 9), 30, Fate.SET_ASIDE),  # the journal has lost this very commit
        (Evidence(8), 30, Fate.SET_ASIDE),  # another boot
        (Evidence(8), 11 + LONGEST_ASIDE, Fate.KEEP),
        (Evidence(8, Announced(9, {OTHER: (0, 99)}), 8), 30, Fate.SET_ASIDE),
        (Evidence(20, Announced(20, {FILE: (10, 30 | PENDING)}), 20), 30, Fate.CUT),  # could not be cut until now
        (Evidence(20, Announced(20, {FILE: (10, 30 | PENDING)}), 20), 31, Fate.KEEP),
    ],
)
def test_the_verdict(evidence: Evidence, size: int, fate: Fate) -> None:
    """Cut is only what two sources prove to be the last turn."""
    assert evidence.fate(FILE, 10, size) is fate


def test_a_file_that_is_not_cut_yet_keeps_its_verdict() -> None:
    """The next writer, after other turns, comes to the same one."""
    for evidence in (
        Evidence(8, TURN, 8),
        Evidence(9, TURN, 9),
        Evidence(7, TURN, 8),
        Evidence(8, TURN, 9),
        Evidence(),
    ):
        announced = evidence.pending(FILE, evidence.length(FILE, 10))
        later = Evidence(50, Announced(50, {FILE: announced} if announced else {OTHER: (0, 0)}), 50)
        for size in (30, 31):
            before, after = evidence.fate(FILE, 10, size), later.fate(FILE, 10, size)
            assert after is before or (before, after) == (Fate.KEEP, Fate.SET_ASIDE), (evidence, size)


def test_a_file_that_is_not_cut_yet_keeps_its_committed_length() -> None:
    """What the announced turn has brought is committed: a base before it would have that moved aside."""
    assert Evidence(9, TURN, 9).pending(FILE, 1000) == (1000, 0)


def test_a_file_that_its_owner_has_truncated_is_as_long_as_announced() -> None:
    """The commit before it has the old length."""
    assert Evidence(8, TURN, 8).length(FILE, 1000) == 10
    assert Evidence(9, TURN, 9).length(FILE, 1000) == 1000
    assert Evidence(8, TURN, 8).length(OTHER, 1000) == 1000
    assert Evidence().length(FILE, 1000) == 1000


def test_a_boot_without_a_name_believes_nothing(
    opened: Intent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no /proc a start goes on all the same."""
    opened.announce(9, FILES)
    monkeypatch.setattr(intent, "BOOT_ID", tmp_path / "none")
    assert Intent(tmp_path / "lock", opened._fd).read() == (None, 0, b"")
