"""JSON that the command line prints has no character that controls a terminal."""

from __future__ import annotations

import json

import pytest

from prefork_logd.alerts import book
from prefork_logd.cli.alert import _described_result
from prefork_logd.cli.print_analysis import Sheet, format_sheet
from prefork_logd.cli.print_json import json_line, spaced_json_line

UNSAFE_TEXT = "\x1b[31m\x9b31m\x7f\x85\u2028\u202e\u2066\ufeff\0\n"


@pytest.mark.parametrize("printed", [json_line, spaced_json_line])
def test_characters_are_escaped(printed):
    """The value is the same; nothing of it acts on a terminal."""
    value = {"a": UNSAFE_TEXT, f"k{UNSAFE_TEXT}": ["é", 1, None]}
    text = printed(value)
    assert json.loads(text) == value
    assert text.isprintable()
    assert "é" in text
    assert "\\u009b" in text


def test_a_lone_surrogate_is_an_escape():
    """JSON has a form for it, UTF-8 has none."""
    assert spaced_json_line({"a": "\udcff"}) == '{"a": "\\udcff"}'


def test_facets_and_statistics():
    """Their values are what clients have sent."""
    (line,) = format_sheet(Sheet(("value", "count"), [[UNSAFE_TEXT, 1]]), "json")
    assert json.loads(line) == {"value": UNSAFE_TEXT, "count": 1}
    assert line.isprintable()


def test_the_answer_of_a_receiver():
    """A receiver's server chooses it."""
    (line,) = _described_result(book.TestResult("ops", False, f"404 {UNSAFE_TEXT}", 0.1))
    assert line.replace("\n\t", "").isprintable()
