r"""Finds secrets in texts by their form: payment cards, tokens, HTTP credentials, and passwords in URLs.

Does not know records, settings or the compiled core, which only looks for the beginnings of these forms
(ingest/core_c/secrets.pxi).

A text may be percent-encoded, or the repr() or the JSON of another one, so a form may follow `%20`, `\n` or `\"`. Each
form is searched for in linear time: a stretch of text is tried a fixed number of times.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prefork_logd.records.named_values import without_named
from prefork_logd.records.private_keys import SHORTEST_KEY, without_private_keys
from prefork_logd.records.provider_tokens import PREFIXES, without_provider_tokens
from prefork_logd.records.redacted import ESCAPED, REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.records.named_values import IsSecret

_CREDENTIAL = re.compile(
    rf"""(?:\b|{ESCAPED})
    ((?:basic(?:[ \t\u00a0+]|%20|\\t)++ | bearer(?:(?:[ \t\u00a0+]|%20|\\t)++|["']?[ ]?[:=][ ]?))(?!{REDACTED})["'<]?)
    (?:[^\s"'<>,;(){{}}\[\]\\&]|\\/){{8,}}""",
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)
_URL_USERS = re.compile(
    r"""(://|:\\/\\/)
    (?:[^\s/@]*@ | [^\s/@:"'<>\[]*:(?![0-9]*+/)(?:(?!://|:\\/)[^\s@"'<>])*@)
    (?:[^\s/@"'<>]*@)*""",
    re.VERBOSE,
)
"""A URL up to its last user. A server with several hosts may have one before each: `postgresql://u:p@a,v:q@b/db`. A
password may have a slash that is not encoded; what follows a colon and is a number up to a slash is a port."""
_ENCODED_URL_USERS = re.compile(
    r"""(%(?P<level>(?:25){0,3}+)3[Aa](?:%(?P=level)2[Ff]){2})
    (?P<users>
        (?:(?!%(?P=level)(?:2[Ff]|3[Aa]|40))[^\s"'<>&])*+
        (?:%(?P=level)3[Aa](?![0-9]*+%(?P=level)2[Ff])(?:(?!%(?P=level)3[Aa]%(?P=level)2[Ff])[^\s"'<>&])*)?
    )
    (?=%(?P=level)40)""",
    re.VERBOSE,
)
"""The same of a URL that is percent-encoded, up to four times. What follows the first colon is one password."""
_TOKEN_USER = re.compile(r"(?=(?:[A-Za-z_-]*+[0-9]){2})(?=[0-9_-]*+[A-Za-z])[A-Za-z0-9_-]{20,}")
"""The user of an HTTP URL that is a token and no name, as in `https://TOKEN@host` and `https://TOKEN:x-oauth-basic@host`."""
_DOTTED = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]*+){2,}+")
_TOKEN_BEGIN = re.compile(rf"(?:(?<![A-Za-z0-9])|{ESCAPED})eyJ")
_SIGNED_PARTS, _ENCRYPTED_PARTS, _LEAST_PART = 3, 5, 10
"""How many parts a token has, and the least characters of one; shorter ones are parts of other names with dots."""
_DIGITS = re.compile(r"(?<![0-9])[0-9]++(?:(?:[ .+\u00a0\u2010-\u2013-]|%20|[ ]{2})[0-9]++)*+")
_CARD_LIKE = re.compile(r"[2-6](?:(?:[ .+\u00a0\u2010-\u2013-]|%20|[ ]{2})?[0-9]){12}")
"""What each card's number begins with: most texts are passed over at the speed of a search for a character."""
_GROUP = re.compile(r"%20|([0-9]++)")
_LEAST_DIGITS, _MOST_DIGITS, _CARD_DIGITS = 13, 19, "23456"
_ONCE = bytes(range(256)).translate(bytes.maketrans(b"0123456789", bytes(range(10))))
_TWICE = bytes(range(256)).translate(bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9))))
"""The value of a digit, and the sum of the digits of its double."""
_CARD_GROUPS = ((4, 4, 4, 4, 3), (4, 4, 4, 4), (4, 6, 5), (4, 6, 4))
"""How the digits of cards are grouped, the longest first."""
_LONGEST_NUMBER = 10**16
"""Numbers with more digits are ids far more often than cards."""


