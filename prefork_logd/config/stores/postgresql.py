"""Declares the settings of a store of type "postgresql".

Owns their types, defaults, bounds and help. Connects to no server.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from prefork_logd.config.stores.base import StoreSettings, _retain_problems
from prefork_logd.config.values import MAY_HOLD_PASSWORD, durations

if TYPE_CHECKING:
    from collections.abc import Iterator


class PostgresqlStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="postgresql"):
    """Records in a PostgreSQL database."""

    DURATIONS = durations(StoreSettings.DURATIONS, retain=0.0)

    dsn: Annotated[
        str,
        Meta(
            description='Connection string of libpq, with TLS settings: "host=db1 '
            'dbname=logs sslmode=verify-full" or "postgresql://db1/logs". Empty: libpq\'s environment. Keep '
            "the password in libpq's own password file.",
            extra=MAY_HOLD_PASSWORD["dsn"],
        ),
    ] = ""
    schema: Annotated[
        str,
        Meta(
            pattern=r"^[a-z_][a-z0-9_]{0,47}\Z",
            examples=["logs"],
            description="The schema of its tables; created if missing. Collectors may share it.",
        ),
    ] = "prefork_logd"
    retain: Annotated[
        str,
        Meta(
            description='How long records are kept after their arrival, in whole days, such as "30d"; empty: for ever.'
        ),
    ] = "30d"
    full_text: Annotated[
        bool,
        Meta(description="Build full-text indexes, each when its part of a day is complete."),
    ] = True
    extra_index: Annotated[
        bool,
        Meta(description="Build indexes of the values in extra, each when its part of a day is complete."),
    ] = True

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self)
        if importlib.util.find_spec("psycopg") is None:
            yield "type", '"postgresql" needs psycopg: pip install "prefork-logd[postgresql]"'

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0: for ever."""
        return self.seconds("retain")
