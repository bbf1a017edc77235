"""Declares the settings of `[redact]`: the values of a record that are not stored.

Owns their types, defaults, bounds and help. Does not know how a record is searched (records/redaction.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from prefork_logd.config.values import TableSettings
from prefork_logd.records.redaction import MAX_PATTERNS, Redactor, split_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

Form = Literal["bearer", "card", "jwt", "key-value", "private-key", "provider-token", "url-password"]
DEFAULT_KEYS = (
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*passcode",
    "*secret",
    "*secrets",
    "*secretkey",
    "*token",
    "*authorization",
    "*cookie",
    "*cookies",
    "*apikey",
    "*apikeys",
    "*accesskey",
    "*accesskeys",
    "*privatekey",
    "*privatekeys",
    "*signingkey",
    "*encryptionkey",
    "*sessionkey",
    "*credential",
    "*credentials",
    "jwt",
    "pwd",
)


class RedactSettings(TableSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Secrets that are replaced by "<redacted>" before a record is written anywhere."""

    keys: Annotated[
        tuple[str, ...],
        Meta(
            max_length=MAX_PATTERNS,
            description="Keys of extra, at any depth, whose values are replaced; null, true and false stay. Only "
            "letters and digits count, without their case, and no number at the end; "
            '"*" at the beginning or the end stands for any characters. An empty list: none.',
        ),
    ] = DEFAULT_KEYS
    allow: Annotated[
        tuple[str, ...],
        Meta(max_length=MAX_PATTERNS, description="Keys that stay although a pattern of `keys` finds them."),
    ] = ()
    values: Annotated[
        tuple[Form, ...],
        Meta(
            description="Forms of secrets that are replaced in message, exc_text, stack_info, the names of logger, "
            'process, thread and task, and the texts and keys of extra. "bearer": the text after Bearer or Basic; '
            '"card": numbers of payment cards; "jwt": JSON Web Tokens; "key-value": the value after a key of `keys`, '
            'as in password=x or "token": "x", also in XML and forms; "private-key": private keys in PEM and the like; '
            '"provider-token": tokens of well-known providers, such as ghp_x; "url-password": the password in a URL.',
        ),
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        for pattern in self.keys:
            try:
                split_pattern(pattern)
            except ValueError as error:
                yield "keys", str(error)
        for key in self.allow:
            if "*" in key:
                yield "allow", f"{key!r} has *; name each key that stays"

    def redactor(self) -> Redactor:
        """Return what applies these settings to records."""
        return Redactor(self.keys, self.allow, self.values)
