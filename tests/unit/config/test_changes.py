"""The keys that a running collector takes, and those that wait for a restart."""

from __future__ import annotations

from prefork_logd.config.changes import changes, with_live_changes
from prefork_logd.config.load import loads
from tests.support.settings import STATE, STORES


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


def test_a_change_of_a_listener_or_a_source_is_named_by_its_key() -> None:
    """A table that is new or gone is named, too; one that has only another place in the file is not."""
    source = '[[source]]\ntype = "nats"\nservers = ["nats://h:1"]\nstream = "LOGS"\ngroup = "g"\n'
    first, second, third = (f'[[listener]]\naddress = "h:{port}"\n' for port in (1, 2, 3))
    old = loads(f'{first}{second}accept = "session"\n{source}')
    new = loads(f'{third}{second}tls = "require"\ntls_cert = "c"\ntls_key = "k"\n{source}timeout = "20s"\n')
    live, waiting = changes(old, new)
    assert live == []
    assert waiting == [
        "listener h:1, which is gone",
        "listener h:2: accept",
        "listener h:2: tls",
        "listener h:2: tls_cert",
        "listener h:2: tls_key",
        "listener h:3, which is new",
        "source LOGS (g): timeout",
    ]
    assert changes(loads(first + second), loads(second + first)) == ([], [])
    assert with_live_changes(old, new).listener == old.listener
