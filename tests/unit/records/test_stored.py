"""A stored line is read in one way everywhere: each reader comes to the verdict of `records.stored`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.cli import print_records
from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.settings import Settings
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.errors import NotARecord, RecordRejected
from prefork_logd.ingest.core import Lines
from prefork_logd.ingest.dispatcher import Dispatcher
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.journal.record_block import Entry
from prefork_logd.query.filters import Filters
from prefork_logd.query.tail import Matcher
from prefork_logd.query.tree import all_of, level_from
from prefork_logd.query.where import parse_condition as parse
from prefork_logd.records import stored
from prefork_logd.records.record import Record
from prefork_logd.stores import import_lines, rows, rows_core
from prefork_logd.stores.nats import wire
from prefork_logd.stores.parquet.rows import make_rows
from prefork_logd.stores.record_filter import RecordFilter
from tests.support import odd_lines
from tests.support.corpus import corpus_lines
from tests.support.strategies import attributes, bounded

if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def written() -> list[bytes]:
    """Return lines that the collector has written: the odd ones, and the whole corpus."""
    return [*odd_lines.records(), *corpus_lines()]


def _made_row(line: bytes, *, native: bool) -> None:
    refused: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        if not native:
            patched.setattr(rows_core, "json_rows", None)
        made = make_rows(line, 0, lambda *one: refused.append(one[2]))
    if refused:
        raise NotARecord(refused[0])
    assert made.data.count(b"\n") == 1


def _dispatched(line: bytes) -> None:
    # Two outputs, so that lines are looked at.
    settings = Settings(output=(OutputSettings(name="a"), OutputSettings(name="b", format="text", path="b")))
    dispatcher = Dispatcher(Configuration(1, settings, (1, 2)), Lines)
    dispatcher.dispatch_line(line if line.endswith(b"\n") else line + b"\n")


def _shown(form: str, line: bytes) -> None:
    assert b"".join(print_records.format_lines(form, [line], 100, coloured=True))


def _filtered(line: bytes) -> None:
    """Ask for what each record meets, by every way that a filter has."""
    filters = Filters(
        since=0,
        until=1e10,
        tree=all_of((level_from(-(1 << 62)), parse("extra.nothing!=1"), parse("time!=1"))),
    )
    if not Matcher(filters)(line):
        raise NotARecord("it was not found")


READERS: dict[str, Callable[[bytes], Any]] = {
    "row": stored.read_row,
    "rows, as PostgreSQL's": rows.decode,
    "record": stored.read_record,
    "fields": stored.read_fields,
    "rows of Parquet": functools.partial(_made_row, native=True),
    "rows of Parquet in Python": functools.partial(_made_row, native=False),
    "source of a central collector": _dispatched,
    "text": functools.partial(_shown, "text"),
    "csv": functools.partial(_shown, "csv"),
    "table": functools.partial(_shown, "table"),
    "tail": _filtered,
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_what_the_collector_has_written_is_read(reader: str) -> None:
    """Each line of the corpus and each odd one, by each reader."""
    for line in written():
        READERS[reader](line)
        READERS[reader](line.rstrip(b"\n") if "Parquet" not in reader else line)


def _verdict(reader: Callable[[bytes], Any], line: bytes) -> bool:
    try:
        reader(line)
    except NotARecord:
        return False
    except RecordRejected as verdict:
        if verdict.detail != "no line of JSON":
            raise
        return False
    return True


@pytest.mark.parametrize("reader", READERS)
def test_foreign_lines_get_one_verdict(reader: str) -> None:
    """Deep, huge, torn, not UTF-8, without a time: each reader refuses what the others refuse, and by one exception."""
    for line, is_record in odd_lines.foreign:
        if reader == "source of a central collector" and line.startswith((b" ", b"\n")):
            continue  # a message's lines begin with their braces
        if reader == "source of a central collector" and line.endswith(b"\r\n"):
            continue
        assert _verdict(READERS[reader], line) is is_record, line[:200]


@pytest.mark.slow
def test_every_reader_reads_the_same_values() -> None:
    """A row with its `extra` taken apart is the record, and its fields are what JSON says."""
    for line in written():
        row, record, fields = stored.read_row(line), stored.read_record(line), stored.read_fields(line)
        assert fields == json.loads(line)
        assert stored.read_extra(bytes(row.extra)) == record.extra == fields.get("extra", {})
        for name in stored.FIELDS:
            if name != "extra":
                assert (getattr(row, name) or None) == (getattr(record, name) or None) == (fields.get(name) or None)
        found = (record.name or "", record.levelno or 0, record.service or "", record.environment or "")
        assert stored.read_source(line) == found
        assert wire.logger_of(line) == (record.name or "")


def test_an_infinite_number_is_compared_as_one() -> None:
    """Of more digits than Python reads, or beyond the largest float."""
    many = odd_lines.foreign[0][0]
    for condition, found in (("extra.n>5", True), ("extra.n<5", False), ("extra.n=5", False), ("message=m", True)):
        assert Filters(tree=parse(condition)).matches(stored.read_fields(many)) is found
    assert stored.read_fields(odd_lines.foreign[2][0])["extra"] == {"f": float("inf"), "g": float("-inf")}


def test_a_pair_of_escapes_is_one_character_beside_a_lone_surrogate() -> None:
    """As JSON has it, however the letters are written; a DEL that stands as itself is no mark."""
    row = stored.read_row(b'{"created":1,"message":"\\uD83D\\uDE00 \\ud83d\\ude00 \\uDCFF \x7fdcff \\u007F0041"}')
    assert row.message == "\U0001f600 \U0001f600 \udcff \x7fdcff \x7f0041"
    extra = stored.read_row(b'{"created":1,"extra":{"a":"\\ud83d\\ude00 \\udcff \x7fdcff"}}').extra
    assert stored.read_extra(bytes(extra)) == {"a": "\U0001f600 \udcff \x7fdcff"}


def test_a_filter_of_a_store_reads_any_record_of_ours() -> None:
    """What is below its level stays out, whatever stands in the line."""
    lines = written()
    picker = RecordFilter(CustomStoreSettings(level="ERROR"))
    entry = Entry(0, len(lines), 1, b"s" * 16, (), b"".join(lines), 0)
    found = [line for block in picker.pick(entry) for line in stored.split_lines(block.lines)]
    assert found == [line for line in lines if json.loads(line).get("levelno", 0) >= 40]


def test_lines_end_in_newlines_alone() -> None:
    """A carriage return within a line, which white space of JSON may be, moves no line to another's number."""
    lines = [b'{"created":1.5,\r"levelno":40,"name":"a"}\r\n', b'{"created":2.5,"levelno":20}\n', b"rest"]
    assert stored.split_lines(b"".join(lines)) == lines
    assert stored.split_lines(b"") == []
    picked = RecordFilter(CustomStoreSettings(level="ERROR")).pick(
        Entry(0, 2, 1, bytes(16), (), b"".join(lines[:2]), 0)
    )
    assert [(block.first, block.count, block.lines) for block in picked] == [(0, 1, lines[0])]


