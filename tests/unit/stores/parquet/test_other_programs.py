"""The examples of docs/parquet.md read a store's files with other programs, and all give the same answer."""

import ast
import contextlib
import re
from pathlib import Path

import pytest

from tests.support.parquet_store import JOURNAL, NOON, make_store
from tests.support.stores import block, line, never

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "parquet.md"
ANSWER = [("shop.orders", 3), ("shop.cart", 1)]


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Make a store in ./records: two days, odd lines, and errors of two tenants."""
    monkeypatch.chdir(tmp_path)
    store = make_store(tmp_path / "records")
    store.open(JOURNAL)
    lines = [
        line(NOON + at * 9000, name=name, levelno=levelno, msg=str(at), **extra)
        for at, (name, levelno, extra) in enumerate(
            [
                *[("shop.orders", 40, {"tenant": "north"})] * 3,
                ("shop.orders", 20, {"tenant": "north"}),
                ("shop.orders", 50, {"tenant": "south"}),
                ("shop.cart", 40, {"tenant": "north", "nested": {"tenant": "south"}}),
                ("shop.cart", 40, {}),
            ]
        )
    ]
    with contextlib.closing(store):
        store.write([block(0, lines[:4])], never)
        store.write([block(4, lines[4:])], never)


def _example(language, word):
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


def _value(code):
    """Return the value of the last expression of some code."""
    tree = ast.parse(code)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    names = {}
    exec(compile(tree, "example", "exec"), names)
    return eval(compile(ast.Expression(last.value), "example", "eval"), names)


@pytest.mark.usefixtures("records")
def test_duckdb():
    """DuckDB's own Python module, without ours."""
    assert _value(_example("python", "import duckdb")).fetchall() == ANSWER


@pytest.mark.usefixtures("records")
def test_polars():
    """Polars reads lazily."""
    pytest.importorskip("polars")
    assert _value(_example("python", "import polars")).rows() == ANSWER


@pytest.mark.usefixtures("records")
def test_pandas():
    """Of a directory, with the columns and rows that are asked for."""
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    assert list(_value(_example("python", "import pandas")).items()) == ANSWER


@pytest.mark.usefixtures("records")
def test_clickhouse():
    """ClickHouse's engine, in this process."""
    chdb = pytest.importorskip("chdb")
    rows = str(chdb.query(_example("sql", "JSONExtractString"), "CSV")).split()
    assert rows == [f'"{name}",{count}' for name, count in ANSWER]
