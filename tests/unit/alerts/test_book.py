"""People list, make, change and silence rules; each mistake has a sentence."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts import book as module
from prefork_logd.alerts.book import AlertBook, NoSuchRuleError, RuleProblemError, RuleRefusedError
from prefork_logd.cli.alert import _described_rule
from prefork_logd.config.alerts import AlertSettings
from prefork_logd.config.load import loads
from prefork_logd.records.render import asctime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOML = '[[receiver]]\nname = "ops"\ntype = "command"\ncommand = ["/bin/true"]\n[[alert]]\nname = "b"\nsend = ["ops"]\n'


@pytest.fixture
def book(tmp_path: Path) -> Iterator[AlertBook]:
    """Return the rules of a collector with one of the configuration."""
    with contextlib.closing(AlertBook(loads(TOML, "", {"state_dir": str(tmp_path)}), tmp_path, lambda: 1e9)) as made:
        yield made


def rule(**given: Any) -> AlertSettings:
    return AlertSettings(**{"name": "mine", "send": ("ops",), **given})


def test_looking_makes_no_file(book: AlertBook, tmp_path: Path) -> None:
    """The first change does."""
    assert [(row.name, row.source, row.state) for row in book.rules()] == [("b", "configuration", "unknown")]
    assert book.incidents() == []
    assert not (tmp_path / "alerts.db").exists()
    assert book.silence("b", 60, "me").silenced_until == 1e9 + 60
    assert (tmp_path / "alerts.db").exists()


def test_a_rule_is_made_changed_and_removed(book: AlertBook) -> None:
    """Also under another name; those of the configuration come first."""
    assert book.make(rule(), "anna").author == "anna"
    assert [row.name for row in book.rules()] == ["b", "mine"]
    assert book.change("mine", rule(name="a rule", above=7), "ben").above == 7
    assert [row.name for row in book.rules()] == ["b", "a rule"]
    book.remove("a rule")
    assert [row.name for row in book.rules()] == ["b"]


@pytest.mark.parametrize(
    ("given", "key", "said"),
    [
        ({"name": ""}, "name", "needs 1 to 64 letters"),
        ({"name": "a/b"}, "name", "needs 1 to 64 letters"),
        ({"name": "incidents"}, "name", "is an address of the page"),
        ({"send": ()}, "send", "is empty, so no notice would be sent"),
        ({"send": ("ops", "ops")}, "send", "names a receiver twice"),
        (
            {"send": ("http://evil",)},
            "send",
            "'http://evil': there is no such receiver; configured ([[receiver]]): ops",
        ),
        ({"query": "a AND"}, "query", "column 6 of the query"),
        ({"store": "x"}, "store", "'x': there is no such store"),
        ({"window": "8d"}, "window", "must be from a second to 7 days"),
        ({"window": "10s"}, "window", "is shorter than `every`"),
        ({"every": "10ms"}, "every", "must be a second or more"),
        ({"for_": "soon"}, "for", "'soon' is not a duration"),
        ({"repeat": "1s"}, "repeat", "must be a minute or more"),
        ({"service": "x"}, "service", 'has no meaning for on = "count"'),
        ({"on": "new-group", "query": "x"}, "query", 'has no meaning for on = "new-group"'),
    ],
)
def test_a_rule_that_cannot_be(book: AlertBook, given: dict[str, Any], key: str, said: str) -> None:
    """With the key and a sentence, as for the configuration."""
    with pytest.raises(RuleProblemError) as caught:
        book.make(rule(**given), "anna")
    assert caught.value.key == key
    assert said in str(caught.value)


def test_names_are_taken(book: AlertBook) -> None:
    """By the configuration, and by rules of the page."""
    book.make(rule(), "anna")
    book.make(rule(name="other"), "anna")
    with pytest.raises(RuleRefusedError, match="a rule of the configuration file"):
        book.make(rule(name="b"), "anna")
    with pytest.raises(RuleProblemError, match="taken by another rule"):
        book.make(rule(), "anna")
    with pytest.raises(RuleProblemError, match="taken by another rule"):
        book.change("mine", rule(name="other"), "anna")
    for change in (lambda: book.change("b", rule(), "x"), lambda: book.remove("b")):
        with pytest.raises(RuleRefusedError, match="change it there"):
            change()
    for missing in (book.rule, book.remove, book.begin_test, lambda name: book.silence(name, 1, "x")):
        with pytest.raises(NoSuchRuleError, match="there is no rule 'nothing'"):
            missing("nothing")


def test_rules_and_tests_are_bounded(book: AlertBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client cannot fill the disk with them."""
    monkeypatch.setattr(module, "MAX_ALERTS", 1)
    monkeypatch.setattr(module, "MOST_TESTS", 1)
    book.make(rule(), "anna")
    with pytest.raises(RuleRefusedError, match="there are 1 rules already"):
        book.make(rule(name="another"), "anna")
    incident = book.begin_test("mine")
    with pytest.raises(RuleRefusedError, match="have not ended yet"):
        book.begin_test("mine")
    results, is_over = book.test_results(incident)
    assert [(one.receiver, one.ok, one.answer) for one in results] == [("ops", False, "no answer yet")]
    assert not is_over


def test_a_silence_has_an_end(book: AlertBook) -> None:
    """At most a year away; 0 ends it at once."""
    assert book.silence("b", 1e12, "me").silenced_until == 1e9 + 366 * 86_400
    assert book.silence("b", 0, "me").silenced_until == 0


def test_a_rule_that_was_not_evaluated_for_long_is_shown(book: AlertBook, tmp_path: Path) -> None:
    """A collector that does not run, or cannot write alerts.db, says nothing itself."""
    (row,) = book.rules()
    assert not module.is_stale(row, 1e9)
    for age_s, every, expected in ((119, "1s", False), (121, "1s", True), (121, "1m", False), (181, "1m", True)):
        row.evaluated_at, row.every = 1e9 - age_s, every
        assert module.is_stale(row, 1e9) == expected
    row.evaluated_at = 1e9
    lines = list(_described_rule(row))
    assert lines[1] == f"    not evaluated since {asctime(1e9)[:19]}"
