"""An unexpected error ends what it belongs to, and the master goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.system import shield

if TYPE_CHECKING:
    from collections.abc import Callable


def _raise() -> None:
    raise RecursionError("too deep")


def test_an_attempt_says_what_failed(caplog: pytest.LogCaptureFixture) -> None:
    """One line with the error and its place."""
    assert shield.attempt("the end of worker 1", list)
    assert not shield.attempt("the end of worker 1", _raise)
    assert [record.getMessage().partition(" at ")[0] for record in caplog.records] == [
        "the end of worker 1: RecursionError: too deep"
    ]


def test_a_loop_goes_on_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run again until it has ended by itself."""
    monkeypatch.setattr(shield, "PAUSE_S", 0.0)
    left: list[Callable[[], object]] = [_raise, _raise, list]

    def turn() -> None:
        left.pop(0)()

    shield.run(turn, lambda: not left)
    assert not left


def test_errors_that_do_not_cease_end_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that fails in each turn ends."""
    monkeypatch.setattr(shield, "PAUSE_S", 0.0)
    with pytest.raises(RecursionError):
        shield.run(_raise, lambda: False)
