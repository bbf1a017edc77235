"""Writes and reads the subject, headers and body of NATS messages, as docs/nats.md specifies them.

Owns their form. Does not know connections, streams or clocks.

Every message stands for a range of numbers of one journal, from `first` up to, but not including, `end`. A range may
have fewer lines than numbers: records that were filtered out or could not be published have none. The ranges of a
journal have no gaps, but may come more than once, in another order, or with other bounds; `Range` has all that a reader
needs to reorder them.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.errors import NotARecord
from prefork_logd.records.stored import read_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prefork_logd.stores.base import Block

HEADER = "Prefork-Logd"
NUMBERS_HEADER = "Prefork-Logd-Numbers"
VERSION = "1"
MOST_LOGGER_CHARS = 128
MOST_BODY_BYTES = 64 << 20
"""A body that unpacks to more is damaged or hostile: servers accept no larger message, and a line fits into one."""
MOST_NUMBERS = 1 << 52
"""Most numbers of one message. A collector skips 2^32 at once after each boot of its host, and up to 2^49 after its
state directory was set back."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_\-:/@+=$~!,;()]")
_DIGITS = re.compile(r"[0-9]{1,20}")
_JOURNAL = re.compile(r"[0-9a-f]{32}")


class Range(NamedTuple):
    """The range of a message, from its header."""

    journal: str
    """32 hexadecimal digits."""
    first: int
    end: int
    floor: int
    """Every number of the journal below this one is in the stream, or will never be."""
    encoding: str
    """The compression of the body: "none", "deflate" or "zstd"."""


class FormError(ValueError):
    """A message does not have the form in docs/nats.md; the text names the reason."""


def partition_of(journal: str, partitions: int) -> int:
    """Return the partition of a journal's messages."""
    return int(journal[:8], 16) % partitions


def subject_of(prefix: str, journal: str, partitions: int) -> str:
    """Return the subject of a journal's messages; a message of one record adds its logger's name."""
    return f"{prefix}.{partition_of(journal, partitions):03d}.{journal}"


def partition_filter(prefix: str, partition: int) -> str:
    """Return the subjects of a partition."""
    return f"{prefix}.{partition:03d}.>"


def logger_tokens(name: str) -> str:
    """Return a logger's name as tokens of a subject: forbidden characters become %XX, an empty token "_"."""
    tokens = (_UNSAFE.sub(_escape, token) or "_" for token in name[:MOST_LOGGER_CHARS].split("."))
    return ".".join(tokens)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{octet:02X}" for octet in match[0].encode("utf-8", "surrogatepass"))


def header_of(numbered: Range) -> str:
    """Return the value of the header with a message's range."""
    return f"{VERSION} {numbered.journal} {numbered.first} {numbered.end} {numbered.floor} {numbered.encoding}"


def read_header(headers: Mapping[str, str] | None) -> Range:
    """Return a message's range from its header. Raises FormError."""
    value = (headers or {}).get(HEADER)
    if value is None:
        raise FormError(f"has no {HEADER} header")
    fields = value.split(" ")
    if fields[0] != VERSION:
        raise FormError(f"is of version {fields[0][:20]!r}, and this collector knows {VERSION}")
    if len(fields) != 6 or not _JOURNAL.fullmatch(fields[1]) or not all(map(_DIGITS.fullmatch, fields[2:5])):
        raise FormError(f"has the header {value[:120]!r}, which is not of the form that docs/nats.md says")
    found = Range(fields[1], int(fields[2]), int(fields[3]), int(fields[4]), fields[5])
    if not found.first < found.end < 1 << 63:
        raise FormError(f"stands for no numbers: {value[:120]!r}")
    if found.end - found.first > MOST_NUMBERS or found.floor > found.end:
        raise FormError(f"claims more numbers than any collector leaves out: {value[:120]!r}")
    return found


