"""A batch arrives as it was built, whatever the pipe does with its bytes."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.errors import LocalProtocolError
from prefork_logd.ipc.batch import (
    COMMITTED,
    NO_SESSION,
    OPENED,
    RECORDS,
    REFUSED,
    Batch,
    Group,
    Open,
    committed,
    opened,
    read_answers,
    refused,
)
from prefork_logd.ipc.batch_builder import BatchBuilder
from prefork_logd.ipc.batch_reader import BatchReader

LINES = st.lists(st.tuples(st.integers(0, 5), st.binary(min_size=1, max_size=40)), max_size=20)
SESSIONS = st.dictionaries(
    st.binary(min_size=16, max_size=16).filter(lambda session: session != NO_SESSION),
    st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**63), LINES),
    max_size=4,
)
OPENS = st.lists(
    st.builds(
        Open,
        *(st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=16)),
        st.integers(0, 2**64 - 1),
    ),
    max_size=3,
)


def read(data: bytes, sizes: list[int]) -> list[Batch]:
    reader = BatchReader()
    batches = []
    position = 0
    for size in [*sizes, len(data)] * (len(data) + 1):
        if position == len(data):
            break
        want = reader.want()
        piece = data[position : position + max(1, min(size, len(want)))]
        want[: len(piece)] = piece
        position += len(piece)
        batch = reader.filled(len(piece))
        if batch is not None:
            batches.append(batch)
    assert not reader.pending
    return batches


def by_output(lines: list[tuple[int, bytes]]) -> dict[int, tuple[int, bytes]]:
    return {
        output: (
            sum(1 for place, _ in lines if place == output),
            b"".join(line for place, line in lines if place == output),
        )
        for output, _ in lines
    }


def segments(group: Group) -> dict[int, tuple[int, bytes]]:
    return {segment.output: (segment.lines, bytes(segment.data)) for segment in group.segments}


@pytest.mark.slow
@given(LINES, SESSIONS, OPENS, st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_a_batch_comes_back_whatever_the_reads(
    plain: list[tuple[int, bytes]],
    sessions: dict[bytes, tuple[int, int, list[tuple[int, bytes]]]],
    opens: list[Open],
    sizes: list[int],
) -> None:
    """Lines keep their session, output and order; sessions their epoch and numbers."""
    builder = BatchBuilder(generation=7)
    assert not builder
    for output, line in plain:
        builder.add(output, line)
    for session, (epoch, first, lines) in sessions.items():
        builder.begin(session, epoch, first, first + len(lines))
        for output, line in lines:
            builder.add(output, line)
        builder.end()
    for request in opens:
        builder.open(*request)
    assert builder.nbytes == sum(len(line) for _, line in plain) + sum(
        len(line) for _, _, lines in sessions.values() for _, line in lines
    )
    assert bool(builder) is bool(plain or sessions or opens)
    data = b"".join(builder.build(1).pieces) + b"".join(builder.build(2).pieces)
    first_batch, second_batch = read(data, sizes)
    assert (first_batch.number, first_batch.generation, first_batch.opens) == (1, 7, opens)
    groups = {group.session: group for group in first_batch.groups}
    assert set(groups) == set(sessions) | ({NO_SESSION} if plain else set())
    if plain:
        assert segments(groups[NO_SESSION]) == by_output(plain)
    for session, (epoch, first, lines) in sessions.items():
        group = groups[session]
        assert (group.epoch, group.first, group.last) == (epoch, first, first + len(lines))
        assert segments(group) == by_output(lines)
    assert second_batch == Batch(2, 7, [], [], 0)


def test_ranges_of_one_epoch_follow_one_another() -> None:
    """A hole would be committed as if it had been written."""
    builder = BatchBuilder(1)
    builder.begin(b"s" * 16, 3, 1, 5)
    builder.begin(b"s" * 16, 3, 6, 6)
    with pytest.raises(LocalProtocolError, match="from 6 to 8"):
        builder.begin(b"s" * 16, 3, 8, 9)
    (batch,) = read(b"".join(builder.build(1).pieces), [1000])
    assert [(group.first, group.last) for group in batch.groups] == [(1, 6)]


def test_two_epochs_of_a_session_are_not_for_one_batch() -> None:
    """The older connection's lines are to be sent first."""
    builder = BatchBuilder(1)
    builder.begin(b"s" * 16, 3, 1, 5)
    assert builder.has_other_epoch(b"s" * 16, 4)
    assert not builder.has_other_epoch(b"s" * 16, 3)
    assert not builder.has_other_epoch(b"t" * 16, 4)
    with pytest.raises(LocalProtocolError, match="two epochs"):
        builder.begin(b"s" * 16, 4, 6, 7)


