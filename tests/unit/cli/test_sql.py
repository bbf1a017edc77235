"""The verb `sql` prints an answer in each form."""

import json

import pytest
from click.testing import CliRunner

from prefork_logd.cli.main import cli
from prefork_logd.config.stores.kinds import KINDS
from tests.support import toy_store
from tests.support.parquet_store import written

STATEMENT = "SELECT number AS n, message, time, [1, 2] AS l, NULL AS none FROM records ORDER BY number"


@pytest.fixture
def ask(tmp_path):
    """Return a function that runs the verb over a store of 1,200 records."""
    written(tmp_path / "records", [1200])
    return lambda *words: CliRunner().invoke(cli, ["sql", "--state-dir", str(tmp_path), *words])


def test_a_table_is_bounded(ask):
    """At a thousand rows; it says so."""
    done = ask(STATEMENT)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["n", "message", "time", "l", "none"]
    assert len(lines) == 1002
    assert lines[2].split()[:3] == ["0", "record", "0"]
    assert done.stderr == "prefork-logd: only the first 1,000 rows; --format csv prints all\n"
    assert ask("SELECT 1 AS one").stdout.split() == ["one", "───", "1"]


def test_json_and_csv_are_whole(ask):
    """One head for CSV, none for JSON."""
    rows = [json.loads(line) for line in ask(STATEMENT, "--format", "json").stdout.splitlines()]
    assert [row["n"] for row in rows] == list(range(1200))
    assert rows[0] == {"n": 0, "message": "record 0", "time": "2026-11-24 12:00:00", "l": [1, 2], "none": None}
    lines = ask(STATEMENT, "--format", "csv").stdout.splitlines()
    assert len(lines) == 1201
    assert lines[:2] == ["n,message,time,l,none", '0,record 0,2026-11-24 12:00:00,"[1, 2]",']
    assert ask("SELECT 'inf'::DOUBLE AS x", "--format", "json").stdout == '{"x": null}\n'


def test_parquet_is_bytes(ask):
    """For a file or a pipe."""
    octets = ask("FROM records", "--format", "parquet").stdout_bytes
    assert octets[:4] == octets[-4:] == b"PAR1"


def test_other_stores_have_no_sql(tmp_path, monkeypatch):
    """A sentence says what to use instead."""
    monkeypatch.setitem(KINDS, "toy", toy_store.ROW)
    (tmp_path / "c.toml").write_text('[[store]]\ntype = "toy"\n')
    done = CliRunner().invoke(
        cli, ["sql", "--config", str(tmp_path / "c.toml"), "--state-dir", str(tmp_path), "SELECT 1"]
    )
    assert "use the database's own shell" in str(done.exception)