@pytest.mark.slow
@bounded
@given(attributes)
def test_any_record_is_read_by_every_reader(values: dict[str, Any]) -> None:
    """Whatever was logged."""
    line = odd_lines.render_json(odd_lines.make_record(values, "peer", 1.0))
    for reader in READERS.values():
        reader(line)
    assert stored.read_fields(line) == json.loads(line)


@pytest.mark.slow
@bounded
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    """Whatever a line holds, a reader reads it or raises the one exception."""
    for line in (octets, b'{"created":1.5,"extra":{%b}}' % octets, b'{"created":1.5,%b}' % octets):
        for read in (stored.read_row, stored.read_record, stored.read_fields, stored.read_source):
            _verdict(read, line)


def test_nobody_reads_lines_but_the_reader() -> None:
    """No other module takes a stored line apart: what does so is named here with its reason."""
    package = Path(import_lines.__file__).parents[1]
    known = {
        "records/stored.py",
        "records/imported.py",  # lines of others
        "stores/dead_letters.py",  # its own form
        "inputs/json_records.py", "inputs/cut_lines.py", "records/sender.py",  # what clients send
        "records/json_text.py",  # the same
        "processes/worker/own_log.py",  # lines of the collector's own log, on their way to become records
        "journal/identity.py", "ipc/configuration.py", "system/daemonize.py", "ipc/command_socket.py",  # states
        "query/analysis.py", "query/long_values.py",  # values that were counted
        "stores/postgresql/search.py", "stores/parquet/analysis.py",  # the same
        "stores/parquet/segments.py",  # positions
        "stores/parquet/engine.py",  # errors of the engine
        "stores/parquet/_word_set_py.py",  # all words of a line, as the compiled module cuts them
        "stores/errors/tally.py",  # the few fields of a group, of lines that the compiled module has found
        "web/sessions.py", "web/tokens.py", "web/shares.py", "web/saved_searches.py",  # states
        "web/api/endpoint.py", "web/api/status.py",  # what clients send, and the form of rejected.jsonl
        "alerts/ledger.py", "alerts/sending.py",  # states
        "alerts/receivers/forms.py", "config/receivers.py",  # templates of the configuration
        "alerts/counting.py",  # the time of arrival alone
        "web/client/connection.py", "web/client/search.py",  # answers
        "query/set_tail.py", "files/renamed_files.py",  # times of arrival alone, to put files in order
        "processes/master/upgrade/trial.py",  # answers
        "processes/master/upgrade/state.py", "ipc/channel.py", "stores/nats/group.py",
    }  # fmt: skip
    marks = ("json.loads(", "json.Decoder(", "json.decode(")
    found = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if any(m in path.read_text() for m in marks)
    }
    assert found <= known


def test_the_reader_knows_the_fields_that_are_written() -> None:
    """Fields and their order are listed twice, for the two differ in type; one list must not go ahead of the other."""
    assert stored.Row.__struct_fields__ == Record.__struct_fields__
