"""Reads the record of a JSON line, however many values it has and however deep they lie.

Owns the cost of reading a line: what would cost more than its length allows stays unread, as text, or is left out. Does
not know sockets, clocks or names of fields (records/imported_names.py). docs/inputs.md lists the names.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.errors import NotARecord, RecordRejected
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET
from prefork_logd.records.imported import PADDING, parse
from prefork_logd.records.imported_names import LEADING, adopt, leading_to_fields
from prefork_logd.records.values import REST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from prefork_logd.records.record import Record

BOM = b"\xef\xbb\xbf"
LONG_NUMBER, MOST_LONG_NUMBERS = 300, 100
"""Digits of a number that is slow to read (by the square of its length), and most of these in a line."""
_OURS = ("peer", "peer_name", "received")
"""Names of fields that the collector fills in: a client's values of these names go to `extra`."""
_SHORT_NUMBER = 16
_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_NODES = b",:[{"
"""What stands before or behind each value and name."""
# Possessive repeats: others remember each of their steps, which takes 120 bytes of memory for each byte of a text.
STRING = rb'"(?:[^"\\]++|\\.)*+"'
# A text without an end is one up to the line's end.
_UP_TO_NODE = re.compile(rb'(?:[^",:\[{]++|"(?:[^"\\]++|\\.?)*+"?)*+[,:\[{]', re.DOTALL)
"""What is read up to the next of these outside of texts. Only to be matched: a search would be slow."""
BRACKETS = re.compile(rb'(?:[^"\[\]{}]++|%b)*+(?:([\[{]++)|([\]}]++))' % STRING, re.DOTALL)
"""What stands before one or more brackets of a kind, and these brackets. Only to be matched: a search would be slow."""
_MEMBER = re.compile(
    rb'[ \t\r]*+(%b)[ \t\r]*+:[ \t\r]*+(?:(%b|[^ \t\r",:\[\]{}]++)[ \t\r]*+([,}])|(?=[\[{]))' % (STRING, STRING),
    re.DOTALL,
)
_MEMBER_END = re.compile(rb"[ \t\r]*+([,}])")
_TELLING = frozenset(b'"%b"' % name.encode() for name in LEADING)


def decode_line(line: bytes, peer: str, received_s: float) -> Record:
    """Return the record of a line; its time is `received_s` (seconds since 1970) if the line has none.

    Raises RecordRejected for a line that is not an object, or has neither a message nor a time.
    """
    line = line.strip(PADDING).removeprefix(BOM)
    left_out = 0
    try:
        if _is_wide(line):
            document, left_out = _shallow(line)
        else:
            document = parse(line)
    except NotARecord as error:
        raise RecordRejected("not-json", str(error)) from None
    beside = {name: document.pop(name) for name in _OURS if name in document}
    adopted = adopt(document, received_s, beside)
    if adopted is None:
        raise RecordRejected("not-a-record", "has neither a message nor a time")
    record = adopted.record
    record.peer, record.received = peer, received_s
    if left_out:
        record.extra[REST] = left_out
        record.truncated = ["extra"]
    return record


def _is_wide(line: bytes) -> bool:
    """Tell whether a line has more values than a frame of its length may have, or too many that are slow to read."""
    most = DEFAULT_BUDGET.nodes_for(len(line))
    # A search for a number of so many digits would begin at each digit of those that are a little shorter.
    if (
        len(line) > MOST_LONG_NUMBERS * LONG_NUMBER
        and line.translate(_AS_ZEROS).count(b"0" * LONG_NUMBER) > MOST_LONG_NUMBERS
    ):
        return True
    if len(line) - len(line.translate(None, _NODES)) <= most:
        return False
    # Texts may contain any number of these characters.
    at = 0
    for _ in range(most + 1):
        match = _UP_TO_NODE.match(line, at)
        if match is None:
            return False
        at = match.end()
    return True