def without_credentials(text: str) -> str:
    """Return a text without what follows Bearer or Basic (RFC 7235, RFC 6750)."""
    folded = text.lower()
    if "bearer" not in folded and "basic" not in folded:
        return text
    return _CREDENTIAL.sub(rf"\1{REDACTED}", text)


def without_url_passwords(text: str) -> str:
    """Return a text without the passwords in URLs (RFC 3986, section 3.2.1), and without tokens in place of a user."""
    if "://" in text or r":\/\/" in text:
        text = _URL_USERS.sub(_without_passwords, text)
    return _ENCODED_URL_USERS.sub(_without_encoded_password, text) if "%" in text else text


def _without_passwords(match: re.Match[str]) -> str:
    """Return the users of a URL without their passwords: from a user's colon to the last @ before the next user."""
    shown: list[str] = []
    for part in match[0][len(match[1]) : -1].split("@"):
        hosts, comma, user = part.partition(",") if shown else ("", "", part)
        name, colon, password = user.partition(":")
        if not shown and _is_token_user(match, name):
            name = REDACTED
        if not shown or (comma and colon):
            shown.append(f"{hosts}{comma}{name}{colon}{REDACTED if password else ''}")
        elif not shown[-1].endswith(REDACTED):
            # An @ within a password, or of a user without one: this cannot be told from a secret.
            shown.append(REDACTED)
    return f"{match[1]}{'@'.join(shown)}@"


def _without_encoded_password(match: re.Match[str]) -> str:
    """Return the users of a percent-encoded URL without the password."""
    name, *rest = re.split(f"(%{match['level']}3[Aa])", match["users"], maxsplit=1)
    colon, password = rest or ("", "")
    if _is_token_user(match, name):
        name = REDACTED
    return f"{match[1]}{name}{colon}{REDACTED if password else ''}"


def _is_token_user(match: re.Match[str], name: str) -> bool:
    """Tell whether the user of a URL whose scheme ends before `match` is a token."""
    scheme = match.string[max(0, match.start() - 5) : match.start()].lower()
    return scheme.endswith(("http", "https")) and _TOKEN_USER.fullmatch(name) is not None


def without_tokens(text: str) -> str:
    """Return a text without JSON Web Tokens: signed ones (RFC 7515) and encrypted ones (RFC 7516)."""
    return _DOTTED.sub(lambda match: _without_token(text, match), text) if "eyJ" in text else text


def _without_token(text: str, match: re.Match[str]) -> str:
    """Return parts between dots, of which some may be a token."""
    shown, done, at = "", match.start(), match.start()
    while (found := _TOKEN_BEGIN.search(text, at, match.end())) is not None:
        at, is_token = _token_end(text, found.start(), match.end())
        if is_token:
            shown += f"{text[done : found.start()]}{REDACTED}"
            done = at
    return shown + text[done : match.end()]


def _token_end(text: str, start: int, end: int) -> tuple[int, bool]:
    """Return where a token ends that begins at `start`, and True; else the end of its first part, and False."""
    at = start
    dot = text.find(".", at, end)
    if dot < at + _LEAST_PART:
        return (dot if dot >= 0 else end), False
    ends: list[int] = []
    sizes: list[int] = []
    while len(ends) < _ENCRYPTED_PARTS and at <= end:
        dot = text.find(".", at, end)
        ends.append(dot if dot >= 0 else end)
        sizes.append(ends[-1] - at)
        at = ends[-1] + 1
    for count, parts in ((_ENCRYPTED_PARTS, (0, 2, 3)), (_SIGNED_PARTS, (0, 1, 2))):
        # The second part of an encrypted token, its key, may be empty.
        is_whole = len(ends) >= count and (count == _SIGNED_PARTS or not sizes[1])
        if is_whole and all(sizes[part] >= _LEAST_PART for part in parts):
            return ends[count - 1], True
    return ends[0], False


def without_cards(text: str) -> str:
    """Return a text without numbers of payment cards (ISO/IEC 7812-1), whatever digits stand beside them."""
    if _CARD_LIKE.search(text) is None:
        return text
    return _DIGITS.sub(_without_cards_among, text)


