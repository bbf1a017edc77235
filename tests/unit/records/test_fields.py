"""The fields of a record are listed in records/record.py; every other list of them agrees with it.

What can be derived is derived (records/stored.py from Row on, stores/rows.py, query/where.py, cli/print_records.py,
stores/postgresql/search.py). The lists here are written out, because a type checker, a compiler, a database or a reader
needs them so.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from prefork_logd.config.outputs import DEFAULT_TEMPLATE
from prefork_logd.query import tree
from prefork_logd.records import imported_names, stored
from prefork_logd.records.record import INTEGER_FIELDS, OUR_ATTRIBUTES, OWN_FIELDS, SENDER_FIELDS, TEXT_FIELDS, Record
from prefork_logd.records.render import TextTemplate
from prefork_logd.records.sender import Sender
from prefork_logd.stores import rows
from prefork_logd.stores.postgresql import copy_rows, reader

ROOT = Path(__file__).resolve().parents[3]
FIELDS = Record.__struct_fields__
SENT = tuple(name for name in FIELDS if name in TEXT_FIELDS | INTEGER_FIELDS or name in ("message", "msg"))
"""What a line holds as the client sent it, in its order."""
LISTS = {"truncated": "list of texts", "exception": "list of objects"}


def _kind(name: str) -> str:
    if name in INTEGER_FIELDS:
        return "integer"
    if name in ("created", "received"):
        return "number"
    return "object" if name == "extra" else LISTS.get(name, "text")


def _source(path: str) -> str:
    return (ROOT / path).read_text()


def _snake(name: str) -> str:
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).upper()


def test_each_field_is_of_one_kind() -> None:
    """It is an integer, a text, or one of those that are not simply an attribute of the same name."""
    assert set(FIELDS) == INTEGER_FIELDS | TEXT_FIELDS | OWN_FIELDS
    assert len(INTEGER_FIELDS) + len(TEXT_FIELDS) + len(OWN_FIELDS) == len(FIELDS)


def test_lines_are_read_with_the_fields_that_are_written() -> None:
    """Row has the same names in the same order; objects, lists and `peer` are of other types."""
    assert stored.FIELDS == FIELDS
    assert set(LISTS) == set(stored.LIST_COLUMNS)
    types, others = get_type_hints(Record, include_extras=True), get_type_hints(stored.Row, include_extras=True)
    assert {name for name in FIELDS if types[name] != others[name]} == {"extra", "peer", "received", *LISTS}
    assert set(stored.TEXT_COLUMNS) == TEXT_FIELDS | {"message", "msg", "peer", "peer_name", *SENDER_FIELDS}


def test_every_field_has_names_elsewhere() -> None:
    """Each field that a client may send is found in other people's JSON under a name, its own among them."""
    named = {
        "message": imported_names.MESSAGES,
        "levelname": imported_names.LEVEL_NAMES,
        "created": imported_names.TIMES,
        "time": imported_names.TIMES,
        **imported_names.OTHERS,
        **imported_names.SENDER,
    }
    assert named.keys() | {"name", "levelno", "msg"} == {*SENT, "created", "time", *SENDER_FIELDS}
    for field, names in named.items():
        assert field in names


def test_the_fields_about_the_sender_are_the_same_everywhere() -> None:
    """A session sends each of them, and the compiled core writes each of them, in the order of a line."""
    assert Sender._fields[: len(SENDER_FIELDS)] == SENDER_FIELDS
    assert tuple(name for name in FIELDS if name in SENDER_FIELDS) == SENDER_FIELDS
    names = re.search(r"^_SENDER_NAMES = (\(.*\))$", _source("prefork_logd/ingest/_core_c.pyx"), re.MULTILINE)
    assert names is not None
    assert ast.literal_eval(names[1]) == (*SENDER_FIELDS, "peer_name") == Sender._fields[: len(SENDER_FIELDS) + 1]


def test_a_text_search_looks_into_texts() -> None:
    """The fields of --grep are texts of a record."""
    assert set(tree.TEXT_FIELDS) <= TEXT_FIELDS | {"message"}


def test_the_default_template_names_fields() -> None:
    """A name that no record has would be a - in every line."""
    names = {part[0] for part in TextTemplate(DEFAULT_TEMPLATE).parts if isinstance(part, tuple)}
    assert names <= {*FIELDS, "asctime", "msecs"}


def test_postgresql_has_a_column_for_each_field() -> None:
    """In lower case, and of the field's type; `time` follows from `created`, and is a column of PostgreSQL's own."""
    own = {"day", "slice", "number", "time", "raw"}
    types = dict(copy_rows.COLUMNS)
    assert types.keys() - own == {name.lower() for name in rows.COLUMNS}
    wanted = {"text": 'text COLLATE "C"', "integer": "bigint", "number": "double precision NOT NULL", "object": "jsonb"}
    wanted |= dict.fromkeys(LISTS.values(), "jsonb")
    for name in rows.COLUMNS:
        assert types[name.lower()] == wanted[_kind(name)], name
    assert tuple(name for name in FIELDS if name not in ("time", "extra", *LISTS)) == reader.FIELDS


