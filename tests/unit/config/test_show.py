"""Settings as they are printed: complete, and without passwords."""

from __future__ import annotations

import json
import tomllib

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.show import effective, printable
from prefork_logd.errors import StoreError
from tests.support.settings import STATE


def test_what_is_printed_is_what_is_meant() -> None:
    """The effective configuration, read again, is the same."""
    settings = loads('[[output]]\nname = "e"\nlevel = 35\nloggers = ["a.b"]', "", STATE)
    again = loads(effective(settings))
    assert again == settings
    assert [store["type"] for store in tomllib.loads(effective(settings))["store"]] == ["parquet"]
    none = loads("store = []", "", STATE)
    assert loads(effective(none)) == none


@pytest.mark.parametrize(
    "dsn",
    [
        "host=db1 password=geheim dbname=logs",
        "host=db1 password = 'geheim \\' geheim' dbname=logs",
        "postgresql://collector:geheim@db1/logs?sslmode=verify-full",
        "postgresql://db1/logs?password=geheim&sslpassword=geheim",
    ],
)
def test_no_password_is_printed(dsn: str) -> None:
    """What `check` prints may be shown to others; where the database is can still be read in it."""
    settings = loads(f'[[store]]\ntype = "postgresql"\ndsn = {json.dumps(dsn)}', "", STATE)
    text = printable(settings)
    assert "geheim" not in text
    assert "***" in text
    assert "db1" in text
    assert "logs" in text
    assert "geheim" in effective(settings)
    tomllib.loads(text)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:geheim%zz@127.0.0.1:1/db",
        "postgresql://u:geheim/x@127.0.0.1:1/db",
        "postgresql://u:p@geheim@127.0.0.1:1/db",
        "postgresql://u:ab#geheim?x@127.0.0.1:1/db",
        "postgresql://u:geheim@127.0.0.1:abc/db",
        "postgresql://127.0.0.1:1/db?password=geheim%zz",
        "postgresql://127.0.0.1:1/db?user=u&password=geheim&nonsense=1",
        "postgresql://127.0.0.1:1/db?passwor=geheim",
        "host=127.0.0.1 port=1 password=geheim x",
        "host=127.0.0.1 port=1 password = 'geheim",
        "host=127.0.0.1 port=1 password=a geheim",
        "host=127.0.0.1 port=1 PASSWORD=geheim",
        "host=127.0.0.1 port=geheim",
        "host=127.0.0.1 port=1 sslpassword=geheim",
        "host=u:geheim@127.0.0.1 port=1",
        "geheim",
    ],
)
def test_a_password_in_the_wrong_place_is_not_shown(dsn: str) -> None:
    """Neither by `check` nor in the error of a connection that cannot be made; what to do is."""
    settings = loads(f'[[store]]\ntype = "postgresql"\ndsn = {json.dumps(dsn)}', "", STATE)
    assert "geheim" not in printable(settings)
    link = pytest.importorskip("prefork_logd.stores.postgresql.connection")
    with pytest.raises(StoreError) as caught:
        link.connect(dsn)
    assert "geheim" not in str(caught.value)
    assert len(str(caught.value)) > 30
