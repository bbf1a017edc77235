"""Prints settings as TOML: whole, or without passwords for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import msgspec
import tomli_w

from prefork_logd.config.redacting import redacted_address, redacted_dsn, redacted_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.settings import Settings
    from prefork_logd.config.web import WebUserSettings

_Table = TypeVar("_Table", bound=msgspec.Struct)


_REDACTORS: dict[str, Callable[[str], str]] = {
    "dsn": redacted_dsn,
    "url": redacted_url,
    "address": redacted_address,
}
"""The functions that hide the password in a value, by the form of the value (values.MAY_HOLD_PASSWORD)."""


def printable(settings: Settings) -> str:
    """Return the same as `effective` without passwords, for `check`."""
    return effective(
        msgspec.structs.replace(
            settings,
            store=tuple(map(_without_passwords, settings.store)),
            sources=tuple(map(_without_passwords, settings.sources)),
            receiver=tuple(map(_without_passwords, settings.receiver)),
            web=msgspec.structs.replace(settings.web, user=tuple(map(_without_hash, settings.web.user))),
        )
    )


def _without_hash(user: WebUserSettings) -> WebUserSettings:
    """Return a user of the page without the hash of the password: a weak password could be found from it."""
    return msgspec.structs.replace(user, password="***")  # noqa: S106 - hides one


def _without_passwords(table: _Table) -> _Table:
    """Return a table with the passwords hidden in each value marked with MAY_HOLD_PASSWORD."""
    changed: dict[str, Any] = {}
    for key, hint in get_type_hints(type(table), include_extras=True).items():
        for meta in getattr(hint, "__metadata__", ()):
            redact = _REDACTORS.get((meta.extra or {}).get("password", ""))
            if redact is not None:
                value = getattr(table, key)
                changed[key] = redact(value) if isinstance(value, str) else tuple(map(redact, value))
    return msgspec.structs.replace(table, **changed)


def effective(settings: Settings) -> str:
    """Return the whole configuration as TOML, defaults included."""
    document = msgspec.to_builtins(settings)
    document["source"] = document.pop("sources")
    del document["path"]
    for own in ("type", "name"):
        del document["errors"][own]
    return tomli_w.dumps(document)
