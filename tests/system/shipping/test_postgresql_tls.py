"""TLS by libpq's own settings, and what is said when a server does not let the collector in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql import connection as link
from prefork_logd.stores.postgresql.store import PostgresqlStore
from tests.support.postgresql import NOBODY, Server, find_programs
from tests.support.stores import block, never, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNAL = "e" * 32


def programs_with_tls() -> Path | None:
    """Return the programs of a server that was built with TLS, or None."""
    found = [find_programs(), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    for programs in filter(None, found):
        config = programs / "pg_config"
        if config.exists():
            built = subprocess.run([config, "--configure"], capture_output=True, text=True, check=False).stdout
            if "--with-openssl" in built or "--with-ssl" in built:
                return programs
    return None


PROGRAMS = programs_with_tls()
pytestmark = pytest.mark.skipif(
    PROGRAMS is None or shutil.which("openssl") is None, reason="NO POSTGRESQL SERVER WITH TLS, or no openssl"
)


def make_certificate(directory: Path, name: str) -> Path:
    """Make a certificate for 127.0.0.1 that is its own authority, and its key beside it; return its path."""
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", key, "-out", certificate,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(key, NOBODY, NOBODY)
    return certificate


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Server, str, Path]]:
    """Return a server that takes TLS, where it is, and its certificate."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    server = Server(PROGRAMS, listen_addresses="127.0.0.1", port=port, ssl="on")
    certificate = make_certificate(server.directory, "server")
    server._settings |= {
        "ssl_cert_file": str(certificate),
        "ssl_key_file": str(certificate.with_suffix(".key")),
    }
    try:
        Path(server.data, "pg_hba.conf").write_text(
            "hostssl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        server.start()
        yield server, f"hostaddr=127.0.0.1 port={port} dbname=postgres sslmode=verify-full", certificate
    finally:
        server.remove()


def open_store(dsn: str, schema: str = "tls") -> None:
    """Open a store, and close it."""
    store = PostgresqlStore(dsn, schema=schema)
    try:
        store.open(JOURNAL)
    finally:
        store.close()


def test_records_go_over_tls_to_a_server_that_proved_itself(server) -> None:
    """With sslmode=verify-full and the right authority records are stored, by an encrypted connection."""
    _, place, certificate = server
    dsn = f"{place} host=127.0.0.1 user=postgres sslrootcert={certificate}"
    store = PostgresqlStore(dsn, schema="tls")
    try:
        number = store.open(JOURNAL)
        store.write([block(number, numbered(number, 10))], never)
        with psycopg.connect(dsn) as connection:
            encrypted = connection.execute(
                "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE application_name = 'prefork-logd'"
            ).fetchone()
            stored = connection.execute("SELECT count(*) FROM tls.records").fetchone()
    finally:
        store.close()
    assert encrypted == (True,)
    assert stored == (number + 10,)


def test_a_server_that_proves_nothing_gets_no_record(server, tmp_path: Path) -> None:
    """Another authority, or a name that is not in the certificate: no connection, and the reason in the error."""
    _, place, certificate = server
    stranger = make_certificate(tmp_path, "stranger")
    with pytest.raises(StoreError, match="certificate verify failed"):
        open_store(f"{place} host=127.0.0.1 user=postgres sslrootcert={stranger}")
    with pytest.raises(StoreError, match="does not match host name"):
        open_store(f"{place} host=localhost user=postgres sslrootcert={certificate}")


def test_who_is_not_let_in_is_told_why_and_no_password_is_repeated(server) -> None:
    """A wrong password, a missing database, a role that may not make the schema."""
    _, place, certificate = server
    dsn = f"{place} host=127.0.0.1 sslrootcert={certificate}"
    with psycopg.connect(f"{dsn} user=postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        open_store(f"{dsn} user=guest password=hushhush")
    assert "hushhush" not in str(caught.value)
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        open_store(f"{dsn.replace('dbname=postgres', 'dbname=nowhere')} user=postgres")
    with pytest.raises(StoreError, match=r"permission denied for database postgres \(SQLSTATE 42501\); grant the role"):
        open_store(f"{dsn} user=guest password=right", "another")


def test_a_server_that_is_too_old_is_named(server, monkeypatch) -> None:
    """Its version, the one that is needed, and what to do."""
    _, place, certificate = server
    monkeypatch.setattr(link, "OLDEST_VERSION", 99)
    with pytest.raises(StoreError, match=r"the server has version \d\d; 99 or newer is needed: upgrade it"):
        open_store(f"{place} host=127.0.0.1 user=postgres sslrootcert={certificate}")
