"""The queue of a session in memory: numbers without holes, bounded room, gaps that tell what was dropped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers._notices import Notices
from prefork_logd.handlers._options import Options
from prefork_logd.handlers._queue import OVERHEAD, Gap, Queue

USUAL, MOST = 1 << 16, 1 << 20


def make(**arguments: Any) -> Queue:
    """Return a queue that says nothing on stderr."""
    notices = Notices("nowhere")
    notices._said["dropping"] = 0.0
    return Queue(Options("127.0.0.1", 1, **arguments), notices, {})


def fill(queue: Queue, count: int) -> None:
    for _ in range(count):
        data = b"record %d" % queue.next
        queue.add(data, float(queue.next), queue.write_ahead(data, 0.0))


def numbers(queue: Queue) -> list[int]:
    """Return every number that the queue accounts for."""
    return [
        number + offset
        for number, data, _ in [*queue.unacked, *queue.unsent]
        for offset in range(data.count if isinstance(data, Gap) else 1)
    ]


def test_records_are_numbered_from_one_on_and_taken_in_batches() -> None:
    queue = make()
    fill(queue, 3)
    assert queue.take_batch(USUAL, MOST) == (1, [b"record 1", b"record 2", b"record 3"])
    assert (queue.lowest(), queue.last_sent(), queue.next) == (1, 3, 4)
    assert queue.take_batch(USUAL, MOST)[1] == []
    assert not queue.is_empty()


def test_a_batch_has_the_usual_size_or_one_record() -> None:
    queue = make()
    for _ in range(3):
        queue.add(b"x" * 100, 1.0, None)
    assert len(queue.take_batch(250, MOST)[1]) == 2
    assert len(queue.take_batch(10, MOST)[1]) == 1


def test_a_record_that_no_batch_takes_becomes_a_gap() -> None:
    queue = make()
    fill(queue, 1)
    queue.add(b"x" * 1000, 5.0, None)
    assert queue.take_batch(100, 500) == (1, [b"record 1"])
    assert queue.take_batch(100, 500)[1] == []
    queue.is_hurried = True
    number, gap = queue.take_gap()
    assert (number, gap.count, gap.oldest, gap.newest) == (2, 1, 5.0, 5.0)
    assert "1000 bytes" in gap.reason
    assert queue.counts["dropped"] == 1


def test_acknowledged_records_are_forgotten_and_counted() -> None:
    queue = make()
    fill(queue, 5)
    queue.take_batch(USUAL, MOST)
    queue.is_saturated = True
    assert queue.forget_sent(3) == 3
    assert (queue.lowest(), queue.counts["acknowledged"], queue.is_saturated) == (4, 3, False)
    queue.requeue()
    assert queue.forget_unsent(5) == 2
    assert queue.is_empty()
    assert queue.held == 0


def test_drops_in_a_row_are_one_gap_that_waits_until_it_is_whole() -> None:
    queue = make(limit_bytes=1)
    fill(queue, 1)
    fill(queue, 4)
    assert queue.counts["dropped"] == 4
    queue.take_batch(USUAL, MOST)
    assert queue.take_gap() is None
    fill(queue, 1)
    queue._gap_since -= 2.0
    number, gap = queue.take_gap()
    assert (number, gap.count) == (2, 5)
    assert numbers(queue) == [1, 2, 3, 4, 5, 6]


def test_a_gap_of_sent_records_that_are_committed_counts_them_as_acknowledged() -> None:
    queue = make()
    fill(queue, 4)
    queue.take_batch(USUAL, MOST)
    assert queue.drop_oldest(with_sent=True)
    assert queue.drop_oldest(with_sent=True)
    assert queue.counts["dropped"] == 2
    queue.forget_sent(3)
    assert (queue.counts["dropped"], queue.counts["acknowledged"]) == (0, 3)


def test_an_acknowledgement_in_the_middle_of_a_gap_shortens_it() -> None:
    queue = make()
    fill(queue, 3)
    while queue.drop_oldest(with_sent=True):
        pass
    queue.forget_unsent(2)
    ((number, gap, _),) = queue.unsent
    assert (number, gap.count) == (3, 1)


def test_sent_records_are_kept_where_they_must_not_be_dropped() -> None:
    """Of plain frames the first may be on its way in part."""
    queue = make()
    fill(queue, 1)
    queue.take_batch(USUAL, MOST)
    assert not queue.drop_oldest(with_sent=False)
    fill(queue, 1)
    assert queue.drop_oldest(with_sent=False)
    assert [data.__class__ for _, data, _ in queue.unacked] == [bytes]


def test_plain_frames_are_forgotten_when_the_kernel_has_their_last_byte() -> None:
    queue = make()
    fill(queue, 3)
    queue.take_batch(USUAL, MOST)
    whole = 4 + len(b"record 1")
    assert queue.hand_over(whole - 1) == whole - 1
    assert queue.hand_over(2 * whole + 5) == 5
    assert (queue.counts["handed_over"], queue.lowest()) == (2, 3)


def test_plain_frames_skip_gaps() -> None:
    queue = make()
    fill(queue, 2)
    queue.drop_oldest(with_sent=True)
    assert queue.skip_gap()
    assert not queue.skip_gap()
    assert queue.take_batch(USUAL, MOST) == (2, [b"record 2"])


def test_one_record_is_held_however_large() -> None:
    queue = make(limit_bytes=10)
    assert queue.has_room(b"x" * 1000)
    queue.add(b"x" * 1000, 1.0, None)
    assert not queue.has_room(b"")


def test_drops_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    queue = Queue(Options("127.0.0.1", 1, limit_bytes=1, overflow="drop_new"), Notices("there"), {})
    fill(queue, 5)
    err = capsys.readouterr().err
    assert err.count("there records are dropped: ") == 1
    assert "overflow is 'drop_new'" in err


@given(st.lists(st.sampled_from(["add", "take", "gap", "old", "requeue", "ack"]), max_size=60), st.integers(0, 2000))
def test_no_number_is_ever_missing(steps: list[str], limit: int) -> None:
    """After any steps each number is held once, or in a gap, or acknowledged; the bytes held are right."""
    queue = make(limit_bytes=limit)
    acknowledged = 0
    for step in steps:
        if step == "add":
            fill(queue, 3)
        elif step == "take":
            queue.take_batch(60, MOST)
        elif step == "gap":
            queue.is_hurried = True
            queue.take_gap()
        elif step == "old":
            queue.drop_oldest(with_sent=True)
        elif step == "requeue":
            queue.requeue()
        elif queue.unacked:
            acknowledged = queue.lowest()
            queue.forget_sent(acknowledged)
        assert numbers(queue) == list(range(queue.lowest(), queue.next))
        assert queue.lowest() > acknowledged
        assert queue.held == sum(len(data) + OVERHEAD for _, data, _ in [*queue.unacked, *queue.unsent])


@given(st.sets(st.integers(1, 12)), st.integers(0, 12))
def test_an_interrupted_queue_is_made_whole(lost: set[int], sent: int) -> None:
    """Numbers whose records are gone become gaps; a record in both queues is there once."""
    queue = make()
    fill(queue, 12)
    items = list(queue.unsent)
    queue.unacked.extend(items[:sent])
    queue.unsent.clear()
    queue.unsent.extend(item for item in items[max(sent - 1, 0) :] if item[0] not in lost)
    queue.held = 7
    queue.recover()
    assert numbers(queue) == list(range(queue.lowest(), queue.next))
    assert queue.next == 13
    assert queue.held == sum(len(data) + OVERHEAD for _, data, _ in queue.unsent)


def test_another_session_keeps_the_numbers() -> None:
    queue = make()
    fill(queue, 2)
    before = queue.session
    queue.begin_session()
    assert queue.session != before
    assert queue.lowest() == 1


def test_a_queue_of_memory_has_no_files() -> None:
    queue = make()
    queue.look_after_files()
    queue.remove_files()
    queue.close_files()
    assert (queue.count_unwritten(), queue.file_bytes(), queue.writes_ahead) == (0, 0, False)
    assert queue.counts == {"acknowledged": 0, "handed_over": 0, "dropped": 0}
