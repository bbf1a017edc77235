"""Ready-made stored lines, numbered, for what is measured behind the collector: stores and queries.

Owns what they look like: the records of `_records` as the collector stores them, spread evenly over a range of time.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import _records

from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores.base import Block

if TYPE_CHECKING:
    from collections.abc import Iterator

_CYCLE = 64
BLOCK_RECORDS = 500
"""In each block, as a busy writer commits them."""
_PEERS = 100


@functools.cache
def _pieces() -> tuple[tuple[bytes, bytes], ...]:
    """Return what stands before and behind the number of each template, without the times."""
    pieces = []
    for index in range(_CYCLE):
        attributes = decode(_records.frame(index, created=1.0)[4:])
        line = render_json(make_record(attributes, "", 1.0))
        body = line[line.index(b'"name":') : line.rindex(b',"received":')]
        before, _, after = body.partition(b"`%09d" % index)
        pieces.append((before + b"`", after))
    return tuple(pieces)


def lines(first: int, count: int, start: float, step_s: float) -> list[bytes]:
    """Return `count` lines from number `first` on, `step_s` seconds apart from `start` on for number 0."""
    pieces, made, second, stamp = _pieces(), [], -1, ""
    for number in range(first, first + count):
        created = round(start + number * step_s, 6)
        if int(created) != second:
            second = int(created)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        before, after = pieces[number % _CYCLE]
        micro = round(created * 1e6) % 1_000_000
        made.append(
            b'{"created":%a,"time":"%b.%06dZ",%b%09d%b,"peer":"10.0.0.%d:40000","received":%a}\n'
            % (created, stamp.encode(), micro, before, number, after, number % _PEERS, created + 0.01)
        )
    return made


def blocks(first: int, count: int, start: float, step_s: float) -> Iterator[Block]:
    """Yield the same as blocks of a journal."""
    made = lines(first, count, start, step_s)
    for at in range(0, count, BLOCK_RECORDS):
        part = made[at : at + BLOCK_RECORDS]
        yield Block(first + at, len(part), bytes(16), (), b"".join(part))
