"""Stores chosen, made, searched and probed by the rows of their types."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from prefork_logd.config.checks import warnings
from prefork_logd.config.load import loads
from prefork_logd.config.show import effective, printable
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.config.stores.kinds import KINDS, Kind
from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import ConfigError, StoreError
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.processes.master.ownership import require_own_files
from prefork_logd.query.filters import Filters
from prefork_logd.stores import probe, registry
from prefork_logd.stores.base import Block
from tests.support import toy_store
from tests.support.file_store import FileStore
from tests.support.toy_store import ToyStoreSettings

TOML = """
[[store]]
type = "toy"
patience = "500ms"
server = "toy://me:secret@host"
"""
LINE = b'{"created":1700000000.0,"name":"a.b","levelno":20,"message":"hello"}\n'


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the row of the toy: nothing else knows of it."""
    monkeypatch.setitem(KINDS, "toy", toy_store.ROW)


@pytest.mark.usefixtures("_toy")
def test_a_row_is_all_that_the_configuration_needs(tmp_path: Path) -> None:
    """Read, resolved, named, warned of, printed without its password, and carried to another process."""
    settings = loads(TOML, "", {"state_dir": str(tmp_path)})
    (store,) = settings.store
    assert isinstance(store, ToyStoreSettings)
    assert (store.name, store.type, store.patience_s) == ("toy", "toy", 0.5)
    assert store.directory == str(tmp_path / "toys")
    assert warnings(settings) == ["store 'toy': patience is short"]
    assert "secret" in effective(settings)
    assert 'server = "toy://me:***@host"' in printable(settings)
    configuration = Configuration(1, settings, (0,), (0,))
    assert Configuration.from_file(configuration.to_file()) == configuration
    require_own_files(settings)


@pytest.mark.usefixtures("_toy")
@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('[[store]]\ntype = "toy"\npatience = "0s"', "patience: must be longer than 0"),
        ('[[store]]\ntype = "toy"\npatience = ""', "patience: '' is not a duration"),
        ('[[store]]\ntype = "toy"\nDURATIONS = "1s"', "unknown key"),
        ('[[output]]\npath = "toys/records"\n[[store]]\ntype = "toy"', "is the file of 'records'"),
        ('[[store]]\ntype = "toys"', "must be one of parquet, postgresql, nats, custom, toy"),
    ],
)
def test_its_problems_are_found(toml: str, expected: str, tmp_path: Path) -> None:
    """Those of its keys, and those that it has with others."""
    with pytest.raises(ConfigError, match=expected):
        loads(toml, "", {"state_dir": str(tmp_path)})


@pytest.mark.usefixtures("_toy")
def test_a_row_is_all_that_shipping_search_and_check_need(tmp_path: Path) -> None:
    """Written, found again, and probed."""
    settings = loads(TOML, "", {"state_dir": str(tmp_path)})
    registry.import_early(settings.store)
    store = registry.make_store(settings.store[0])
    assert store.open("0" * 32) == 0
    store.write([Block(0, 1, bytes(16), (), LINE)], lambda *_: None)
    store.close()
    assert registry.choose_store(settings, None) is settings.store[0]
    assert [*registry.open_search(settings.store[0]).lines(Filters())] == [LINE]
    assert [*probe.probe_servers(settings)] == [("store 'toy': a toy in toys", ["store 'toy': it may break"])]


def test_what_a_type_cannot_do_is_said() -> None:
    """No search and no probe are no error of the collector."""
    settings = loads('[[store]]\ntype = "custom"\nfactory = "a:b"\nname = "own"', "", {"state_dir": "/state"})
    assert registry.probe_store(settings.store[0]) is None
    with pytest.raises(StoreError, match="a store of type 'custom' cannot be searched"):
        registry.open_search(settings.store[0])
    with pytest.raises(StoreError, match="no store that can be searched is configured"):
        registry.choose_store(settings, None)
    assert registry.choose_store(settings, None, searched=False) is settings.store[0]
    with pytest.raises(StoreError, match="there is no such store; configured: own"):
        registry.choose_store(settings, "other")


def test_a_missing_library_is_told_by_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported early if it can be, and missed only when it is used."""
    monkeypatch.setitem(KINDS, "parquet", Kind(ParquetStoreSettings, store="prefork_logd.no_such_module:make"))
    registry.import_early([ParquetStoreSettings(name="a")])
    with pytest.raises(StoreError, match="store a: cannot be used: No module named"):
        registry.make_store(ParquetStoreSettings(name="a"))


@pytest.mark.parametrize(
    "factory", ["tests.support.file_store:Missing", "no_such_module:b", "tests.support.file_store:FileStore"]
)
def test_somebody_elses_code_fails_as_a_store(factory: str) -> None:
    """A name that is not there, a module that is not there, arguments that it does not take."""
    settings = CustomStoreSettings(name="own", factory=factory, options={"colour": "red"})
    with pytest.raises(StoreError, match="store own: cannot make"):
        registry.make_store(settings)


def test_somebody_elses_code_gets_the_options(tmp_path: Path) -> None:
    """As keyword arguments."""
    settings = CustomStoreSettings(factory="tests.support.file_store:FileStore", options={"directory": str(tmp_path)})
    assert isinstance(registry.make_store(settings), FileStore)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_name_in_a_row_exists(kind: Kind) -> None:
    """A module that moves has to take its row along."""
    for place in (value for value in kind if value and isinstance(value, str)):
        module, _, name = place.partition(":")
        if "postgresql" in module:
            pytest.importorskip("psycopg")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.slow
def test_settings_are_read_without_a_stores_code() -> None:
    """Neither a store's module nor its library is imported to read or carry a configuration."""
    script = """
import sys
from prefork_logd.config.load import loads
from prefork_logd.ipc.configuration import Configuration
toml = "".join(f'[[store]]\\ntype = "{kind}"\\n' for kind in ("parquet", "nats"))
Configuration.from_file(Configuration(1, loads(toml, "", {"state_dir": "/state"}), (0,), (0,)).to_file())
print(*sorted(name for name in sys.modules if name.startswith(("prefork_logd.stores", "duckdb", "psycopg", "nats"))))
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_configuration_of_another_version_may_have_other_types() -> None:
    """An upgrade back to a version without a type reads what it can, and says so."""
    settings = loads("store = []", "", {"state_dir": "/state"})
    plain = msgspec.to_builtins(Configuration(1, settings, (0,), ()))
    plain["settings"]["store"] = [{"type": "of the future"}]
    with pytest.raises(msgspec.ValidationError, match="no store of type 'of the future'"):
        Configuration.decode(msgspec.json.encode(plain))


def test_defaults_of_nats_hold_seconds() -> None:
    """Read when the settings are made, and again when a value is replaced."""
    settings = NatsStoreSettings()
    assert (settings.retain_s, settings.sync_wait_s, settings.timeout_s) == (604_800.0, 300.0, 10.0)
    assert msgspec.structs.replace(settings, retain="", timeout="2s").retain_s == 0.0
    assert msgspec.structs.replace(settings, timeout="2s").timeout_s == 2.0
