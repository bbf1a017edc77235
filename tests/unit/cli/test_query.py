"""Answers of `query` about records: which flags go together, and what is printed."""

from __future__ import annotations

import csv
import io
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from prefork_logd.cli import query as query_verb
from prefork_logd.cli.main import cli
from prefork_logd.config.stores.kinds import KINDS
from prefork_logd.query import by_lines
from tests.support import toy_store
from tests.support.stores import line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

LINES = [
    line(
        1_795_404_250.5 + number, name=("shop", "shop.cart")[number % 2], levelno=20 + number % 3 * 10,
        msg=f"took {number} ms", status=200 if number % 4 else 500, duration_ms=number / 2, note="\x1b[31m\n=1",
    )
    for number in range(40)
]  # fmt: skip


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Result]:
    """Return a function that runs `query` with a store of LINES."""
    (tmp_path / "logd.toml").write_text('[[store]]\ntype = "parquet"\n')
    (tmp_path / "old.jsonl").write_bytes(b"".join(LINES))
    flags = ["--config", str(tmp_path / "logd.toml"), "--state-dir", str(tmp_path)]
    assert CliRunner().invoke(cli, [*flags, "import", str(tmp_path / "old.jsonl")]).exit_code == 0
    return lambda *words: CliRunner().invoke(cli, [*flags, "query", *words])


def test_facets(ask: Callable[..., Result]) -> None:
    """A line for each value, for the others, and for the records without one."""
    done = ask("level>=30", "--facet", "status", "--facet", "name", "--top", "1", "--format", "json")
    found = [json.loads(one) for one in done.stdout.splitlines()]
    assert [(one["field"], one["value"], one["of"]) for one in found] == [
        ("status", 200, None), ("status", None, "other values"),
        ("name", "shop", None), ("name", None, "other values"),
    ]  # fmt: skip
    assert sum(one["count"] for one in found if one["field"] == "status") == 26
    table = ask("--facet", "absent").stdout.splitlines()
    assert table[0].split() == ["field", "value", "count", "of"]
    assert table[2].split() == ["absent", "40", "no", "value"]
    assert table[-1] == "40 records"


def test_levels_have_names_for_people(ask: Callable[..., Result]) -> None:
    """In facets and groups of `level`; programs get numbers, and so does `levelno`."""
    rows = [one.split() for one in ask("--facet", "level", "--facet", "levelno").stdout.splitlines()]
    assert rows[2:8] == [
        ["level", "INFO", "14"], ["level", "WARNING", "13"], ["level", "ERROR", "13"],
        ["levelno", "20", "14"], ["levelno", "30", "13"], ["levelno", "40", "13"],
    ]  # fmt: skip
    groups = ask("--stats", "count by level", "--format", "table").stdout.splitlines()
    assert groups[2].split() == ["INFO", "14"]
    for form in ("json", "csv"):
        for question in (("--facet", "level"), ("--stats", "count by level")):
            assert "INFO" not in ask(*question, "--format", form).stdout


