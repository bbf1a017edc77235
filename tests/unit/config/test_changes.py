"""The keys that a running collector takes, and those that wait for a restart."""

from __future__ import annotations

from prefork_logd.config.changes import changes, with_live_changes
from prefork_logd.config.load import loads
from tests.unit.config.test_load import STATE, STORES


def test_changes_are_told_apart_by_whether_they_can_be_live() -> None:
    """Reload names what it took and what waits for a restart, and keeps the latter."""
    old = loads('[server]\nbind = ["h:1"]\nworkers = 1', "", STATE)
    new = loads(
        '[server]\nbind = ["h:2"]\nworkers = 2\n[limits]\nmax_connections = 5\n[[output]]\nlevel = "INFO"', "", STATE
    )
    assert changes(old, new) == (["server.workers", "limits.max_connections", "output"], ["server.bind"])
    merged = with_live_changes(old, new)
    assert merged.server.bind == ("h:1",)
    assert (merged.server.workers, merged.limits.max_connections) == (2, 5)
    assert changes(old, old) == ([], [])


def test_another_store_is_taken_live() -> None:
    """A reload adds, changes and removes stores."""
    assert changes(loads("store = []"), loads(STORES)) == (["store"], [])
