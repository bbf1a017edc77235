"""Turns another program's line of JSON into the line that this collector would have written.

Owns the steps from octets to an object, as lenient as possible without guessing. imported_names.py owns the meaning of
the names in it. Does not know files. Used for imports; lines of our own do not need it.

Octets that are not UTF-8 become lone surrogates, as in file names (PEP 383). `NaN` and `Infinity` become texts, a
number that Python cannot hold the text of its digits, and a value nested too deeply the text of its JSON.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from prefork_logd.errors import NotARecord
from prefork_logd.records.imported_names import adopt, docker_line, is_telling
from prefork_logd.records.render import render_json
from prefork_logd.records.stored import MOST_DIGITS

MOST_LINE_BYTES = 67_108_864
MOST_DEPTH = 220
"""Deepest nesting of an object that stays as it is, so that its record can be read again (`stored.MOST_DEPTH`)."""
PADDING = b"\0 \t\r\n"
"""Octets around a line that do not count. NULs appear if a file is truncated while its writer keeps its offset."""
# Possessive repeats: others remember each of their steps, which takes 120 bytes of memory for each byte of a text.
# A text without an end is one up to the end.
_UP_TO_BRACKETS = re.compile(r'(?:[^"\[{\]}]++|"(?:[^"\\]++|\\.?)*+"?)*+([\[{]++|[\]}]++)', re.DOTALL)
"""One or more brackets of a kind, and what stands before them. Only to be matched: a search would be slow."""


class Canonical(NamedTuple):
    """A line as this collector would have written it."""

    line: bytes
    has_time: bool
    has_level: bool


def canonical(line: bytes, now: float) -> Canonical:
    """Return the stored line for an object that has a message or a time, by any name of imported_names.py.

    `created` is `now`, seconds since 1970, if the object has no time. Raises NotARecord.
    """
    if len(line) > MOST_LINE_BYTES:
        raise NotARecord(f"is longer than {MOST_LINE_BYTES:,} bytes")
    document, beside = parse(line), None
    printed = docker_line(document)
    if printed is not None:
        try:
            inner = parse(printed.encode("utf-8", "surrogatepass"))
        except NotARecord:
            pass
        else:
            if is_telling(inner):
                document, beside = inner, {"docker": {key: document[key] for key in document if key != "log"}}
    adopted = adopt(document, now, beside)
    if adopted is None:
        raise NotARecord("has neither a message nor a time: is this a log record?")
    return Canonical(render_json(adopted.record), adopted.has_time, adopted.has_level)


def parse(line: bytes, most_depth: int = MOST_DEPTH) -> dict[str, Any]:
    """Return the object in a line; lists and objects deeper than `most_depth` as the text of their JSON.

    Raises NotARecord.
    """
    line = line.strip(PADDING)
    if not line.startswith(b"{") or line == b"{":
        raise NotARecord(_no_object(line))
    try:
        text = line.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = line.decode("utf-8", "surrogateescape")
    if text.count("{") + text.count("[") > most_depth:
        text = _without_depths(text, most_depth)
    try:
        document: dict[str, Any] = _decode(text)
    except (ValueError, RecursionError) as error:
        raise NotARecord(f"is not JSON: {error}") from error
    return document


def _no_object(line: bytes) -> str:
    if not line:
        return "is empty"
    if line == b"{":
        return "begins an object that ends in another line: `jq -c .` writes each on a line of its own"
    if line[:1] == b"[":
        return "is a list, not an object: write each of its objects on a line of its own, as `jq -c '.[]'` does"
    return "is not a JSON object"


def _constant(name: str) -> str:
    return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[name]


def _float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


# Control characters in strings are not JSON, but common if a shell has made the lines.
_decode = json.JSONDecoder(
    parse_constant=_constant, parse_float=_float, parse_int=_integer, strict=False
).decode  # fmt: skip


def _without_depths(text: str, most_depth: int) -> str:
    """Return JSON in which each value deeper than `most_depth` is replaced by the text of its JSON."""
    depth, start, at, end = 0, 0, 0, 0
    parts: list[str] = []
    while (match := _UP_TO_BRACKETS.match(text, end)) is not None:
        first, end = match.span(1)
        before = depth
        if text[first] in "[{":
            depth += end - first
            if before <= most_depth < depth:
                start = first + most_depth - before
        else:
            depth -= end - first
            if depth <= most_depth < before:
                stop = first + before - most_depth
                parts += text[at:start], json.dumps(text[start:stop], ensure_ascii=False)
                at = stop
    return "".join((*parts, text[at:])) if parts else text