def _shallow(line: bytes) -> tuple[dict[str, Any], int]:
    """Return the object of a line, with its lists, objects and long numbers as the unread text of their JSON.

    Of too many names the first ones are kept, and those that may lead to a field; their rest is counted.
    Raises NotARecord.
    """
    most = DEFAULT_BUDGET.nodes_for(len(line))
    try:
        values = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        # What msgspec refuses may be NaN, octets that are not UTF-8 or control characters, which other lines may have.
        if line.count(b"[") + line.count(b"{") > most or line.count(b'":') > most:
            return _shallow_odd(line, most)
        lenient = parse(line, most_depth=1)
        kept = _kept_names(lenient, most)
        return {key: lenient[key] for key in kept}, len(lenient) - len(kept)
    document: dict[str, Any] = {}
    for key in _kept_names(values, most):
        value = bytes(values[key])
        if len(value) < _SHORT_NUMBER and value.isdigit():
            document[key] = int(value)
            continue
        is_dear = value[:1] in (b"[", b"{") or (len(value) > LONG_NUMBER and value[:1] != b'"')
        document[key] = value.decode("utf-8", "surrogateescape") if is_dear else parse(b'{"":' + value + b"}")[""]
    return document, len(values) - len(document)


def _shallow_odd(line: bytes, most: int) -> tuple[dict[str, Any], int]:
    """Return what `_shallow` returns, for a line with too many values that msgspec refuses.

    The members that are left out are counted, and not read. Raises NotARecord.
    """
    few: list[tuple[bytes, int, int]] = []
    telling: dict[bytes, tuple[bytes, int, int]] = {}
    count = 0
    for member in _members(line):
        count += 1
        if 2 * count <= most:
            few.append(member)
        elif (name := member[0].lower()) in _TELLING:
            telling.setdefault(name, member)
    if 2 * count > most:
        first = most // 8
        early = {name: member for member in reversed(few[first:]) if (name := member[0].lower()) in _TELLING}
        few = [*few[:first], *reversed(early.values()), *(telling[name] for name in telling if name not in early)]
    kept = []
    for name, start, end in few:
        value = line[start:end]
        if value[:1] in (b"[", b"{"):
            value = json.dumps(value.decode("utf-8", "surrogateescape")).encode()
        kept.append(name + b":" + value)
    return parse(b"{" + b",".join(kept) + b"}"), count - len(few)


def _members(line: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the JSON of each name of the object in a line, and where its value begins and ends.

    What lies inside of lists and objects is not checked. Raises NotARecord.
    """
    at, end = 1, b","
    while end == b",":
        member = _MEMBER.match(line, at)
        if member is None:
            raise NotARecord("is not JSON: a name, a value or the object's end is missing")
        start, stop, end = member.end(), member.end(2), member[3]
        if end is not None:
            start, at = member.start(2), member.end()
        else:
            stop = _container_end(line, start)
            behind = _MEMBER_END.match(line, stop)
            if behind is None:
                raise NotARecord("is not JSON: a comma or the object's end is missing")
            at, end = behind.end(), behind[1]
        yield member[1], start, stop
    if at < len(line):
        raise NotARecord("is not JSON: it goes on after its end")


def _container_end(line: bytes, start: int) -> int:
    """Return the offset after the list or object that begins at `start`. Raises NotARecord."""
    depth, at = 0, start
    while match := BRACKETS.match(line, at):
        at = match.end()
        if match[1]:
            depth += len(match[1])
        elif len(match[2]) < depth:
            depth -= len(match[2])
        else:
            return match.start(2) + depth
    raise NotARecord("is not JSON: a list or an object has no end")


def _kept_names(values: Mapping[str, Any], most: int) -> list[str]:
    """Return the names of an object, or if they are more than half of `most`, some of them."""
    names = list(values)
    if 2 * len(names) <= most:
        return names
    first = most // 8
    telling = {key.lower(): key for key in reversed(leading_to_fields(names[first:]))}
    return [*names[:first], *reversed(telling.values())]
