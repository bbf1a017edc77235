"""Which records of the journal the stores still need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.config.settings import Settings
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import Scoreboard, StoreField
from prefork_logd.processes.writer.needs import Needs

if TYPE_CHECKING:
    from collections.abc import Sequence


def needs(positions: Sequence[int], *stores: str, errors: bool = False) -> Needs:
    """Return the needs of stores, the last one for the groups of errors, at these positions; -1: not open yet."""
    board = Scoreboard()
    for slot, position in enumerate(positions):
        board.store(slot)[StoreField.READY] = position >= 0
        board.store(slot)[StoreField.POSITION] = max(0, position)
    settings = Settings(
        store=tuple(CustomStoreSettings(name=name, factory="a:b") for name in stores),
        errors=ErrorsSettings(enabled=errors),
    )
    made = Needs(board)
    made.configure(Configuration(1, settings, (), tuple(range(len(positions)))))
    return made


def test_the_slowest_store_decides() -> None:
    """Of several the names are joined; one that is not open needs everything."""
    made = needs([30, 10, 10], "a", "b", "c")
    assert (made.passed(), made.slowest(), made.late(10), made.late(11)) == (
        10,
        "store b and store c",
        "",
        made.slowest(),
    )
    made = needs([30, -1], "a", "b")
    assert (made.passed(), made.slowest(), made.late(5)) == (0, "store b", "")


def test_without_a_store_nothing_is_passed() -> None:
    """Lines of an older configuration stay."""
    assert needs([]).passed() == 0


def test_groups_of_errors_hold_nothing_in_a_log_that_is_too_full() -> None:
    """The other stores decide alone; the name of the late one stays known."""
    made = needs([30, 10], "a", errors=True)
    assert (made.passed(), made.slowest()) == (10, "store errors")
    made.only_required = True
    assert (made.passed(), made.slowest(), made.late(30)) == (30, "store a", "store errors")