def numbers_of(runs: Iterable[tuple[int, int]]) -> str:
    """Return the numbers of a message's lines, as runs "first+count", from pieces of these runs in order."""
    joined: list[list[int]] = []
    for first, count in runs:
        if joined and sum(joined[-1]) == first:
            joined[-1][1] += count
        else:
            joined.append([first, count])
    return ",".join(f"{first}+{count}" for first, count in joined)


def read_numbers(headers: Mapping[str, str], numbered: Range, lines: int) -> list[range]:
    """Return the number of each line of a message, as ranges. Raises FormError."""
    value = headers.get(NUMBERS_HEADER)
    if value is None:
        room = numbered.end - numbered.first
        if lines > room:
            raise FormError(f"has {format_count(lines, 'line')} for {format_count(room, 'number')}")
        # One record per message: its number is the last one, and the earlier numbers have no line.
        return [range(numbered.end - lines, numbered.end)]
    try:
        pairs = [pair.split("+") for pair in value.split(",") if pair]
        runs = [range(int(first), int(first) + int(count)) for first, count in pairs]
    except ValueError:
        raise FormError(f"has the header {NUMBERS_HEADER}: {value[:80]!r}, which docs/nats.md does not know") from None
    at = numbered.first
    for run in runs:
        if not at <= run.start < run.stop <= numbered.end:
            raise FormError(f"has the header {NUMBERS_HEADER}: {value[:80]!r}, with numbers that are not its own")
        at = run.stop
    claimed = sum(run.stop - run.start for run in runs)
    if claimed != lines:
        raise FormError(f"has {format_count(lines, 'line')}, and its header {NUMBERS_HEADER} claims {claimed}")
    return runs


def batch_id(journal: str, first: int, end: int) -> str:
    """Return the Nats-Msg-Id of a message with many records."""
    return f"{journal}-{first}-{end}"


def record_ids(journal: str, block: Block) -> list[str]:
    """Return the Nats-Msg-Id of each record of a block: its session and number, or its journal and number."""
    if not block.runs:
        return [f"{journal}-{number}" for number in range(block.first, block.first + block.count)]
    session = block.session.hex()
    return [f"{session}-{number}" for run in block.runs for number in range(run.first, run.first + run.count)]


def logger_of(line: bytes) -> str:
    """Return the logger of a stored line; "" if it has none, or is not a record."""
    try:
        return read_source(line)[0]
    except NotARecord:
        return ""


# Compression


def packer(encoding: str) -> Callable[[bytes], bytes]:
    """Return the function that compresses a body."""
    if encoding == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=1).compress
    if encoding == "deflate":
        return lambda lines: zlib.compress(lines, 1)
    return bytes


def unpack(body: bytes, encoding: str) -> bytes:
    """Return a message's lines. Raises FormError."""
    if encoding == "none":
        return body
    if encoding not in _UNPACKERS:
        raise FormError(f"is packed as {encoding[:20]!r}, which this collector does not know")
    try:
        lines = _UNPACKERS[encoding](body)
    except ImportError:
        raise FormError('needs a package that is not installed: pip install "prefork-logd[nats]"') from None
    except (zlib.error, ValueError, MemoryError) as error:
        raise FormError(f"has a body that cannot be unpacked: {error}") from error
    if lines is None:
        raise FormError("has a body that ends early, or is too long")
    return lines


def _inflate(body: bytes) -> bytes | None:
    unpacker = zlib.decompressobj()
    lines = unpacker.decompress(body, MOST_BODY_BYTES)
    return lines if unpacker.eof else None


def _unpack_zstd(body: bytes) -> bytes | None:
    import zstandard

    try:
        # A frame without its size could unpack to any size.
        if not 0 <= zstandard.frame_content_size(body) <= MOST_BODY_BYTES:
            return None
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=MOST_BODY_BYTES)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


_UNPACKERS: dict[str, Callable[[bytes], bytes | None]] = {"deflate": _inflate, "zstd": _unpack_zstd}
