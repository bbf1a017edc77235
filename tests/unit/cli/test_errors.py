"""The verb `errors` lists groups, shows one and changes it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from prefork_logd.cli.main import cli
from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.stores.errors.store import ErrorStore
from tests.support.error_groups import failed
from tests.support.stores import JOURNAL, block, never

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Ask = Callable[..., Result]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function that runs the verb over two groups."""
    store = ErrorStore(ErrorsSettings(path=str(tmp_path / "groups.db")))
    store.open(JOURNAL)
    other = failed(3).replace(b"in add", rb"in \u001b[1m")
    store.write([block(0, [failed(1), failed(2), other])], never)
    store.close()
    return lambda *words: CliRunner().invoke(cli, ["errors", "--state-dir", str(tmp_path), *words])


def rows(done: Result) -> list[dict[str, object]]:
    """Return the objects that were printed."""
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_one_object_a_line(ask: Ask) -> None:
    """With at least the promised keys."""
    found = rows(ask("--format", "json", "--order", "count"))
    assert [row["count"] for row in found] == [2, 1]
    assert found[0].keys() >= {"id", "title", "count", "first_seen", "last_seen", "state", "services"}
    assert (found[0]["title"], found[0]["state"], found[0]["services"]) == ("KeyError: <number>", "open", ["shop"])
    assert len(rows(ask("--format", "json", "--limit", "1"))) == 1


def test_a_list_for_people_controls_no_terminal(ask: Ask) -> None:
    """Two lines a group; escape sequences of a client are shown as text."""
    lines = ask().stdout.splitlines()
    assert len(lines) == 4
    assert "\x1b" not in "".join(lines)
    assert "KeyError: <number>  (add in cart, shop, 2.4)" in ask("--order", "count").stdout
    assert ask("--service", "nobody").stdout == "no groups\n"


def test_actions(ask: Ask) -> None:
    """Each prints the group as it is now, and the history has its author."""
    key = rows(ask("--format", "json", "--order", "count"))[0]["id"]
    assert isinstance(key, str)
    resolved = rows(ask("resolve", key, "--in", "2.5", "--format", "json"))[0]
    assert (resolved["state"], resolved["resolved_in"]) == ("resolved", "2.5")
    assert rows(ask("reopen", key[3:], "--format", "json"))[0]["state"] == "open"
    muted = rows(ask("mute", key[3:9], "--for", "2h", "--count", "5", "--format", "json"))[0]
    assert (muted["state"], muted["muted_count"]) == ("muted", 7)
    assert abs(float(str(muted["muted_until"])) - time.time() - 7200) < 60
    assert rows(ask("assign", key, "bob", "--format", "json"))[0]["assignee"] == "bob"
    assert rows(ask("note", key, "see ticket 7", "--format", "json"))[0]["note"] == "see ticket 7"
    shown = ask("show", key).stdout
    for text in ("note: see ticket 7", "at cart:17: 2", "from shop prod 2.4: 2", "muted for 7200 s or until 5 more by ",
                 "KeyError: 2", f"query 'fingerprint={key}'"):  # fmt: skip
        assert text in shown
    details = rows(ask("show", key, "--format", "json"))[0]
    assert details.keys() == {"group", "senders", "variants", "forms", "samples", "events", "hours", "hours_from"}
    assert [one["id"] for one in rows(ask("--state", "muted", "--format", "json"))] == [key]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["close", "g1:0123"], "'close' is not an action; write show, resolve, reopen, mute, assign, note"),
        (["show"], "show needs the id of a group"),
        (["assign", "g1:0123"], "assign needs a text after the id"),
        (["note", "g1:0123", "two", "words"], "note takes 2 words; put a text into quotes"),
        (["show", "g1:0000000000000000"], "there is no group g1:0000000000000000"),
        (["show", "x"], "'x' is not the id of a group"),
        (["mute", "g1:0123", "--for", "soon"], "'soon' is not a duration"),
        (["--in", "2.4"], "--in belongs to resolve"),
        (["mute", "g1:0123", "--in", "2.4"], "--in belongs to resolve"),
        (["--for", "8h"], "--for belongs to mute"),
        (["resolve", "g1:0123", "--count", "4"], "--count belongs to mute"),
        (["show", "g1:0123", "--state", "open"], "--state is for the list of groups"),
        (["reopen", "g1:0123", "--limit", "50"], "--limit is for the list of groups"),
        (["--state", "shut"], "'shut' is not a state"),
    ],
)
def test_mistakes_are_explained(ask: Ask, words: list[str], says: str) -> None:
    """With the remedy, and exit status 2."""
    done = ask(*words)
    assert done.exit_code == 2
    assert says in done.stderr


def test_help_has_a_line_for_each_example() -> None:
    """Click keeps the lines of a paragraph only behind a backspace character."""
    lines = CliRunner().invoke(cli, ["errors", "--help"]).stdout.splitlines()
    assert sum(line.startswith("  prefork-logd errors ") for line in lines) == 5


def test_without_groups(tmp_path: Path) -> None:
    """It says what makes them."""
    done = CliRunner().invoke(cli, ["errors", "--state-dir", str(tmp_path)])
    assert "there are no groups yet; they are made by a collector with [errors] and a store" in str(done.exception)


def test_splitting(ask: Ask, tmp_path: Path) -> None:
    """A place gets a group of its own, and joins again; a wrong place is an error that names the right ones."""
    store = ErrorStore(ErrorsSettings(path=str(tmp_path / "groups.db")))
    first = store.open(JOURNAL)
    store.write([block(first, [failed(first).replace(b"line 17", b"line 21")])], never)
    store.close()
    key = str(rows(ask("--format", "json", "--order", "count"))[0]["id"])
    wrong = ask("split", key, "cart:1")
    assert (wrong.exit_code, "its places are cart:17, cart:21" in wrong.output) == (2, True)
    own = rows(ask("split", key, "cart:21", "--format", "json"))[0]
    assert (own["count"], str(own["id"])[:4]) == (1, "g1v:")
    assert "add in cart, cart:21" in ask("show", str(own["id"])).stdout
    assert rows(ask("join", str(own["id"]), "--format", "json"))[0]["count"] == 3


def test_a_group_without_a_place_has_no_empty_parentheses(tmp_path: Path) -> None:
    """A line of JSON may have neither a logger nor a service."""
    store = ErrorStore(ErrorsSettings(path=str(tmp_path / "groups.db")))
    store.open(JOURNAL)
    store.write([block(0, [b'{"created":1.0,"levelno":40,"message":"bare"}\n'])], never)
    store.close()
    done = CliRunner().invoke(cli, ["errors", "--state-dir", str(tmp_path)])
    assert done.stdout.splitlines()[1] == "    bare"