def is_card(number: int) -> bool:
    """Tell whether an integer may be the number of a payment card."""
    return 10 ** (_LEAST_DIGITS - 1) <= number < _LONGEST_NUMBER and _is_card(str(number))


def _without_cards_among(match: re.Match[str]) -> str:
    """Return groups of digits without those that are a card's number."""
    run = match[0]
    if len(run) < _LEAST_DIGITS:
        return run
    groups = [group.span() for group in _GROUP.finditer(run) if group[1]]
    before = match.string[max(0, match.start() - 2) : match.start()]
    # The digits of a percent-encoded character, as in `%204111111111111111`, belong to no number.
    escaped = 2 if before.endswith("%") else 1 if before[:1] == "%" and before[1:].isalpha() else 0
    if escaped and groups[0][1] > escaped and not _is_card(run[: groups[0][1]]):
        groups[:1] = [(0, escaped), (escaped, groups[0][1])]
    sizes = [end - start for start, end in groups]
    shown, done, index, tried = "", 0, 0, 0
    while index < len(groups):
        count = 0
        if run[groups[index][0]] in _CARD_DIGITS:
            count = _grouped_card_at(run, groups, sizes, index)
            if not count and index >= tried:
                count, tried = _any_card_at(run, groups, index)
        if count:
            shown += f"{run[done : groups[index][0]]}{REDACTED}"
            done = groups[index + count - 1][1]
        index += count or 1
    return shown + run[done:]


def _grouped_card_at(run: str, groups: list[tuple[int, int]], sizes: list[int], index: int) -> int:
    """Return how many groups of digits from `index` on are a card's number, grouped as cards are; 0: none."""
    if sizes[index] >= _LEAST_DIGITS:
        return int(_is_card(run[slice(*groups[index])]))
    if sizes[index] == _CARD_GROUPS[0][0]:
        for wanted in _CARD_GROUPS:
            end = index + len(wanted)
            if tuple(sizes[index:end]) == wanted:
                digits = "".join(run[begin:stop] for begin, stop in groups[index:end])
                if _is_card(digits):
                    return len(wanted)
    return 0


def _any_card_at(run: str, groups: list[tuple[int, int]], index: int) -> tuple[int, int]:
    """Return how many groups from `index` on, as many as a card can have, are its number; and the first one not tried.

    Digits may be grouped in any way, but only the longest number counts: else of any list of numbers some would be a
    card's by chance. For the same reason the groups that were tried are not tried again.
    """
    end, digits = index, ""
    while end < len(groups):
        longer = digits + run[slice(*groups[end])]
        if len(longer) > _MOST_DIGITS or (end > index and run[groups[end - 1][1] : groups[end][0]] not in (" ", "-")):
            break
        digits, end = longer, end + 1
    return (end - index if _is_card(digits) else 0), max(end, index + 1)


def _is_card(digits: str) -> bool:
    """Tell whether digits can be a card's number: by the first one, their count, and Luhn's checksum (annex B)."""
    if not _LEAST_DIGITS <= len(digits) <= _MOST_DIGITS or digits[0] not in _CARD_DIGITS:
        return False
    octets = digits.encode()
    return not (sum(octets[-1::-2].translate(_ONCE)) + sum(octets[-2::-2].translate(_TWICE))) % 10


FORMS: dict[str, Callable[[str, IsSecret], str]] = {
    "private-key": lambda text, _: without_private_keys(text),
    "key-value": without_named,
    "bearer": lambda text, _: without_credentials(text),
    "card": lambda text, _: without_cards(text),
    "jwt": lambda text, _: without_tokens(text),
    "provider-token": lambda text, _: without_provider_tokens(text),
    "url-password": lambda text, _: without_url_passwords(text),
}
"""Name of each form to the function that returns a text without it, which is given what tells the names of secrets; in
the order in which they are applied: a named value may have one of the other forms."""

SHORTEST = {"private-key": SHORTEST_KEY, "provider-token": min(len(prefix.text) + prefix.least for prefix in PREFIXES)}
"""Characters of the shortest text that may have a form, where it is worth a look at the length."""
