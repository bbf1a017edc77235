"""Counters of listeners, reasons and stores have names by which the next program finds them."""

from __future__ import annotations

import os

from prefork_logd.ingest.rejections import REASONS, Rejections
from prefork_logd.ipc.scoreboard import (
    LAYOUT,
    MAX_LISTENERS,
    REASON_FIELDS,
    LimitField,
    ListenerField,
    Scoreboard,
    StoreField,
)
from prefork_logd.processes.master import named_counters
from prefork_logd.processes.master.upgrade.state import InheritedCounters
from tests.support.children import make_state


def test_many_listeners_share_the_last_counters() -> None:
    """Their label says so."""
    board, carried = Scoreboard(), InheritedCounters()
    bind = [f"h:{port}" for port in range(MAX_LISTENERS + 2)]
    for index in range(len(bind)):
        board.listener(3, index)[ListenerField.RECORDS] += 1
    rows = named_counters.listeners(board, carried, bind)
    assert len(rows) == MAX_LISTENERS
    assert (rows[0]["address"], rows[0]["records"]) == ("h:0", 1)
    assert (rows[-1]["address"], rows[-1]["records"]) == (named_counters.OTHER, 3)


def test_unknown_reasons_are_counted_together() -> None:
    """The list is fixed, and has room on the scoreboard."""
    board = Scoreboard()
    rejections = Rejections(counters=board.reasons(2))
    for reason in ("budget", "no-such-reason", "neither"):
        rejections.count(reason)
    found = named_counters.rejected_by(board, InheritedCounters())
    assert {reason: count for reason, count in found.items() if count} == {"budget": 1, "other": 2}
    assert len(set(REASONS)) == len(REASONS) <= REASON_FIELDS


def test_they_go_on_over_two_upgrades() -> None:
    """While the children of the last program live, and when they have ended; a gauge is not added up."""
    bind, stores, limits = ["a:1", "b:2"], {"mine": 3}, {"rate": 5}
    carried = InheritedCounters()
    for generation in (1, 2):
        board = Scoreboard()
        board.listener(1, 1)[ListenerField.RECORDS] = 10
        board.listener(1, 1)[ListenerField.CONNECTIONS] = 5
        board.reasons(4)[0] = 2
        board.limit(1, 5)[LimitField.DROPPED] = board.limit(9, 5)[LimitField.LIMITED] = 4
        board.store(3)[StoreField.RECORDS] = 7
        state = make_state(
            board_fd=os.dup(board.fd),
            layout=LAYOUT,
            named=named_counters.named_cells(board, bind, stores, limits),
            counters=carried.counters,
        )
        carried = InheritedCounters()
        carried.inherit(state)
        new = Scoreboard()
        board.listener(2, 1)[ListenerField.RECORDS] = 1
        for _ in range(2):
            row = named_counters.listeners(new, carried, bind)[1]
            assert (row["records"], row["connections"]) == (11 * generation, 0)
            assert named_counters.rejected_by(new, carried)[REASONS[0]] == 2 * generation
            (limit,) = named_counters.limits(new, carried, {"rate": 0})
            assert (limit["dropped"], limit["clients"]) == (4 * generation, 0)
            assert named_counters.of_store(new, carried, "mine", 0, StoreField.RECORDS) == 7 * generation
            carried.settle()
