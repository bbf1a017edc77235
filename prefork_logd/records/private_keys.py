r"""Finds private keys in texts by the lines around them: those of PEM, OpenSSH, SSH2 and PGP.

Does not know records or other forms of secrets. The compiled core only looks for the dashes before `BEGIN` or `END`
(ingest/core_c/secrets.pxi).

The lines are those of RFC 7468 (section 2), RFC 4716 (section 3.3, which programs use for private keys, too) and RFC
9580 (section 6.2.1). A line may be percent-encoded, or end in `\n`, as the repr() or the JSON of a text has it. A text
is searched in linear time.
"""

from __future__ import annotations

import re

from prefork_logd.records.redacted import REDACTED

_BLANK = r"(?:[ +]|%(?:25){0,2}2[0Bb])"
_MARK = re.compile(
    rf"-----?{_BLANK}?(?P<side>BEGIN|END){_BLANK}(?:[A-Z0-9]{{1,16}}{_BLANK}){{0,4}}PRIVATE{_BLANK}KEY"
    rf"(?:{_BLANK}BLOCK)?{_BLANK}?-----?"
    rf"|-----?{_BLANK}?BEGIN{_BLANK}"
)
"""The line before a private key, the line after one, or the beginning of the line before something else."""
_WORD = r"(?:[A-Za-z0-9+/=]|\\{1,4}/|%(?:25){0,2}(?:2[BFbf]|3[Dd]))"
"""A sign of a line of a key, in base64."""
_BREAK = (
    r"""(?:\s|\\{1,4}(?:[nrt]|u000[9ADad])|\\{0,4}["']|[,>|]|[+](?=[\s"'|>%])"""
    r"""|%(?:25){0,2}(?:0[9ADad]|2[027Cc]|3[Ee]|5[Cc][nrt]?|7[Cc]))"""
)
"""What stands between two lines, with the quotes and commas of a list of texts and the signs of quoted text."""
_GAP = rf"(?:{_BREAK}{{1,64}}+b?\\{{0,4}}[\"']?)"
_LINE = re.compile(rf"{_GAP}?+({_WORD}++)")
_PARTS = re.compile(rf"({_GAP})|{_WORD}++")
_FIELD = re.compile(rf"{_GAP}?+[+]?(?:Proc-Type|DEK-Info|Version|Comment|Subject|Charset)(?::|%3[Aa])")
"""The first field before the first line (RFC 1421, section 4.6; RFC 9580, section 6.2.2)."""
_MOST_FIELDS = 1_024
"""Characters of all fields."""
_LEAST_KEY = 64
"""Characters of a key: the shortest ones (Ed25519, RFC 8410) have so many, and less of a longer one is no secret."""
SHORTEST_KEY = len("-----END PRIVATE KEY-----") + _LEAST_KEY
"""Characters of the shortest text with a private key, or with a part of one."""
_LEAST_WORD = 32
"""Characters of a line of a key of which the beginning or the end is missing. Lines of keys have 64, 70 or 76;
words of prose have fewer."""
_LEAST_LINE = 16
"""Characters of each further line of a key without its end."""
_MOST_KEY = 20_000
"""Characters before the line after a key that may belong to a key without its beginning: one of RSA has 13,000."""
_MOST_SHORT = 2
"""Lines at the end of a key that may be short: the last one, and the checksum behind it (RFC 9580, section 6.1)."""


_LONG_WORD = re.compile(rf"{_WORD}{{{_LEAST_WORD},}}+")


def without_private_keys(text: str) -> str:
    """Return a text without what stands between the lines around private keys, and without parts of keys cut off."""
    if len(text) < SHORTEST_KEY or "PRIVATE" not in text:
        return text
    parts: list[str] = []
    done = passed = 0
    begun = -1
    for mark in [*_MARK.finditer(text), None]:
        start, end, least = 0, 0, _LEAST_WORD
        side = mark["side"] if mark is not None else None
        if begun >= 0 and mark is not None and side == "END":
            start, end, least = begun, mark.start(), _LEAST_KEY
        elif begun >= 0:
            start, end = _first_lines(text, begun, mark.start() if mark is not None else len(text))
        elif side == "END" and mark is not None:
            start, end = _last_lines(text, max(passed, mark.start() - _MOST_KEY), mark.start()), mark.start()
        if end - start >= least:
            parts += (text[done:start], REDACTED)
            done = end
        if mark is not None:
            begun, passed = mark.end() if side == "BEGIN" else -1, mark.end()
    return "".join((*parts, text[done:])) if parts else text


def _first_lines(text: str, start: int, stop: int) -> tuple[int, int]:
    """Return where the lines are of a key that begins at `start` and has no end before `stop`; no place if none are."""
    if _FIELD.match(text, start, stop) is not None:
        first = _LONG_WORD.search(text, start, min(stop, start + _MOST_FIELDS))
        start = first.start() if first is not None else stop
    at, least = start, _LEAST_WORD
    while (line := _LINE.match(text, at, stop)) is not None:
        # The last line may be short: it has padding, or the text ends or is cut within it.
        is_padded = line[1].endswith(("=", "%3D", "%253D"))
        is_last = is_padded or line.end() == len(text) or text.startswith("... (", line.end())
        if len(line[1]) < least and not (is_last and at > start):
            break
        at, least = line.end(), _LEAST_LINE
    return start, at


def _last_lines(text: str, start: int, stop: int) -> int:
    """Return the beginning of the lines of a key that ends at `stop` and does not begin before; `stop` if none are."""
    at = behind = stop
    shorts = 0
    for part in reversed(list(_PARTS.finditer(text, start, stop))):
        if part.end() != behind:
            break
        if part[1] is None:
            is_short = part.end() - part.start() < (_LEAST_LINE if at < stop else _LEAST_WORD)
            shorts += is_short
            if is_short and (at < stop or shorts > _MOST_SHORT):
                break
            if not is_short:
                at = part.start()
        behind = part.start()
    return at
