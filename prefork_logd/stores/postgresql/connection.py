"""Connects to the server, with a time limit for every wait.

Owns how a connection is made, its time limits, and whether an error is trouble of the server, which passes
(StoreError), or the fault of a row. Does not know tables. libpq decides the address, TLS and password, by the dsn and
its own environment variables and files.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import conninfo

from prefork_logd.config.redacting import is_clear
from prefork_logd.errors import StoreError

if TYPE_CHECKING:
    from psycopg.abc import PQGen

_T = TypeVar("_T")

STATEMENT_LIMIT_S = 60.0
"""The server cancels a statement after this time; a batch takes a second."""
LOCK_LIMIT_S = 20.0
"""How long a statement waits for another's lock."""
_CONNECT = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "prefork-logd",
}
"""Defaults for libpq where the dsn has no value: a peer that has vanished is detected."""

OLDEST_VERSION = 14
"""The oldest usable server: older ones cannot detach a partition without blocking readers and writers."""
_REMEDIES = {
    "42501": "grant the role the rights in docs/postgresql.md, section `What it needs`",
    "53300": "raise max_connections, or leave some to this role",
}
"""SQLSTATE to the remedy, where the server's message lacks it."""

_PASSES = ("08", "25", "28", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE that pass by themselves (PostgreSQL manual, appendix A): of connections, transactions and their
conflicts, resources, locks and other states of objects, operators and the system."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every wait for the server ends."""

    answer_limit_s: float = STATEMENT_LIMIT_S * 1.5
    """The longest silence of the server: above its own limit for statements, so the connection is dead."""

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        """Wait for the server, `answer_limit_s` at most; after that the connection is closed."""
        started = time.monotonic()
        limit = self.answer_limit_s if timeout is None else min(timeout, self.answer_limit_s)
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if error.sqlstate is None and time.monotonic() - started >= limit:
                self.pgconn.finish()  # else the driver would wait again, to end the transaction
                raise psycopg.OperationalError(f"no answer within {limit:g} s") from error
            raise


def connect(
    dsn: str, *, statement_limit_s: float = STATEMENT_LIMIT_S, lock_limit_s: float = LOCK_LIMIT_S
) -> Connection:
    """Return a new connection in autocommit. Raises StoreError if the server cannot be reached, or is too old."""
    try:
        given = {name: value for name, value in conninfo.conninfo_to_dict(dsn).items() if value is not None}
        connection = Connection.connect(
            conninfo.make_conninfo("", **{**_CONNECT, **given}), autocommit=True, prepare_threshold=None
        )
    except psycopg.Error as error:
        if not is_clear(dsn):
            raise StoreError(_unclear(error)) from None
        raise store_error(error) from error
    version = connection.info.server_version
    if version < OLDEST_VERSION * 10_000:
        connection.close()
        raise StoreError(
            f"PostgreSQL: the server has version {version // 10_000}; {OLDEST_VERSION} or newer is needed: "
            "upgrade it, or give another one in `dsn`"
        )
    connection.answer_limit_s = statement_limit_s * 1.5
    settings = {
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "statement_timeout": f"{statement_limit_s * 1000:.0f}",
        "lock_timeout": f"{lock_limit_s * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{statement_limit_s * 2000:.0f}",
    }
    try:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        # The journal removes its segments after an acknowledged commit, so that must survive a crash of the server.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    except psycopg.Error as error:
        connection.close()
        raise store_error(error) from error
    return connection


def _unclear(error: psycopg.Error) -> str:
    """Return the fault of a `dsn` without showing any part of it: each may be a password."""
    words = str(error)
    hint = "write key = value pairs, or a URL in which @ / : % ? # of a user or password are escaped (%40 and so on)"
    if "invalid connection option" in words or "invalid URI query parameter" in words:
        hint = "it has a key that libpq does not know"
    elif "percent" in words:
        hint = "in a URL a % is written %25"
    elif 'missing "="' in words:
        hint = "a value with spaces is put in single quotes"
    elif "port" in words:
        hint = "its port is not a number: an @ / : % ? # of a user or password is escaped in a URL (%40 and so on)"
    return (
        f"PostgreSQL: cannot connect with this `dsn`, which is not shown because it may have a password: {hint}; "
        "a password is best kept in libpq's password file"
    )


def store_error(error: psycopg.Error) -> StoreError:
    """Return the error for the shipper: the driver's message on one line, its SQLSTATE, and the remedy if known."""
    words = " ".join(str(error).split()) or type(error).__name__
    code = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    remedy = f"; {_REMEDIES[error.sqlstate]}" if error.sqlstate in _REMEDIES else ""
    return StoreError(f"PostgreSQL: {words}{code}{remedy}")


def is_servers_trouble(error: psycopg.Error) -> bool:
    """Return whether an error passes by itself, or with another connection, and does not depend on the rows."""
    return error.sqlstate is None or error.sqlstate.startswith(_PASSES)


def check_encoding(connection: Connection) -> None:
    """Raise StoreError if the database's encoding cannot hold every text."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = connection.info.dbname
        raise StoreError(
            f"PostgreSQL: database {name} has the encoding {encoding}, which does not hold every text; make another "
            f"one (CREATE DATABASE logs ENCODING 'UTF8' TEMPLATE template0), and name it in `dsn`"
        )