def test_batches_that_wait_for_a_commit_take_no_more_memory_than_they_need() -> None:
    """A flood of HELLOs, each a batch of its own, held 384 KiB each until the next commit."""
    reader = BatchReader()
    tracemalloc.start()
    try:
        batches = []
        for number in range(1, 301):
            builder = BatchBuilder(1)
            builder.open(number, b"s" * 16, 1)
            data = b"".join(builder.build(number).pieces)
            while data:
                want = reader.want()
                want[:], data = data[: len(want)], data[len(want) :]
                batches.append(reader.filled(len(want)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(batch.opens) for batch in batches if batch is not None) == 300
    assert held < 1 << 20


def test_a_pipe_out_of_step_is_noticed_at_once() -> None:
    """Bytes that are no header are not taken for a length."""
    reader = BatchReader()
    want = reader.want()
    want[:] = b"x" * len(want)
    with pytest.raises(LocalProtocolError, match="unexpected bytes"):
        reader.filled(len(want))


@pytest.mark.parametrize(
    "change",
    [(28 + 64 + 8, 1, "after its batch"), (28 + 56, 1, "ends"), (28 + 60, 1, "ends"), (28 + 64 + 12, 1, "is like")],
)
def test_tables_that_do_not_fit_are_an_error(change: tuple[int, int, str]) -> None:
    """A batch that contradicts itself becomes no wrong line."""
    place, value, message = change
    builder = BatchBuilder(1)
    builder.add(1, b"line\n")
    data = bytearray(b"".join(builder.build(1).pieces))
    data[place] += value
    with pytest.raises(LocalProtocolError, match=message):
        read(bytes(data), [1000])


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abr"), st.integers(1, 3)), max_size=20))
def test_runs_say_which_numbers_the_lines_for_the_stores_have(steps: list[tuple[str, int]]) -> None:
    """A number that was rejected ("r") has no line; the lines of an output like them travel once."""
    builder = BatchBuilder(1, records_like=5)
    number, expected, lines = 1, [], []
    for what, count in steps:
        builder.begin(b"s" * 16, 1, number, number + count - 1)
        if what != "r":
            for each in range(number, number + count):
                builder.add(5, b"%d\n" % each)
                lines.append(b"%d\n" % each)
                expected.append(each)
            builder.run(number, count)
        builder.end()
        number += count
    data = b"".join(builder.build(1).pieces)
    assert data.count(b"".join(lines)) == 1 or not lines
    batch = read(data, [7, 50, 1000])[0]
    for group in batch.groups:
        assert [each for first, count in group.runs for each in range(first, first + count)] == expected
        by_place = {segment.output: (segment.lines, bytes(segment.data)) for segment in group.segments}
        assert by_place == ({5: (len(lines), b"".join(lines)), RECORDS: (len(lines), b"".join(lines))} if lines else {})


@given(st.lists(st.integers(0, 2**64 - 1), max_size=6), st.integers(0, 47))
def test_answers_come_back_in_order(numbers: list[int], cut: int) -> None:
    """Whole answers are read, the rest of a torn one is kept."""
    session = b"0123456789abcdef"
    data = b"".join(map(committed, numbers)) + opened(session, 1, 2, 3) + refused(Group(session, 4, 5, 6, [], []))
    answers, rest = read_answers(data + b"x" * cut)
    assert [answer.a for answer in answers if answer.kind == COMMITTED] == numbers
    assert tuple(answers[-2]) == (OPENED, session, 1, 2, 3)
    assert tuple(answers[-1]) == (REFUSED, session, 4, 5, 6)
    assert rest == b"x" * cut


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab-"), st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=1, max_size=9)), max_size=4)
    ),
    max_size=12,
)


@pytest.mark.slow
@given(STEPS, st.sampled_from([None, 1]), st.integers(1, 60))
def test_sessions_in_turn_have_their_lines_in_order(
    steps: list[tuple[str, list[tuple[int, bytes]]]], like: int | None, size: int
) -> None:
    """However often they take turns with each other, and with those that are not acknowledged ("-")."""
    builder = BatchBuilder(3, records_like=like)
    numbers = {"a": 1, "b": 1}
    in_order: dict[tuple[bytes, int], bytes] = {}
    for who, lines in steps:
        session = who.encode() * 16 if who != "-" else NO_SESSION
        if who != "-":
            builder.begin(session, 5, numbers[who], numbers[who] + len(lines) - 1)
            numbers[who] += len(lines)
        for output, line in lines:
            builder.add(output, line)
            for place in (output, RECORDS) if output == like else (output,):
                in_order[session, place] = in_order.get((session, place), b"") + line
        if who != "-":
            builder.end()
    assert builder.nbytes == sum(len(line) for _, lines in steps for _, line in lines)
    (batch,) = read(b"".join(builder.build(1).pieces), [size])
    found: dict[tuple[bytes, int], bytes] = {}
    reached = dict.fromkeys((b"a" * 16, b"b" * 16), 0)
    for group in batch.groups:
        if group.session != NO_SESSION:
            assert (group.epoch, group.first) == (5, reached[group.session] + 1)
            reached[group.session] = group.last
        for segment in group.segments:
            found[group.session, segment.output] = found.get((group.session, segment.output), b"") + segment.data
    assert found == in_order
    assert reached == {b"a" * 16: numbers["a"] - 1, b"b" * 16: numbers["b"] - 1}
