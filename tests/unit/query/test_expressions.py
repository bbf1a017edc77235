"""Regular expressions of RE2, from either library."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from prefork_logd.query.expressions import compile_expression

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["re2", "duckdb"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of the one library that can be imported."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"NO {request.param.upper()}: it is not installed")
    for name in {"re2", "duckdb"} - {request.param}:
        monkeypatch.setitem(sys.modules, name, None)
    compile_expression.cache_clear()
    yield request.param
    compile_expression.cache_clear()


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        (r"a\d", "xa1y", True),
        ("a.b", "a\nb", False),
        ("^b", "a\nb", False),
        ("a$", "a\nb", False),
        ("(?i)é", "É", True),
        ("^$", "", True),
        ("x", "", False),
        ("b", "a\0b", True),
        ("(a*)*(a*)*(a|aa)*$b", "a" * 20_000 + "c", False),
    ],
)
def test_matches(library: str, expression: str, text: str, found: bool) -> None:
    """They are the same."""
    assert bool(compile_expression(expression).search(text.encode())) is found


@pytest.mark.parametrize("text", ["(a", "(?=a)", r"\1", "((((a{500}){500}){500}))", "\udcff"])
def test_what_is_no_expression_is_an_error_for_the_user(library: str, text: str) -> None:
    """It says why."""
    with pytest.raises(ValueError, match="is not a regular expression of RE2: "):
        compile_expression(text)


def test_without_a_library_the_error_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """And how it is installed."""
    for name in ("re2", "duckdb"):
        monkeypatch.setitem(sys.modules, name, None)
    compile_expression.cache_clear()
    with pytest.raises(ValueError, match=r"pip install .prefork-logd\[regex\]."):
        compile_expression("a")
