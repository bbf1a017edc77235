"""The settings of a PostgreSQL store."""

from __future__ import annotations

import importlib.util

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.show import effective, printable
from prefork_logd.config.stores.postgresql import PostgresqlStoreSettings
from tests.support.settings import STATE, problems

TYPE = '[[store]]\ntype = "postgresql"\n'


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read settings as if the library were there, wherever these tests run."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_defaults_need_nothing_else() -> None:
    """The server is the one of libpq's environment; records are kept for a month."""
    settings = PostgresqlStoreSettings()
    assert [*settings.problems()] == []
    assert [*settings.warnings()] == []
    assert (settings.type, settings.retain_s, settings.batch_time_s) == ("postgresql", 30 * 86_400.0, 0.1)
    assert [*settings.files()] == []
    assert settings.resolved("/state") == settings


@pytest.mark.parametrize(
    ("retain", "problem"), [("", ""), ("0d", "must be longer than 0"), ("month", "is not a duration"), ("1d", "")]
)
def test_records_are_kept_for_a_time_or_for_ever(retain: str, problem: str) -> None:
    """An empty time is for ever, 0 is refused."""
    settings = PostgresqlStoreSettings(retain=retain)
    assert [(key, problem in sentence) for key, sentence in settings.problems()] == (
        [("retain", True)] if problem else []
    )
    if not problem:
        assert settings.retain_s == (86_400.0 if retain else 0.0)


@pytest.mark.parametrize(
    ("name", "usable"),
    [("a", True), ("_1", True), ("a" * 48, True), ("a" * 49, False), ("", False), ("1a", False), ("A", False),
     ('a\\"b', False), ("a.b", False), ("a\\n", False)],
)  # fmt: skip
def test_a_schema_needs_no_quotes(name: str, usable: bool) -> None:
    """Nothing that could end or change an SQL identifier is taken."""
    text = f'{TYPE}schema = "{name}"'
    if usable:
        assert loads(text, "", STATE).store[0].schema == name  # type: ignore[attr-defined]
    else:
        assert [problem.split(": ")[:2] for problem in problems(text)] == [["x.toml:3", "store.schema"]]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ((key, sentence),) = PostgresqlStoreSettings().problems()
    assert key == "type"
    assert 'pip install "prefork-logd[postgresql]"' in sentence


@pytest.mark.parametrize("dsn", ["host=db1 password=hidden dbname=logs", "postgresql://me:hidden@db1/logs"])
def test_a_password_is_kept_and_not_shown_to_people(dsn: str) -> None:
    """In both forms of a connection string."""
    settings = loads(f'{TYPE}dsn = "{dsn}"', "", STATE)
    assert "hidden" in effective(settings)
    assert "hidden" not in printable(settings)
    assert "db1" in printable(settings)
