"""The page's sockets are bound once, follow the configuration, and are passed on to the next program."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from prefork_logd.config.load import loads
from prefork_logd.processes.master import page_sockets as module
from prefork_logd.processes.master.page_sockets import InheritedPageSocket, PageSockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.settings import Settings


def web(*bind: str, metrics: tuple[str, ...] = ()) -> Settings:
    text = f"[web]\nbind = {list(bind)!r}\n[metrics]\nbind = {list(metrics)!r}"
    return loads(text, "", {"state_dir": "/state"})


@pytest.fixture
def sockets() -> Iterator[PageSockets]:
    made = PageSockets()
    yield made
    made.close()


def test_the_addresses_of_the_configuration_are_bound(sockets: PageSockets, tmp_path: Path) -> None:
    """Port 0 picks one, which is named; a Unix socket has a file while it is wanted."""
    path = tmp_path / "page.sock"
    assert sockets.bind(web("127.0.0.1:0", f"unix:{path}")) == ([], True)
    first, second = sockets.addresses
    assert first.startswith("127.0.0.1:")
    assert not first.endswith(":0")
    assert second == f"unix:{path}"
    assert path.is_socket()
    assert sockets.bind(web("127.0.0.1:0")) == ([], True)
    assert sockets.addresses == [first]
    assert not path.exists()


def test_sockets_that_are_wanted_stay(sockets: PageSockets) -> None:
    """A browser that connects during a reload is not refused."""
    sockets.bind(web("127.0.0.1:0"))
    before = sockets.addresses
    assert sockets.bind(web("127.0.0.1:0")) == ([], False)
    assert sockets.addresses == before
    assert sockets.bind(web()) == ([], True)
    assert list(sockets) == []


def test_an_address_that_is_taken_is_a_problem(sockets: PageSockets) -> None:
    """The others are bound; it is tried again by the next reload."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        problems, is_changed = sockets.bind(web(taken, "[::1]:0"))
        assert is_changed
        (problem,) = problems
        assert problem.startswith(f"web.bind: cannot listen on {taken}: ")
        assert len(sockets.addresses) == 1
        assert sockets.problem == ""
    assert sockets.bind(web(taken, "[::1]:0")) == ([], True)
    assert taken in sockets.addresses


def test_the_default_address_is_not_worth_a_collector(
    sockets: PageSockets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If it is taken there is a warning, once, and no page."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setattr(module, "DEFAULT_ADDRESS", taken)
        for _ in range(2):
            assert sockets.bind(web(taken)) == ([], False)
            assert sockets.problem.endswith("or choose another port (web.bind), then `prefork-logd reload`")
    assert sum("there is no page" in record.message for record in caplog.records) == 1
    assert sockets.bind(web(taken)) == ([], True)
    assert sockets.problem == ""


def test_metrics_have_sockets_of_their_own(sockets: PageSockets) -> None:
    """Also where both have a port that is picked; each is closed when it is not wanted."""
    assert sockets.bind(web("127.0.0.1:0", metrics=("127.0.0.1:0",))) == ([], True)
    (page,), (metrics,) = sockets.addresses, sockets.metrics_addresses
    assert page != metrics
    assert (len(sockets.of_page()), len(sockets.of_metrics()), len(list(sockets))) == (1, 1, 2)
    assert sockets.bind(web(metrics=("127.0.0.1:0",))) == ([], True)
    assert (sockets.addresses, sockets.metrics_addresses) == ([], [metrics])
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        (problem,) = sockets.bind(web(metrics=(taken,))).problems
        assert problem.startswith(f"metrics.bind: cannot listen on {taken}: ")
    assert sockets.metrics_addresses == []


def test_the_next_program_has_the_same_sockets(tmp_path: Path) -> None:
    """With their addresses, and with the right to remove the file of a Unix socket."""
    path = tmp_path / "page.sock"
    sockets = PageSockets()
    wanted = web("127.0.0.1:0", f"unix:{path}", metrics=("127.0.0.1:0",))
    sockets.bind(wanted)
    state = msgspec.json.decode(msgspec.json.encode(sockets.state()), type=list[InheritedPageSocket])
    copies = [msgspec.structs.replace(left, fd=os.dup(left.fd)) for left in state]
    heir = PageSockets(inherited=copies)
    assert heir.addresses == sockets.addresses
    assert heir.metrics_addresses == sockets.metrics_addresses
    assert heir.bind(wanted) == ([], False)
    sockets.close_in_child()
    heir.close()
    assert not path.exists()