def test_patterns_of_the_newest_messages_only_say_so(
    ask: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their number and the remedy, on standard error where the output is for a program."""
    monkeypatch.setattr(by_lines, "SAMPLED_MESSAGES", 7)
    says = "of the newest 7 records; --until and more conditions lead to older ones"
    assert ask("--patterns").stdout.splitlines()[-1] == says
    done = ask("--patterns", "--format", "json")
    assert json.loads(done.stdout)["count"] == 7
    assert says in done.stderr


def test_statistics(ask: Callable[..., Result]) -> None:
    """As a table, as JSON with numbers, and as CSV."""
    question = ("--stats", "count, max(extra.duration_ms), avg(absent) by name, status")
    found = [json.loads(one) for one in ask(*question, "--format", "json").stdout.splitlines()]
    assert found[0] == {
        "name": "shop.cart",
        "status": 200,
        "count": 20,
        "max(extra.duration_ms)": 19.5,
        "avg(absent)": None,
    }
    assert [one["count"] for one in found] == [20, 10, 10]
    rows = list(csv.reader(io.StringIO(ask(*question, "--format", "csv").stdout, newline="")))
    assert rows[1] == ["shop.cart", "200", "20", "19.5", ""]
    assert ask(*question).stdout.splitlines()[2].split() == ["shop.cart", "200", "20", "19.5"]


def test_fields(ask: Callable[..., Result]) -> None:
    """With their types and shares."""
    found = [json.loads(one) for one in ask("--fields", "--format", "json").stdout.splitlines()]
    assert {"field": "extra.status", "type": "number", "records": 40, "share": 1.0} in found


def test_patterns(ask: Callable[..., Result]) -> None:
    """With their number and times."""
    shown = ask("--patterns").stdout.splitlines()
    assert shown[0].split() == ["count", "first", "last", "pattern"]
    assert shown[2].split()[0] == "40"
    assert shown[2].endswith("took <number> ms")


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN)],
    ids=["in the foreground", "in the background"],
)
def test_sigint_ends_a_search_at_once_unless_it_is_ignored(
    ask: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, before: Any, meanwhile: Any
) -> None:
    """A job in the background ignores it; afterwards it is as it was."""
    seen = []
    monkeypatch.setattr("prefork_logd.cli.query._print", lambda *_: seen.append(signal.getsignal(signal.SIGINT)))
    given = signal.signal(signal.SIGINT, before)
    try:
        assert ask().exit_code == 0
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGINT, given)
    assert seen == [meanwhile]


def test_what_clients_send_does_not_control_the_terminal(ask: Callable[..., Result]) -> None:
    """In a table and in CSV, where it is no formula either."""
    shown = ask("--facet", "note").stdout
    assert "\x1b" not in shown
    assert "=1" in shown
    assert "\x1b" not in ask("--facet", "note", "--format", "csv").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--count", "--fields"), "--count and --fields do not go together"),
        (("--facet", "name", "--patterns"), "--facet and --patterns do not go together"),
        (("--ids", "--format", "csv"), "--ids is for records as text or JSON"),
        (("--ids", "--count"), "--ids is for records"),
        (("--around", "x", "--level", "ERROR"), "leave the conditions out"),
        (("--around", "x", "--format", "csv"), "--around prints text or JSON"),
        (("--around", "x"), "'x' is not the id of a record; write one as `query --ids` prints it"),
        (("--same", "thread"), "--same belongs to --around"),
        (("--count", "--limit", "1"), "--limit is for records; --count is about all that match"),
        (("--facet", "name", "--limit", "0"), "--limit is for records; --facet is about all that match"),
        (("--count", "--format", "json"), "--count prints text"),
        (("--histogram", "--format", "csv"), "--histogram prints text"),
        (("--fields", "--top", "3"), "--top belongs to --facet and --patterns"),
        (("--before", "3"), "--before and --after belong to --around"),
        (("--after", "0", "--count"), "--before and --after belong to --around"),
        (("--stats", "mode(x)"), "'mode(x)' is not an aggregate"),
        (("--facet", "a b"), "'a b' is not a field"),
    ],
)
def test_flags_that_do_not_go_together(ask: Callable[..., Result], words: tuple[str, ...], says: str) -> None:
    """A usage error that says what to write."""
    done = ask(*words)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())


def test_a_store_without_ids_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence, and a status."""
    monkeypatch.setitem(KINDS, "toy", toy_store.ROW)
    (tmp_path / "logd.toml").write_text('[[store]]\ntype = "toy"\n')
    flags = ["--config", str(tmp_path / "logd.toml"), "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(cli, [*flags, "query", "--ids"])
    assert (done.exit_code, "no ids of records" in str(done.exception) + done.stderr) == (1, True)


def test_a_person_gets_hints(ask: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """About a query that has found nothing, on standard error; a script, and a limit of 0, get none."""
    assert ask("statsu=500").stderr == ""
    monkeypatch.setattr(query_verb, "_is_seen", lambda: True)
    for form in ("text", "csv", "table", "json"):
        done = ask("statsu=500 and took", "--format", form)
        assert (done.exit_code, done.stderr.count("\n")) == (0, 2)
        assert (
            "column 1 of the query: none of the newest 40 records has a field `statsu`; one is `status`" in done.stderr
        )
        assert "; perhaps 'status=500 and took'\n" in done.stderr
    assert "perhaps logger:shop" in ask("--ids", "logger:shp").stderr
    assert ask("statsu=500", "--limit", "0").stderr == ""
    assert ask("took", "--format", "json").stderr == ""
    assert ask("statsu=500", "--count").stderr == ""
