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
_WORD = re.compile(r"(?:[A-Za-z0-9+/=]|\\{1,4}/|%(?:25){0,2}(?:2[BFbf]|3[Dd]))++")
"""A line of a key, in base64."""
_BREAK = r"""(?:\s|\\{1,4}(?:[nrt]|u000[9ADad])|%(?:25){0,2}(?:0[9ADad]|20)|\\{0,4}["']|[,>|])"""
_GAP = re.compile(rf"(?:{_BREAK}{{1,64}}+b?\\{{0,4}}[\"']?)?+")
"""What stands between two lines, with the quotes and commas of a list of texts and the signs of quoted text."""
_HEAD = re.compile(
    rf"(?:{_BREAK}{{0,64}}+(?:Proc-Type|DEK-Info|Version|Comment|Subject|Charset)"
    r"(?::|%3[Aa])[^\r\n\\%]{0,128}+){0,6}+"
)
"""The fields before the first line (RFC 1421, section 4.6; RFC 9580, section 6.2.2)."""
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


def without_private_keys(text: str) -> str:
    """Return a text without what stands between the lines around private keys, and without parts of keys cut off."""
    if "PRIVATE" not in text:
        return text
    parts: list[str] = []
    done = passed = 0
    begun = -1
    for mark in [*_MARK.finditer(text), None]:
        start, end = 0, 0
        side = mark["side"] if mark is not None else None
        if begun >= 0:
            stop = mark.start() if mark is not None else len(text)
            start, end = begun, stop if side == "END" else _end_of_key(text, begun, stop)
        elif side == "END" and mark is not None:
            start, end = _start_of_key(text, max(passed, mark.start() - _MOST_KEY), mark.start()), mark.start()
        if end - start >= _LEAST_KEY:
            parts += (text[done:start], REDACTED)
            done = end
        if mark is not None:
            begun, passed = mark.end() if side == "BEGIN" else -1, mark.end()
    return "".join((*parts, text[done:])) if parts else text


def _end_of_key(text: str, start: int, stop: int) -> int:
    """Return the end of the lines of a key that begins at `start` and has no end before `stop`; `start` if none are."""
    at = start
    head = _HEAD.match(text, start, stop)
    behind = head.end() if head is not None else start
    least = _LEAST_WORD
    while True:
        gap = _GAP.match(text, behind, stop)
        word = _WORD.match(text, gap.end() if gap is not None else behind, stop)
        if word is None:
            return at
        # The last line may be short: it has padding, or the text ends or is cut within it.
        is_last = (
            word[0].endswith(("=", "%3D", "%253D")) or word.end() == len(text) or text.startswith("... (", word.end())
        )
        if word.end() - word.start() < least and not (is_last and at > start):
            return at
        at = behind = word.end()
        least = _LEAST_LINE


def _start_of_key(text: str, start: int, stop: int) -> int:
    """Return the beginning of the lines of a key that ends at `stop` and does not begin before; `stop` if none are."""
    at = behind = stop
    shorts = 0
    is_key = False
    for word in reversed(list(_WORD.finditer(text, start, stop))):
        gap = _GAP.fullmatch(text, word.end(), behind)
        size = word.end() - word.start()
        is_short = size < (_LEAST_LINE if is_key else _LEAST_WORD)
        shorts += is_short
        if gap is None or (is_short and (is_key or shorts > _MOST_SHORT)):
            break
        behind = word.start()
        if not is_short:
            is_key = True
            at = behind
    return at
