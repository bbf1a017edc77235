"""Lines keep their session, output, order and numbers in the batch that is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.errors import LocalProtocolError
from prefork_logd.ipc.batch import MOST_FILES, NO_SESSION, RECORDS, Batch, Open
from prefork_logd.ipc.batch_builder import LARGEST, BatchBuilder
from prefork_logd.net.peers import peer_key
from tests.support.batches import read

if TYPE_CHECKING:
    from prefork_logd.ipc.batch import Group


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


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (2, 0), (LARGEST + 1, LARGEST + 1), (LARGEST, LARGEST + 1)])
def test_a_range_that_no_batch_can_hold_is_refused_at_once(first: int, last: int) -> None:
    """Its connection pays; the lines of all others are in the batch as before."""
    builder = BatchBuilder(1)
    builder.add(1, b"before\n")
    with pytest.raises(LocalProtocolError, match=f"a range from {first} to {last}"):
        builder.begin(b"s" * 16, 1, first, last)
    builder.add(1, b"after\n")
    assert one(builder) == [(NO_SESSION, {1: (2, b"before\nafter\n")})]


@pytest.mark.parametrize("first", [-1, LARGEST + 1])
def test_an_open_that_no_batch_can_hold_is_refused_at_once(first: int) -> None:
    """The bounds of the field are taken."""
    builder = BatchBuilder(1)
    for number in (0, LARGEST):
        builder.open(number, b"s" * 16, number)
    with pytest.raises(LocalProtocolError, match=f"begins at {first}"):
        builder.open(1, b"s" * 16, first)
    (batch,) = read(b"".join(builder.build(1).pieces), [1000])
    assert batch.opens == [Open(0, b"s" * 16, 0), Open(LARGEST, b"s" * 16, LARGEST)]


def test_a_range_grows_with_its_records() -> None:
    """One that is empty has its session and its place, and no number yet."""
    builder = BatchBuilder(1)
    builder.begin(b"s" * 16, 1, 5, 4, floor=3, peer=9)
    builder.add(1, b"5\n")
    builder.advance(1)
    builder.add(1, b"6\n7\n")
    builder.advance(2)
    (batch,) = read(b"".join(builder.build(1).pieces), [1000])
    assert [(group.first, group.last, group.floor, group.peer) for group in batch.groups] == [(5, 7, 3, 9)]


def test_lines_that_are_discarded_are_not_in_the_batch() -> None:
    """Those before the mark, and those after it, are; the latter belong to no session."""
    builder = BatchBuilder(1)
    builder.add(1, b"one\n")
    builder.begin(b"s" * 16, 1, 1, 1)
    builder.add(1, b"two\n")
    mark = builder.mark()
    builder.add(1, b"unwanted\n")
    builder.add(2, b"unwanted\n")
    builder.discard(mark)
    builder.add(1, b"three\n")
    builder.add(2, b"four\n")
    assert one(builder) == [
        (NO_SESSION, {1: (1, b"one\n")}),
        (b"s" * 16, {1: (1, b"two\n")}),
        (NO_SESSION, {1: (1, b"three\n"), 2: (1, b"four\n")}),
    ]


def test_a_built_batch_leaves_an_empty_builder() -> None:
    """Neither lines, nor ranges, nor requests are in two batches, and the size of one is that of its bytes."""
    builder = BatchBuilder(1)
    builder.begin(b"s" * 16, 1, 1, 1)
    builder.add(1, b"line\n")
    builder.open(1, b"t" * 16, 1)
    built = builder.build(1)
    assert built.nbytes == sum(len(piece) for piece in built.pieces)
    assert not builder
    assert not builder.has_other_epoch(b"s" * 16, 2)
    (batch,) = read(b"".join(builder.build(2).pieces), [1000])
    assert (batch.opens, batch.groups) == ([], [])


def test_sinks_are_the_same_until_the_batch_is_built() -> None:
    """Lines put into one belong to the output of its place."""
    builder = BatchBuilder(1)
    first, second = builder.sinks([4, 7])
    assert builder.sinks([4, 7]) == (first, second)
    second.append(b"seven\n")
    assert one(builder) == [(NO_SESSION, {7: (1, b"seven\n")})]
    assert builder.sinks([4, 7])[1].count == 0


def test_runs_that_meet_are_one() -> None:
    """And a run of nothing is none."""
    builder = BatchBuilder(1)
    builder.begin(b"s" * 16, 1, 1, 9)
    builder.add(RECORDS, b"x\n" * 6)
    for run in ((1, 2), (3, 1), (4, 0), (7, 3)):
        builder.run(*run)
    (batch,) = read(b"".join(builder.build(1).pieces), [1000])
    assert batch.groups[0].runs == [(1, 3), (7, 3)]


def one(builder: BatchBuilder) -> list[tuple[bytes, dict[int, tuple[int, bytes]]]]:
    """Return the session and the lines of each group of the batch."""
    (batch,) = read(b"".join(builder.build(1).pieces), [1000])
    return [(group.session, segments(group)) for group in batch.groups]


def test_lines_keep_their_files() -> None:
    """Of every group, beside those of outputs with one file; the table of names is only in batches that need it."""
    builder = BatchBuilder(1, most_files={2: 2})
    builder.add(1, b"plain\n")
    assert not builder.is_full
    names = {"192.0.2.1:5": "a/b.log", "192.0.2.2:5": "a/b.log", "": "m\u00fc.log"}
    made = []
    for builder.peer, name in names.items():
        made.append(builder.file(2, name, "_other.log"))
    first, again, second = made
    assert first == again != second
    assert builder.is_full
    builder.add(first, b"one\n")
    builder.begin(b"s" * 16, 1, 1, 2)
    builder.add(second, b"two\n")
    builder.add(first, b"three\n")
    assert builder.nbytes_of_files(2) == len(b"one\ntwo\nthree\n")
    (batch,) = read(b"".join(bytes(piece) for piece in builder.build(1).pieces), [7])
    assert [[(one.output, one.file, bytes(one.data)) for one in group.segments] for group in batch.groups] == [
        [(1, "", b"plain\n"), (2, "a/b.log", b"one\n")],
        [(2, "a/b.log", b"three\n"), (2, "m\u00fc.log", b"two\n")],
    ]
    assert {(one.file, one.file_peer) for one in batch.groups[1].segments} == {
        ("a/b.log", peer_key("192.0.2.1:6")), ("m\u00fc.log", 0),
    }  # fmt: skip
    builder.add(1, b"plain\n")
    assert not builder.is_full
    pieces = b"".join(bytes(piece) for piece in builder.build(2).pieces)
    assert pieces.startswith(b"PLB5")
    assert [one.file for one in read(pieces, [100])[0].groups[0].segments] == [""]


def test_files_in_a_batch_are_bounded() -> None:
    """Further lines go to the file for such lines."""
    builder = BatchBuilder(1)
    outputs = [builder.file(2, f"{number}.log", "_other.log") for number in range(MOST_FILES + 5)]
    assert len(set(outputs)) == MOST_FILES + 1
    assert outputs[-1] == builder.file(2, "_other.log", "_other.log")
