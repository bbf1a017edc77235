"""Reads the footers of Parquet files, and writes one footer for the row groups of several files.

Owns the part of Thrift's compact protocol that a footer needs, and the fields that hold offsets. Does not know columns
or records. Sources: parquet.thrift of Apache Parquet, and the specification of Thrift's compact protocol.

Every value but offsets, ordinals and numbers of rows is copied as it is, so a footer may have fields that are not
known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAGIC = b"PAR1"
TAIL_BYTES = 8
"""A file ends with the length of its footer, of four octets, and MAGIC."""

_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(13)
_VARINTS = (_I16, _I32, _I64)
_MOST_DEPTH = 32
_SHIFT: Final = "offset in the file"
_ORDINAL: Final = "ordinal of the row group"
_Rules = dict[int, "str | _Rules"]
_METADATA: _Rules = {9: _SHIFT, 10: _SHIFT, 11: _SHIFT, 14: _SHIFT}
_CHUNK: _Rules = {2: _SHIFT, 3: _METADATA, 4: _SHIFT, 6: _SHIFT}
_ROW_GROUP: _Rules = {1: _CHUNK, 5: _SHIFT, 7: _ORDINAL}
"""Field ids of RowGroup, ColumnChunk and ColumnMetaData in parquet.thrift that depend on a row group's place."""
_SCHEMA, _NUM_ROWS, _ROW_GROUPS = 2, 3, 4


class FooterError(ValueError):
    """Octets are not a footer."""


class Footer(NamedTuple):
    """A footer, taken apart."""

    fields: dict[int, tuple[int, bytes]]
    """Type and octets of each field that is copied, by its id."""
    rows: int
    """Number of rows of the file."""
    groups: list[bytes]
    """The row groups, as they are in the file."""

    @property
    def schema(self) -> bytes:
        """The columns: of equal octets for files with the same columns."""
        return self.fields[_SCHEMA][1]


class _Reader:
    """Reads values of the compact protocol, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        data, at = self.data, self.at
        while True:
            octet = data[at]
            at += 1
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                self.at = at
                return value
            shift += 7

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield id and type of each field of a struct; the caller reads its value before the next one."""
        field = 0
        while kind := self.data[self.at]:
            self.at += 1
            delta = kind >> 4
            field = field + delta if delta else _signed(self.varint())
            yield field, kind & 15
        self.at += 1

    def list(self) -> tuple[int, int]:
        """Return number and type of the elements of a list, which follow."""
        head = self.data[self.at]
        self.at += 1
        return self.varint() if head >> 4 == 15 else head >> 4, head & 15

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value."""
        if kind in _VARINTS:
            while self.data[self.at] >= 0x80:
                self.at += 1
            self.at += 1
        elif kind == _BINARY:
            nbytes = self.varint()
            self.at += nbytes
        elif kind == _BYTE:
            self.at += 1
        elif kind == _DOUBLE:
            self.at += 8
        elif kind in (_LIST, _SET) and depth < _MOST_DEPTH:
            count, element = self.list()
            for _ in range(count):
                # A boolean is in the type of a field, and has an octet of its own in a list.
                self.skip(_BYTE if element in (_TRUE, _FALSE) else element, depth + 1)
        elif kind == _STRUCT and depth < _MOST_DEPTH:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        elif kind not in (_TRUE, _FALSE):
            raise FooterError(f"has a value of type {kind}")


def read_footer(octets: bytes) -> Footer:
    """Take a footer apart, given without the length and the magic behind it. Raises FooterError."""
    reader = _Reader(octets)
    fields: dict[int, tuple[int, bytes]] = {}
    groups: list[bytes] = []
    rows = 0
    try:
        for field, kind in reader.fields():
            start = reader.at
            if field == _NUM_ROWS and kind == _I64:
                rows = _signed(reader.varint())
            elif field == _ROW_GROUPS and kind == _LIST:
                for _ in range(reader.list()[0]):
                    start = reader.at
                    reader.skip(_STRUCT)
                    groups.append(octets[start : reader.at])
            else:
                reader.skip(kind)
                fields[field] = kind, octets[start : reader.at]
    except IndexError as error:
        raise FooterError("is cut off") from error
    if reader.at != len(octets) or _SCHEMA not in fields:
        raise FooterError("is not a footer")
    return Footer(fields, rows, groups)


def moved(group: bytes, distance: int, ordinal: int) -> bytes:
    """Return a row group whose columns are so many octets farther in the file, and which has this ordinal.

    Raises FooterError.
    """
    reader = _Reader(group)
    out = bytearray()
    try:
        _copy_struct(reader, out, _ROW_GROUP, distance, ordinal)
    except IndexError as error:
        raise FooterError("is cut off") from error
    return bytes(out)


def _copy_struct(reader: _Reader, out: bytearray, rules: _Rules, distance: int, ordinal: int) -> None:
    """Copy a struct, and change the values that have a rule."""
    start = reader.at
    for field, kind in reader.fields():
        rule = rules.get(field)
        if rule is None:
            reader.skip(kind)
            continue
        out += reader.data[start : reader.at]
        if isinstance(rule, dict):
            begin, count = reader.at, 1
            if kind == _LIST:
                count, _ = reader.list()
            out += reader.data[begin : reader.at]
            for _ in range(count):
                _copy_struct(reader, out, rule, distance, ordinal)
        else:
            value = _signed(reader.varint())
            # An offset of 0 means that there is none.
            value = ordinal if rule == _ORDINAL else value + distance if value > 0 else value
            out += _varint(_unsigned(value))
        start = reader.at
    out += reader.data[start : reader.at]


def make_footer(like: Footer, rows: int, groups: Sequence[bytes]) -> bytes:
    """Return the footer of a file with these row groups, of `rows` rows in all; other fields are those of `like`."""
    fields = dict(like.fields)
    fields[_NUM_ROWS] = _I64, _varint(_unsigned(rows))
    fields[_ROW_GROUPS] = _LIST, bytes((15 << 4 | _STRUCT,)) + _varint(len(groups)) + b"".join(groups)
    out = bytearray()
    before = 0
    for field, (kind, octets) in sorted(fields.items()):
        out += bytes(((field - before) << 4 | kind,)) + octets
        before = field
    return bytes(out) + b"\0"


def _signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def _unsigned(value: int) -> int:
    return value << 1 ^ value >> 63


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
