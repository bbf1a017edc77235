"""Reads the files of one output while services log, and checks that each record is stored once.

Owns the reading: each byte once, as far as it is certainly committed. The first letter of a service's name is its kind:
"s" and "f" are acknowledged, "p" uses the stdlib's protocol. Acknowledged records are committed, and so is everything
before them in the same file. Plain records after that may still be cut off and written again, so they are read again
the next time.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = re.compile(rb'"message":"([a-z0-9]+)-(\d{7})"')
_ON_CONNECTION = re.compile(rb'"name":"connection-(\d+)"[^\n]*?"message":"([a-z0-9]+)-(\d{7})"')
_ACKNOWLEDGED = re.compile(rb'"message":"[sf][a-z0-9]*-\d{7}"')
PLAIN = "p"
TRIES, PAUSE_S = 500, 0.01

_Runs = dict[str, list[list[int]]]


class Stored:
    """The records in the files of one output."""

    def __init__(self, directory: Path, name: str, others: bytes = b"\0") -> None:
        """`others`: lines with these bytes are of nobody here, and are left out."""
        self._directory = directory
        self.name = name
        self._others = others
        self._read: dict[int, int] = {}
        """Inode to the number of bytes read."""
        self.numbers: dict[str, list[int]] = collections.defaultdict(list)
        """Numbers of acknowledged services."""
        self.connections: dict[str, dict[int, int]] = collections.defaultdict(dict)
        """Number to connection, of fenced services."""
        self._plain: _Runs = collections.defaultdict(list)
        self._tail: _Runs = {}
        """Plain records that may not be committed yet."""

    def read_on(self, *, at_rest: bool = False) -> None:
        """Read the lines added since; the earlier ones must still be there. `at_rest`: no process writes any more."""
        problem = ""
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                files = self._files()
                problem = self._read_added(files, at_rest=at_rest)
                if not problem:
                    return
            # An output that could not rotate a moment ago does so now, or plain records are being written.
            time.sleep(PAUSE_S)
        raise AssertionError(f"{self.name}: {problem or 'its files do not come to rest'}")

    def _files(self) -> dict[int, Path]:
        return {path.stat().st_ino: path for path in self._directory.glob(f"{self.name}*")}

    def _read_added(self, files: dict[int, Path], *, at_rest: bool) -> str:
        """Read the added lines; return the reason if that is not possible now."""
        read: dict[int, int] = {}
        added: list[bytes] = []
        tails: list[bytes] = []
        for inode, path in files.items():
            before = self._read.get(inode, 0)
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != inode:
                    raise FileNotFoundError(path)
                size = status.st_size
                assert size >= before, f"{path.name}: cut to {size}, but {before} were committed"
                file.seek(before)
                data = file.read(size - before)
            if data and not data.endswith(b"\n"):
                return f"{path.name} ends in a torn line"
            certain = len(data) if at_rest else _end_of_acknowledged(data)
            read[inode] = before + certain
            added.append(data[:certain])
            tails.append(data[certain:])
        if self._files() != files:
            return "its files do not come to rest"
        self._read |= read
        runs: _Runs = collections.defaultdict(list)
        for data in added:
            self._gather(data, runs)
            for connection, name, number in _ON_CONNECTION.findall(data):
                self.connections[name.decode()][int(number)] = int(connection)
        for name, found in runs.items():
            if name.startswith(PLAIN):
                self._plain[name] += found
            else:
                # Files in the order of their first records: their names have no order.
                self.numbers[name] += [number for run in sorted(found) for number in run]
        self._tail = collections.defaultdict(list)
        for data in tails:
            self._gather(data, self._tail)
        return ""

    def _gather(self, data: bytes, runs: _Runs) -> None:
        if self._others in data:
            data = b"".join(line for line in data.splitlines(keepends=True) if self._others not in line)
        found: dict[str, list[int]] = collections.defaultdict(list)
        for name, number in MESSAGE.findall(data):
            found[name.decode()].append(int(number))
        assert data.count(b"\n") == sum(map(len, found.values())), f"{self.name} has lines that are not records"
        for name, numbers in found.items():
            runs[name].append(numbers)

    def plain(self, name: str) -> list[int]:
        """Return the numbers of a plain service in the order in which they are stored."""
        runs = self._plain.get(name, []) + self._tail.get(name, [])
        return [number for run in sorted(runs) for number in run]

    def check(self, name: str, count: int, *, at_least: bool = False) -> int:
        """Check that a service's records 0 to count - 1 are stored, once and in order; return their number."""
        numbers = self.numbers[name]
        if numbers != list(range(count)) and not (
            at_least and len(numbers) >= count and numbers == list(range(len(numbers)))
        ):
            raise AssertionError(f"{self.name}: {_difference(name, numbers, count)}")
        return len(numbers)

    def check_plain(self, name: str, count: int, *, lossy: bool) -> None:
        """Check that no record of a plain service is stored twice, and that all are stored in order unless `lossy`.

        A service whose connection was cut goes on with another one. Its last records of the cut connection may be read
        later, by a worker that was stopped or busy, so only the order of each connection is certain.
        """
        numbers = self.plain(name)
        is_sound = len(set(numbers)) == len(numbers)
        is_sound = is_sound and (lossy or all(one < next_one for one, next_one in itertools.pairwise(numbers)))
        if not is_sound or (numbers and max(numbers) >= count) or (len(numbers) < count and not lossy):
            raise AssertionError(f"{self.name}: {_difference(name, numbers, count)}")


def _end_of_acknowledged(data: bytes) -> int:
    """Return the end of the last acknowledged record's line."""
    last = None
    for last in _ACKNOWLEDGED.finditer(data):  # noqa: B007 - only the last one is wanted
        pass
    return data.index(b"\n", last.end()) + 1 if last is not None else 0


def _difference(name: str, numbers: list[int], count: int) -> str:
    seen = set(numbers)
    missing = sorted(set(range(count)) - seen)
    what = f"{len(missing)} of {count} missing {missing[:3]}..., {len(numbers) - len(seen)} twice"
    order = "in order" if numbers == sorted(numbers) else "out of order"
    return f"{name}: {what}, {order}"
