"""The messages of a range: all its records once, in no message that servers refuse."""

from __future__ import annotations

import pytest

from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.stores.base import Block, Run
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.messages import MessageMaker
from prefork_logd.stores.nats.publish_log import PublishedRange

JOURNAL = "ab" * 16


def _line(number: int, padding: int = 0) -> bytes:
    return b'{"created":1.5,"name":"app.db","message":"%d%s"}\n' % (number, b"x" * padding)


def _block(first: int, count: int, padding: int = 0) -> Block:
    lines = b"".join(_line(number, padding) for number in range(first, first + count))
    return Block(first, count, b"s" * 16, (Run(first + 1, count),), lines)


class Made:
    """The messages of one range, and the records that were refused."""

    def __init__(self, first: int, end: int, blocks: list[Block], *, limit: int = 1 << 20, form="batch", pack=bytes):
        settings = NatsStoreSettings(name="n", format=form, compress="none")
        self.refused: list[tuple[int, str]] = []
        maker = MessageMaker(
            settings, pack, JOURNAL, first, limit, lambda number, _, reason: self.refused.append((number, reason))
        )
        self.messages = maker.messages(PublishedRange(first, end), blocks)
        self.ranges = [wire.read_header({wire.HEADER: message.header}) for message in self.messages]

    @property
    def numbered(self) -> dict[int, bytes]:
        """Number to line, as a reader of the messages finds them."""
        found: dict[int, bytes] = {}
        for message, it in zip(self.messages, self.ranges, strict=True):
            lines = message.body.splitlines(keepends=True)
            headers = {wire.NUMBERS_HEADER: message.numbers} if message.numbers else {}
            numbers = [number for run in wire.read_numbers(headers, it, len(lines)) for number in run]
            found.update(zip(numbers, lines, strict=True))
        return found


def test_a_range_is_one_message() -> None:
    """Its header has the range and the floor; numbers are named only where some have no line."""
    made = Made(10, 20, [_block(10, 4), _block(14, 6)])
    assert [(it.first, it.end, it.floor) for it in made.ranges] == [(10, 20, 10)]
    assert made.messages[0].numbers == ""
    assert made.numbered == {number: _line(number) for number in range(10, 20)}
    with_hole = Made(10, 20, [_block(10, 4), _block(17, 3)])
    assert with_hole.messages[0].numbers == "10+4,17+3"
    assert sorted(with_hole.numbered) == [10, 11, 12, 13, 17, 18, 19]
    assert Made(10, 20, []).messages[0].numbers == ",", "no line at all"


def test_a_range_above_the_limit_is_halved() -> None:
    """Until each part fits; the parts follow one another."""
    made = Made(0, 16, [_block(0, 5, 100), _block(5, 11, 100)], limit=700)
    assert all(len(message.body) <= 700 for message in made.messages)
    assert len(made.messages) > 2
    assert [it.first for it in made.ranges] == [0, *(it.end for it in made.ranges[:-1])]
    assert made.ranges[-1].end == 16
    assert made.numbered == {number: _line(number, 100) for number in range(16)}
    assert len({message.id for message in made.messages}) == len(made.messages)
    assert not made.refused


def test_a_line_above_the_limit_is_refused() -> None:
    """It costs itself: the lines beside it are published under their own numbers."""
    block = Block(0, 3, b"s" * 16, (Run(1, 3),), _line(0) + _line(1, 1000) + _line(2))
    made = Made(0, 3, [block], limit=500)
    assert [number for number, _ in made.refused] == [1]
    assert "max_payload" in made.refused[0][1]
    assert made.numbered == {0: _line(0), 2: _line(2)}


def test_a_line_that_cannot_be_packed_is_refused() -> None:
    """It is found within its range."""

    def pack(lines: bytes) -> bytes:
        if b'"1"' in lines:
            raise ValueError("odd")
        return lines

    made = Made(0, 3, [_block(0, 3)], pack=pack)
    assert [(number, "odd" in reason) for number, reason in made.refused] == [(1, True)]
    assert made.numbered == {0: _line(0), 2: _line(2)}


def test_one_message_a_record() -> None:
    """Under its logger's name; the last one also stands for the numbers that have no line."""
    made = Made(10, 20, [_block(10, 2), _block(15, 1)], form="json")
    assert [(it.first, it.end) for it in made.ranges] == [(10, 11), (11, 12), (12, 16), (16, 20)]
    assert [message.body for message in made.messages[:3]] == [_line(n).rstrip() for n in (10, 11, 15)]
    assert all(message.subject.endswith(f"{JOURNAL}.app.db") for message in made.messages[:3])
    assert made.messages[3].body == b""


@pytest.mark.parametrize("form", ["batch", "json"])
def test_a_range_gets_the_same_ids_again(form: str) -> None:
    """Servers then know a message that was published twice."""
    first, second = (Made(10, 20, [_block(10, 10)], form=form) for _ in range(2))
    assert [message.id for message in first.messages] == [message.id for message in second.messages]
