r"""Finds the values of named secrets in a text: `password=x`, `"token": "x"`, `--password x`, `<token>x</token>`.

Owns the forms in which a text has a name and its value. Does not know which names are those of secrets, nor the
compiled core, which only looks for the names (ingest/core_c/secrets.pxi).

A text may be the repr() or the JSON of another one, so each quote may follow backslashes. Each form is searched for in
linear time: a stretch of text is tried a fixed number of times.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from prefork_logd.records.json_text import value_end
from prefork_logd.records.redacted import INVISIBLE, NAME_KEYS, REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    IsSecret = Callable[[str], bool]

_MARK = r"""\\{0,4}["']"""
_LITERAL = rf"(?:[bBfFrRuU]{{1,2}}(?={_MARK}))?(?P<quote>{_MARK})?"
"""A quote, or none, also behind what marks a literal of Python: `u'x'`, as Python 2 writes texts."""
_LINE_END = r"(?:\r?\n|(?:\\{1,4}r)?\\{1,4}n)"
_NAME = re.compile(
    rf"""(?<![\w.{INVISIBLE}-])(?:
    (?P<name>[\w.{INVISIBLE}-]++) (?:
        (?P<sign>
            \\{{0,4}}["']?[ \t]{{0,3}}(?:=>|:=|={{1,3}}|:|%3[Dd])[ \t]{{0,8}}
            | (?:%2[27])?%3[Aa](?:%20|\+){{0,3}}(?P<encoded>%2[27])?
        )
        | {_MARK}[ \t]{{0,3}},[ \t]{{0,8}}(?=[bBfFrRuU]{{0,2}}{_MARK})
    )
    | (?P<flag>--[\w.{INVISIBLE}-]++)[ \t]++
    ) {_LITERAL}""",
    re.VERBOSE,
)
"""A name and what leads to its value: `name=`, `"name": `, `'name', '` as in a pair, `--name `."""
_BESIDE = re.compile(
    rf"""(?P<name>[\w.{INVISIBLE}-]++){_MARK} (?:
        [^{{}}<>]{{0,120}}?(?<![\w.-])value \\{{0,4}}["']?[ \t]{{0,3}}[:=][ \t]{{0,8}} {_LITERAL}
        | {_LINE_END} (?:[A-Za-z-]{{1,40}}:[^\r\n\\]*+{_LINE_END}){{0,2}} {_LINE_END} (?P<line>)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
"""The rest of `"name": "token", "value": ` and `name="token" value=`, or of the head of a part of a form (RFC 7578)."""
_ELEMENT = re.compile(
    r"""<(?P<tag>(?:[\w.-]++:)?(?P<name>[\w.-]++))(?:\s[^<>]*+)?>
    (?P<value><!\[CDATA\[(?:(?!\]\]>|<!\[CDATA\[).)*+\]\]> | [^<>]++)
    (?=<\\{0,4}/(?P=tag)\s*>)""",
    re.VERBOSE | re.DOTALL,
)
"""An element of XML that has no other one."""
_BARE = re.compile(
    r"(?:(?:bearer|basic|digest|negotiate|token|apikey)(?:[ +]|%20)++)?[^\s&;,\"'<>(){}\[\]\\]++", re.IGNORECASE
)
_ENCODED = re.compile(r"(?:(?!%2[27])[^\s&;,\"'<>(){}\[\]\\])*+")
"""A value up to the percent-encoded quote behind it."""
_CALL = re.compile(r"""\((?:[^()"']++|"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')*+\)""", re.DOTALL)
_LONGEST_CALL = 1_000
_HEADER = re.compile(r"""(?:=\\{0,4}"[^"\\\r\n]*+\\{0,4}"|[^\r\n"'\\<])++""")
"""The value of a header, which may have quoted parameters: `Digest username="u", response="x"`."""
_LINE = re.compile(r"(?:(?!\\{1,4}[rn])[^\r\n])*+")
_MEMBER = re.compile(rf"{_MARK}[ \t]{{0,8}}:")
_HEADERS = ("authorization", "cookie", "cookies")
"""Names of HTTP headers whose value may have blanks."""
_KEPT = frozenset({"", "null", "true", "false", "None", "True", "False"})


def without_named(text: str, is_secret: IsSecret) -> str:
    """Return a text without the values after names of secrets."""
    if "</" in text or r"<\/" in text:
        text = _ELEMENT.sub(lambda match: _without_content(match, is_secret), text)
    parts: list[str] = []
    at = 0
    for start, end in _named_values(text, is_secret):
        if text[start:end] in _KEPT or text.startswith(REDACTED, start):
            continue
        parts += (text[at:start], REDACTED)
        at = end
    return "".join((*parts, text[at:])) if parts else text


def _without_content(match: re.Match[str], is_secret: IsSecret) -> str:
    """Return the beginning and the content of an element; without the content if it is that of a secret."""
    if match["value"].strip() in _KEPT or not is_secret(match["name"]):
        return match[0]
    return match[0][: match.start("value") - match.start()] + REDACTED


def _named_values(text: str, is_secret: IsSecret) -> Iterator[tuple[int, int]]:
    """Yield the beginning and the end of each value after the name of a secret."""
    passed = 0
    for match in _NAME.finditer(text):
        if match.start() < passed:
            continue
        name = match["name"] or match["flag"]
        if is_secret(name):
            start, end = match.end(), _end(text, match, name)
            is_pair = match["sign"] is None and match["flag"] is None
            if is_pair and _MEMBER.match(text, end) is not None:
                # `{"type": "password", "label": "x"}` has a name behind the comma, and no value.
                continue
        elif match["quote"] and name in NAME_KEYS and "%" not in (match["sign"] or "%"):
            beside = _BESIDE.match(text, match.end())
            if beside is None or not is_secret(beside["name"]):
                continue
            start, end = beside.end(), _end_beside(text, beside)
        else:
            continue
        passed = end
        yield start, end


def _end(text: str, match: re.Match[str], name: str) -> int:
    """Return the end of the value that begins behind a name."""
    start = match.end()
    if match["quote"]:
        return _quoted_end(text, start, match["quote"])
    if text[start : start + 1] in ("{", "["):
        return value_end(text, start)
    if ":" in (match["sign"] or "") and name.lower().endswith(_HEADERS):
        found = _HEADER.match(text, start)
        return found.end() if found is not None else start
    found = _ENCODED.match(text, start) if match["encoded"] else None
    return found.end() if found is not None else _bare_end(text, start)


def _end_beside(text: str, beside: re.Match[str]) -> int:
    """Return the end of the value that is beside a name."""
    start = beside.end()
    if beside["line"] is not None:
        found = _LINE.match(text, start)
        return found.end() if found is not None else start
    if beside["quote"]:
        return _quoted_end(text, start, beside["quote"])
    return value_end(text, start) if text[start : start + 1] in ("{", "[") else _bare_end(text, start)


def _bare_end(text: str, start: int) -> int:
    """Return the end of a value without quotes; a call, such as `SecretStr('x')`, belongs to it."""
    found = _BARE.match(text, start)
    end = found.end() if found is not None else start
    call = _CALL.match(text, end, end + _LONGEST_CALL)
    return call.end() if call is not None else end


def _quoted_end(text: str, start: int, quote: str) -> int:
    """Return the end of a value behind its first quote; that of the text if it is cut off."""
    closing = _escaped(quote).search(text, start) if len(quote) > 1 else _QUOTED[quote].match(text, start)
    return closing.end() - len(quote) if closing is not None else len(text)


@functools.cache
def _escaped(quote: str) -> re.Pattern[str]:
    """Return what finds an escaped quote; there are eight of them (_MARK)."""
    return re.compile(rf"(?<!\\){re.escape(quote)}")


_QUOTED = {quote: re.compile(rf"(?s:[^\\{quote}]++|\\.|{quote}{quote})*+{quote}") for quote in "'\""}
"""The rest of a quoted value; SQL doubles a quote within it."""
