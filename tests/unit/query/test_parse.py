"""Names of levels: those that every collector knows, and those that records carry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from prefork_logd.cli.main import cli
from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.query import tree
from prefork_logd.query.parse import make_filters
from prefork_logd.query.search import levels_by_name
from prefork_logd.query.where import parse_condition
from prefork_logd.query.written import Written
from prefork_logd.stores.parquet.store import ParquetStore
from tests.support.stores import block, line, never

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "number"), [("NOTICE", 25), ("success", 25), ("Trace", 5), ("fatal", 50), ("warn", 30), ("35", 35)]
)
def test_names_that_every_collector_knows(name: str, number: int) -> None:
    """In filters and in the configuration, in any case; records are not asked."""
    assert make_filters(Written(level=name), carried=lambda: pytest.fail("asked")).tree == tree.level_from(number)
    assert OutputSettings(level=name).levelno == number
    assert [*OutputSettings(level=name).problems()] == []


def test_a_name_that_is_not_known_lists_those_that_are() -> None:
    """And those that records carry, if there are any."""
    with pytest.raises(ValueError, match=r"'LOUD' is not a level; .*NOTICE.* records carry \(AUDIT\), or a"):
        make_filters(Written(level="LOUD"), carried=lambda: {"AUDIT": 35, "INFO": 21})
    assert "SUCCESS" in next(OutputSettings(level="AUDIT").problems())[1]


def test_the_flags_about_the_sender() -> None:
    """They are conditions on the fields of these names."""
    assert make_filters(Written(service="shop", environment="prod", host="web-1")).tree == tree.all_of(
        parse_condition(text) for text in ("service=shop", "environment=prod", "host=web-1")
    )


def test_text_and_flags_are_conditions_of_one_tree() -> None:
    """Each has to be met; a range of time in the text is that of the flags."""
    written = Written(
        "timeout created>=@100 time<@300", "ERROR", loggers=["a", "b"], grep=["disk full"], conditions=["lineno>3"]
    )
    found = make_filters(written, since="@50", until="@200")
    assert (found.since, found.until) == (100.0, 200.0)
    assert set(tree.conjuncts(found.tree)) == {
        tree.level_from(40), tree.any_of((tree.logger("a"), tree.logger("b"))), tree.Words(("disk",)),
        tree.Words(("full",)), tree.Compare(("lineno",), ">", "3"), tree.Words(("timeout",)),
    }  # fmt: skip


def test_levels_by_name() -> None:
    """The least number of a name; what is no text, or has no number, names none."""
    pairs = [("Audit", 36), ("AUDIT ", 35), ("x", None), (None, 1), ("", 3), ("INFO", 20)]
    assert levels_by_name(pairs) == {"AUDIT": 35, "INFO": 20}


def test_query_and_tail_know_the_levels_that_records_carry(tmp_path: Path) -> None:
    """By their names in any case."""
    lines = [line(levelno=20 + number % 2 * 15, levelname=("INFO", "Audit")[number % 2]) for number in range(10)]
    store = ParquetStore(ParquetStoreSettings(path=str(tmp_path / "records")))
    store.open("b" * 32)
    store.write([block(0, lines)], never)
    store.close()
    (tmp_path / "records.jsonl").write_bytes(b"".join(lines))
    for verb, toml in (("query", '[[store]]\ntype = "parquet"'), ("tail", "store = []")):
        (tmp_path / "logd.toml").write_text(toml)
        flags = ["--config", str(tmp_path / "logd.toml"), "--state-dir", str(tmp_path), verb]
        done = CliRunner().invoke(cli, [*flags, "--level", "audit", "--format", "json"])
        assert done.exit_code == 0
        shown = [json.loads(one) for one in done.stdout.splitlines() if one.startswith("{")]
        assert [one["levelno"] for one in shown] == [35] * 5
        done = CliRunner().invoke(cli, [*flags, "--level", "loud"])
        assert done.exit_code == 2
        assert "(AUDIT)" in " ".join(done.output.split())
