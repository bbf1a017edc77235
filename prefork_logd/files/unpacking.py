"""Reads the lines of any file: compressed, in UTF-16, with a byte order mark or NULs, cut off, damaged.

Owns the steps from a file's octets to lines. Does not know JSON or stores. Reading ends at the first damage; the lines
before it are still returned, and `Unpacked.trouble` describes the damage afterwards.
"""

from __future__ import annotations

import codecs
import importlib
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from prefork_logd.errors import ProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

READ_BYTES = 262_144
_ZSTD_STEP_BYTES = 64
"""Bytes of packed data per step of zstd, which accepts no limit: each four of them may unpack to 128 KiB."""
MOST_PLAIN_BYTES = 1 << 20
"""Bytes unpacked at once."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4"}
_UTF8_MARK = codecs.BOM_UTF8
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _Unpacker(Protocol):
    """A decompression object of zlib or zstandard."""

    eof: bool
    unused_data: bytes
    unconsumed_tail: bytes

    def decompress(self, data: bytes, most: int = ..., /) -> bytes:
        """Return the unpacked data."""


class Splitter:
    """Cuts pieces of data into lines, and holds at most one line of the largest size."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Yield each complete line with its newline; None for one that is too long.

        NULs before a line are left out: they appear if a file is truncated while its writer keeps its old offset.
        """
        if not self._size:
            data = data.lstrip(b"\0")
        *lines, last = data.split(b"\n")
        for line in lines:
            yield None if self._size > self._most else b"".join((*self._rest, line, b"\n"))
            self.forget()
        self._size += len(last)
        if self._size > self._most:
            self._rest = []
        elif last:
            self._rest.append(last)

    def end(self) -> Iterator[bytes | None]:
        """Yield the rest as a line without a newline; nothing if it is empty."""
        if self._size:
            yield None if self._size > self._most else b"".join(self._rest)
        self.forget()

    def forget(self) -> None:
        """Start a new line."""
        self._rest, self._size = [], 0


class Unpacked:
    """The lines of one file, read once.

    A file packed by gzip or zstd is recognised by its first octets, not its name.
    """

    def __init__(self, file: BinaryIO, path: Path, most_line_bytes: int) -> None:
        """Read from `file`, which is at its beginning. Raises ProcessError for other kinds of packed files."""
        self.trouble = ""
        """Reason why the file was not read to its end, with a remedy; empty if it was."""
        self._file = file
        self._path = path
        self._most = most_line_bytes
        head = file.read(6)
        for magic, name in _OTHERS.items():
            if head.startswith(magic):
                raise ProcessError(f"{path}: is packed by {name}; unpack it first, or pack it by gzip or zstd")
        self._head = head

    def lines(self) -> Iterator[bytes | None]:
        """Yield each line with its newline, which only an incomplete last line lacks.

        None stands for a line that is too long.
        """
        splitter = Splitter(self._most)
        for chunk in self._text():
            yield from splitter.feed(chunk)
        yield from splitter.end()

    def _text(self) -> Iterator[bytes]:
        """Yield the file in pieces, UTF-16 turned into UTF-8."""
        pieces = self._plain()
        first = b""
        while len(first) < len(_UTF8_MARK) and (piece := next(pieces, None)) is not None:
            first += piece
        if first.startswith(_UTF8_MARK):
            yield first[len(_UTF8_MARK) :]
        elif first.startswith(_UTF16_MARKS):
            yield from self._from_utf16(first, pieces)
            return
        else:
            yield first
        yield from pieces

    def _from_utf16(self, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        try:
            yield decoder.decode(first).encode("utf-8", "surrogatepass")
            for piece in pieces:
                yield decoder.decode(piece).encode("utf-8", "surrogatepass")
            yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            self._end(f"is not valid UTF-16 ({error.reason})")

    def _plain(self) -> Iterator[bytes]:
        if self._head.startswith(_GZIP):
            return self._unpacked(_GZIP, lambda: zlib.decompressobj(31))
        if self._head.startswith(_ZSTD):
            return self._unpacked(_ZSTD, _zstd(self._path))
        return self._as_it_is()

    def _read(self, nbytes: int) -> bytes:
        head, self._head = self._head, b""
        try:
            return head + self._file.read(nbytes)
        except OSError as error:
            self._end(f"cannot be read further: {error.strerror}")
            return head

    def _as_it_is(self) -> Iterator[bytes]:
        while data := self._read(READ_BYTES):
            yield data

    def _unpacked(self, magic: bytes, make: Callable[[], Any]) -> Iterator[bytes]:
        """Yield the content of a file of one or more packed parts."""
        errors: tuple[type[Exception], ...] = (zlib.error, *_zstd_errors())
        step = _unzip if magic == _GZIP else _unzstd
        data = self._read(READ_BYTES)
        while data:
            unpacker: _Unpacker = make()
            try:
                while not unpacker.eof and data:
                    plain, data = step(unpacker, data)
                    if plain:
                        yield plain
                    data = data or (b"" if unpacker.eof else self._read(READ_BYTES))
            except errors as error:
                self._end(f"is damaged in its packed data ({error})")
                return
            if not unpacker.eof:
                self._end("ends within its packed data")
                return
            data = self._behind(unpacker.unused_data + data, len(magic))
            if data and not data.startswith(magic):
                self._end("has other data after its packed data")
                return

    def _behind(self, data: bytes, least: int) -> bytes:
        """Return the data after a part, without the zeros that some programs pad with."""
        while len(data := data.lstrip(b"\0")) < least and (more := self._read(READ_BYTES)):
            data += more
        return data

    def _end(self, what: str) -> None:
        self.trouble = self.trouble or what


def _unzip(unpacker: _Unpacker, data: bytes) -> tuple[bytes, bytes]:
    """Return a piece of unpacked data, and the packed data that is left."""
    plain = unpacker.decompress(data, MOST_PLAIN_BYTES)
    return plain, unpacker.unconsumed_tail


def _unzstd(unpacker: _Unpacker, data: bytes) -> tuple[bytes, bytes]:
    """Do the same for zstd."""
    parts: list[bytes] = []
    size = at = 0
    while at < len(data) and size < MOST_PLAIN_BYTES and not unpacker.eof:
        plain = unpacker.decompress(data[at : at + _ZSTD_STEP_BYTES])
        at += _ZSTD_STEP_BYTES
        parts.append(plain)
        size += len(plain)
    return b"".join(parts), data[at:]


def _zstd(path: Path) -> Callable[[], Any]:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError as error:
        what = 'zstd needs a package that is not installed: pip install "prefork-logd[zstd]"'
        raise ProcessError(f"{path}: {what}") from error
    return lambda: zstandard.ZstdDecompressor().decompressobj()


def _zstd_errors() -> tuple[type[Exception], ...]:
    try:
        return (importlib.import_module("zstandard").ZstdError,)
    except ImportError:
        return ()
