"""Replays power losses: computes possible contents of a disk from a trace of writes, syncs and renames.

Owns the reading of strace's log and the model of a disk. Synced data is kept. Of unsynced data the model keeps any
part: each sector of each write may be kept or lost, in any order; a length may be kept without its bytes (then they are
zeros); and of the changes to names since the last sync of their directory, any number of the first ones. Does not know
the collector, except that a message of 16 bytes to a TCP peer which begins like an ACK is one.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.journal import commit_entry as commits
from prefork_logd.journal import commit_segment as segments

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Mapping

SECTOR_BYTES = 512
TRACED = "openat,writev,write,pwrite64,fdatasync,fsync,rename,unlink,ftruncate,fallocate,read,readv"
OPTIONS = ("-yy", "-s", "10000000", "-e", f"trace={TRACED}", "-e", "signal=SIGSTOP")

_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(?:<(.*)>)?(?: .*)?", re.DOTALL)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"(\d+)<((?:->|[^<>])*)>")
_ACK = b"\xf7\x50\x83"
_HELLO = b"\xf7\x50\x01"


class Step(NamedTuple):
    """One event of the trace."""

    kind: str
    path: str = ""
    at: int = 0
    """Offset, length or number; -1: at the end."""
    data: bytes = b""
    """The written bytes, the new name, or the session."""


def read_trace(lines: Iterable[str], root: Path) -> Iterator[Step]:
    """Yield the events below `root`, and the acknowledgements, in order.

    A call that another process interrupted counts when it is done, but an acknowledgement when it is begun.
    """
    sessions: dict[str, bytes] = {}
    for call, arguments, result, opened in _calls(lines):
        match = _DESCRIPTOR.match(arguments)
        path = match[2].removesuffix(" (deleted)") if match else ""
        if path.startswith("TCP"):
            data = _texts(arguments)
            if call in {"read", "readv"} and data.startswith(_HELLO):
                sessions[path] = data[14:30]
            elif call == "write" and data.startswith(_ACK):
                # One write may have several: the last is the highest.
                yield Step("ack", path, int.from_bytes(data[-8:], "big"), sessions[path])
        elif result >= 0:
            yield from _file_steps(call, arguments, result, opened or path, str(root))


def _file_steps(call: str, arguments: str, result: int, path: str, root: str) -> Iterator[Step]:
    if call in ("rename", "unlink"):
        names = [ast.literal_eval(f'b"{text}"').decode() for text in _TEXT.findall(arguments)]
        if names[0].startswith(root):
            yield Step(call, names[0], data=names[-1].encode())
    elif not path.startswith(root):
        return
    elif call == "openat":
        if "O_EXCL" in arguments:
            yield Step("create", path)
    elif call in ("writev", "write"):
        yield Step("write", path, -1, _texts(arguments)[:result])
    elif call == "pwrite64":
        yield Step("write", path, int(arguments.rpartition(", ")[2]), _texts(arguments)[:result])
    elif call == "ftruncate":
        yield Step("cut", path, int(arguments.rpartition(", ")[2]))
    elif call == "fallocate":
        yield Step("allocate", path, int(arguments.rpartition(", ")[2]))
    elif call in ("fdatasync", "fsync"):
        yield Step("sync", path)


def _calls(lines: Iterable[str]) -> Iterator[tuple[str, str, int, str]]:
    """Yield name, arguments, result and the path of the descriptor returned."""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.strip().removesuffix(" <unfinished ...>").removesuffix("<unfinished ...>")
            if _ACK_TEXT in rest:
                yield "write", begun.pop(pid).partition("(")[2], 0, ""
            continue
        resumed = re.match(r" *<\.\.\. \w+ resumed>(.*)", rest, re.DOTALL)
        if resumed:
            if pid not in begun:
                continue
            line = f"{pid} {begun.pop(pid)}{resumed[1]}"  # noqa: PLW2901 - the whole of what came in two parts
        match = _CALL.fullmatch(line)
        if match and match[4] != "?":
            yield match[2], match[3], int(match[4]), match[5] or ""


_ACK_TEXT = r'"\367P\203'


def _texts(arguments: str) -> bytes:
    return b"".join(ast.literal_eval(f'b"{text}"') for text in _TEXT.findall(arguments))


class _File:
    def __init__(self, data: bytes = b"") -> None:
        self.durable = data
        self.now = bytearray(data)
        self.pending: list[tuple[str, int, bytes]] = []

    def apply(self, kind: str, at: int, data: bytes) -> None:
        at = len(self.now) if at < 0 else at
        _apply(self.now, kind, at, data)
        self.pending.append((kind, at, data))

    def sync(self) -> None:
        if self.pending:
            self.durable, self.pending = bytes(self.now), []

    def some(self, chance: random.Random) -> bytes:
        """Return possible data after a power loss."""
        if not self.pending:
            return self.durable
        data = bytearray(self.durable)
        share = chance.choice((0.0, 0.5, 0.9, 1.0))
        for kind, at, what in self.pending:
            if kind != "write":
                if chance.random() < share:
                    _apply(data, kind, at, what)
                continue
            start = 0
            while start < len(what):
                end = min(len(what), start + SECTOR_BYTES - (at + start) % SECTOR_BYTES)
                if chance.random() < share:
                    _apply(data, kind, at + start, what[start:end])
                start = end
        if len(data) < len(self.now) and chance.random() < 0.3:
            data += bytes(len(self.now) - len(data))
        return bytes(data)


def _apply(data: bytearray, kind: str, at: int, what: bytes) -> None:
    if kind == "cut":
        del data[at:]
    end = at + len(what)
    if len(data) < end or kind != "write":
        data += bytes(max(0, end - len(data)))
    if kind == "write":
        data[at:end] = what


class Cut(NamedTuple):
    """The files after a power loss, and the acknowledgements before it."""

    files: dict[str, bytes]
    origins: dict[str, int]
    """Name to the inode number the file had."""
    acknowledged: dict[bytes, int]


class Replay:
    """A disk, which events change step by step."""

    def __init__(self, root: Path) -> None:
        """Begin with the present files below `root`, all of them synced."""
        paths = [path for path in root.rglob("*") if path.is_file()]
        self._names = {str(path): _File(path.read_bytes()) for path in paths}
        self._inodes = {id(self._names[str(path)]): path.stat().st_ino for path in paths}
        self._durable_names = dict(self._names)
        self._pending_names: list[dict[str, _File]] = []
        """The names after each change since the last sync of their directory."""
        self._acknowledged: dict[bytes, int] = {}
        self._to_be_made: list[int] = []

    def foresee(self, steps: Iterable[Step]) -> None:
        """Read the inode numbers of the files created later; call this after the end of the trace."""
        names: dict[str, int] = {}
        made = 0
        for step in steps:
            if step.kind == "create":
                names[step.path] = made
                made += 1
            elif step.kind == "rename" and step.path in names:
                names[step.data.decode()] = names.pop(step.path)
            elif step.kind in ("rename", "unlink"):
                names.pop(step.path if step.kind == "unlink" else step.data.decode(), None)
        there = {number: Path(name).stat().st_ino for name, number in names.items() if Path(name).exists()}
        self._to_be_made = [there.get(number, (1 << 61) + number) for number in range(made)]

    def take(self, step: Step) -> None:
        """Apply one event."""
        if step.kind == "ack":
            self._acknowledged[step.data] = max(step.at, self._acknowledged.get(step.data, 0))
            return
        file = self._names.get(step.path)
        match step.kind:
            case "create":
                inode = self._to_be_made.pop(0)
                if file is None:
                    self._names[step.path] = made = _File()
                    self._inodes[id(made)] = inode
                    self._names_changed()
            case "rename" if file is not None:
                del self._names[step.path]
                self._names[step.data.decode()] = file
                self._names_changed()
            case "unlink" if file is not None:
                del self._names[step.path]
                self._names_changed()
            case "sync" if file is not None:
                file.sync()
            case "sync":
                # Every file here is in one of two directories, and the model has one row of changes for both.
                self._durable_names, self._pending_names = dict(self._names), []
            case "write" | "cut" | "allocate" if file is not None:
                file.apply(step.kind, step.at, step.data)

    def _names_changed(self) -> None:
        self._pending_names.append(dict(self._names))

    def cut(self, chance: random.Random | None) -> Cut:
        """Cut the power; with `chance` a part of the unsynced data is kept, without it none."""
        names = self._durable_names
        if chance is not None:
            names = chance.choice([names, *self._pending_names])
        files = {name: file.durable if chance is None else file.some(chance) for name, file in names.items()}
        origins = {name: self._inodes[id(file)] for name, file in names.items()}
        return Cut(files, origins, dict(self._acknowledged))


def put(cut: Cut, root: Path, to: Path) -> None:
    """Create the files of a cut below `to`; only the inode numbers in the journal are corrected."""
    inodes: dict[int, int] = {}
    for name, data in sorted(cut.files.items(), key=lambda item: item[0].endswith(".journal")):
        path = to / Path(name).relative_to(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        inodes[cut.origins[name]] = path.stat().st_ino
        if name.endswith(".journal"):
            # Most of it is zeros that nothing was written to yet, and as many as are needed to tell.
            data = _with_inodes(data[: len(data.rstrip(b"\0")) + 4096], path, inodes)  # noqa: PLW2901
        path.write_bytes(data)


def _with_inodes(data: bytes, path: Path, inodes: Mapping[int, int]) -> bytes:
    sequence = int(path.stem.rpartition("-")[2], 16)
    changed = bytearray(data)
    position = segments._next_entry(data, sequence, 0)
    while position >= 0:
        body = segments._entry(data, sequence, position)
        assert body is not None
        committed, rest = commits.decode(body)
        # A missing file stays in the journal, with a number that no file has.
        files = {
            (device, inodes.get(inode, (1 << 60) + inode)): length
            for (device, inode), length in committed.files.items()
        }
        new = commits.encode(committed._replace(files=files)) + rest
        if len(new) == len(body):
            check = segments._check(sequence, position, new)
            entry = segments._ENTRY.pack(segments._MARK, len(new), check) + new
            changed[position : position + len(entry)] = entry
        position = segments._next_entry(data, sequence, position + 1)
    return bytes(changed)