def test_the_compiled_core_writes_the_fields() -> None:
    """Those that are stored as they were sent, in their order, with the numbers by which the code knows them."""
    source = _source("prefork_logd/ingest/core_c/record.pxi")
    names = re.search(r"_STORED_NAMES = (\(.*?\))\n", source, re.DOTALL)
    numbers = re.search(r"cdef enum.*?:.*?\n(.*?)    STORED", source, re.DOTALL)
    integers = re.search(r"INTEGERS = (.*)", source)
    assert names is not None
    assert numbers is not None
    assert integers is not None
    assert ast.literal_eval(names[1]) == SENT
    assert re.findall(r"^    (\w+)", numbers[1], re.MULTILINE) == [name.upper() for name in SENT]
    for attribute in OUR_ATTRIBUTES:
        assert f'"{attribute}"' in source
    assert set(re.findall(r"1 << (\w+)", integers[1])) == {name.upper() for name in INTEGER_FIELDS}


def test_the_compiled_rows_read_the_fields() -> None:
    """Every field behind `time`, in the order of a line and with its kind."""
    source = _source("prefork_logd/stores/rows_c/cut.pxi")
    kinds = {"text": "0", "integer": "1", "object": "2", "number": "3"} | dict(zip(LISTS.values(), "45", strict=True))
    behind = FIELDS[FIELDS.index("time") + 1 :]
    assert re.findall(r'KEY\("(\w+)", (\d)\)', source) == [(name, kinds[_kind(name)]) for name in behind]
    numbers = re.search(r"cdef enum:\n(.*?), FIELDS\n", source, re.DOTALL)
    assert numbers is not None
    wanted = ["ARRIVED" if name == "received" else _snake(name) for name in behind]
    assert re.findall(r"\w+", numbers[1]) == wanted


def test_the_compiled_rows_share_columns_that_lie_together() -> None:
    """Those that the core packs once for many lines, in the order of PostgreSQL's columns."""
    source = _source("prefork_logd/stores/rows_c/copy.pxi")
    found = [re.search(rf"^{name} = \((.*)\)$", source, re.MULTILINE) for name in ("_SITE_FIELDS", "_ORIGIN_FIELDS")]
    shared = [name for match in found if match is not None for name in match[1].split(", ")]
    columns = [name.upper().replace("_", "") for name, _ in copy_rows.COLUMNS]
    assert columns[columns.index("RECEIVED") + 1 : columns.index("MESSAGE")] == [
        name.replace("_", "") for name in shared
    ]


def test_the_handler_keeps_fields_of_a_record_that_is_too_large() -> None:
    """What is left of it is found again by name, level, time and process."""
    kept = re.search(r"^_KEPT = (\(.*?\))$", _source("prefork_logd/handlers/_cutting.py"), re.MULTILINE)
    assert kept is not None
    assert set(ast.literal_eval(kept[1])) <= {*SENT, "created"}


def test_the_page_about_records_lists_the_fields() -> None:
    """In their order and with their types."""
    section = _source("docs/record.md").partition("| field | type | holds |\n")[2].partition("\n\n")[0]
    rows_of_page = re.findall(r"^\| (`.*?`) \| (.*?) \| .* \|$", section, re.MULTILINE)
    listed = [(name, types) for names, types in rows_of_page for name in re.findall(r"`(\w+)`", names)]
    assert [name for name, _ in listed] == list(FIELDS)
    for name, types in listed:
        assert _kind(name) in types, name


def test_the_page_about_postgresql_lists_the_columns() -> None:
    """Each column that the table has stands on the page."""
    section = (
        _source("docs/postgresql.md").partition("Columns of `records`:")[2].partition("\n\nPostgreSQL has no NUL")[0]
    )
    names = [
        name for row in re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(names) == sorted(["journal", *(name for name, _ in copy_rows.COLUMNS)])


@pytest.mark.parametrize("path", ["README.md", "docs/query.md"])
def test_the_lines_shown_on_a_page_are_in_order(path: str) -> None:
    """A line that is shown to users is one that the collector would write."""
    shown = re.findall(r'^\{"created":.*\}$', _source(path), re.MULTILINE)
    assert shown
    for line in shown:
        names = [name for name in FIELDS if f'"{name}":' in line]
        assert [line.index(f'"{name}":') for name in names] == sorted(line.index(f'"{name}":') for name in names)
