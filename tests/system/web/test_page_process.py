"""The page's process: it comes with the collector, costs ingest nothing, and comes back whatever happens to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from typing import TYPE_CHECKING

import httpx

from prefork_logd.web.users import hash_password
from tests.support.harness import Collector, frames, messages, wait_for
from tests.support.page_visitor import addresses, browser, page_pid
from tests.support.session_client import Faithful

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[..., Collector]

WEB = '[server]\nbind = ["127.0.0.1:0"]\nworkers = 1\n[web]\nbind = ["127.0.0.1:0"]\n'
USER = f'[[web.user]]\nname = "ada"\npassword = "{hash_password("geheim")}"\n'
SESSION = "/api/v1/session"


def send(collector: Collector, count: int) -> None:
    """Send records, and wait until they are written."""
    before = len(collector.lines())
    with collector.connect() as sock:
        sock.sendall(frames(f"record {number}" for number in range(count)))
    collector.wait_for_records(before + count)


def test_the_address_with_its_token_is_printed(make_collector: Maker) -> None:
    """By `run`, `start` and `status`; the token lets in once, as an admin, and a status has it only for its owner."""
    collector = make_collector(WEB).start()
    url = re.search(r"page at (http://127\.0\.0\.1:\d+/\?token=\S+)", collector.log)[1]
    assert addresses(collector) == [url]
    with browser(collector, url) as client:
        found = client.get(SESSION).json()
        assert (found["user"], found["role"]) == ("local", "admin")
    (second,) = addresses(collector)
    assert second != url
    assert f"page at {second}" in collector.cli("status").stdout
    assert "token" not in json.dumps(collector.status()["page"])
    assert httpx.get(url).status_code == 401
    assert collector.stop() == 0
    started = collector.cli("start")
    assert re.search(r"page at http://127\.0\.0\.1:\d+/\?token=\S+\n", started.stdout), started
    assert "token=" not in (collector.state_dir / "prefork-logd.log").read_text()
    assert collector.cli("stop").returncode == 0


def test_a_killed_page_comes_back(make_collector: Maker) -> None:
    """With its address and its sessions; ingest does not notice."""
    collector = make_collector(WEB).start()
    workers, writer = collector.worker_pids(), collector.child("writer")
    with browser(collector) as client:
        pid = page_pid(collector)
        os.kill(pid, signal.SIGKILL)
        send(collector, 100)
        wait_for(lambda: page_pid(collector) != pid, "another process")
        assert client.get(SESSION).json()["user"] == "local"
    assert (collector.worker_pids(), collector.child("writer")) == (workers, writer)
    assert collector.stop() == 0


def test_a_session_does_not_notice_the_page(make_collector: Maker) -> None:
    """Every acknowledged record is stored once, while the page is killed again and again."""
    collector = make_collector(WEB).start()
    client = Faithful(collector, "service")
    for _ in range(3):
        pid = page_pid(collector)
        client.log(20)
        os.kill(pid, signal.SIGKILL)
        client.log(20)
        wait_for(lambda pid=pid: page_pid(collector) != pid, "another process")
    client.close()
    assert messages(collector.records()) == [f"service-{number:07d}" for number in range(1, 121)]
    assert collector.stop() == 0


def test_a_page_that_hangs_holds_up_nothing(make_collector: Maker) -> None:
    """Records are written, `status` answers and names it, and a stop kills it in the end."""
    collector = make_collector(WEB).start()
    pid = page_pid(collector)
    os.kill(pid, signal.SIGSTOP)
    send(collector, 100)
    (child,) = [child for child in collector.status()["children"] if child["kind"] == "web"]
    assert child["silent_s"] > 0
    began_s = time.monotonic()
    assert collector.stop() == 0
    assert time.monotonic() - began_s < 15
    assert f"page (pid {pid}) did not end in time and was killed" in collector.log


def test_the_page_ends_with_a_killed_master(make_collector: Maker) -> None:
    """Otherwise the next collector would find its address taken."""
    collector = make_collector(WEB).start()
    pid = page_pid(collector)
    collector.send_signal(signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the page")  # noqa: PTH110


def test_a_reload_takes_new_addresses_and_users(make_collector: Maker) -> None:
    """Old sessions go on; an address that is gone is refused, and one that is taken is a problem that names it."""
    collector = make_collector(WEB).start()
    with browser(collector) as client:
        pid = page_pid(collector)
        collector.configure(WEB + USER)
        assert "web.user" in collector.cli("reload").stdout
        wait_for(lambda: page_pid(collector) != pid, "another process")
        assert client.get(SESSION).json()["user"] == "local"
        answer = client.post("/login", data={"name": "ada", "password": "geheim"})
        assert answer.status_code == 303, answer.text
        assert client.get(SESSION).json()["role"] == "viewer"
        path = collector.state_dir / "page.sock"
        collector.configure(WEB.replace('[web]\nbind = ["127.0.0.1:0"]', f'[web]\nbind = ["unix:{path}"]'))
        assert "web.bind" in collector.cli("reload").stdout
        wait_for(path.is_socket, "the socket")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as local:
            assert local.get("/login").status_code == 200
        wait_for(lambda: _is_refused(client), "the old address refused")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        collector.configure(WEB.replace('[web]\nbind = ["127.0.0.1:0"]', f'[web]\nbind = ["{taken}"]'))
        done = collector.cli("reload")
        assert done.returncode == 1
        assert f"web.bind: cannot listen on {taken}" in done.stderr
    send(collector, 10)
    assert collector.stop() == 0
    assert not path.exists()


def _is_refused(client: httpx.Client) -> bool:
    try:
        client.get("/login")
    except httpx.ConnectError:
        return True
    return False


def test_an_upgrade_keeps_address_and_sessions(make_collector: Maker) -> None:
    """Connections wait in the socket while the processes change."""
    collector = make_collector(WEB).start()
    with browser(collector) as client:
        before, pid = collector.status()["page"]["bind"], page_pid(collector)
        done = collector.cli("upgrade")
        assert done.returncode == 0, done.stderr
        assert client.get(SESSION).json()["user"] == "local"
        assert collector.status()["page"]["bind"] == before
        assert page_pid(collector) != pid
    assert collector.stop() == 0


def test_a_taken_address_prevents_a_start_and_the_default_one_does_not(make_collector: Maker) -> None:
    """The page is not worth an outage; but what somebody has configured has to be there."""
    with socket.create_server(("127.0.0.1", 0)) as other, contextlib.ExitStack() as stack:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        done = make_collector(f'[server]\nbind = ["127.0.0.1:0"]\n[web]\nbind = ["{taken}"]\n', name="one").cli("run")
        assert done.returncode == 1
        assert f"cannot listen on {taken}" in done.stderr
        # Another program may have it already.
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 9021)))
        collector = make_collector('[server]\nbind = ["127.0.0.1:0"]\n[web]\nsearches = 1\n', name="two").start()
        assert "there is no page" in collector.log
        assert "no page: cannot listen on 127.0.0.1:9021" in collector.cli("status").stdout
        send(collector, 10)
        assert collector.stop() == 0
        daemon = make_collector('[server]\nbind = ["127.0.0.1:0"]\n[web]\nsearches = 1\n', name="three")
        started = daemon.cli("start")
        try:
            assert started.returncode == 0
            assert "no page: cannot listen on 127.0.0.1:9021" in started.stderr
        finally:
            assert daemon.cli("stop").returncode == 0


def test_a_page_without_an_address_has_no_process(make_collector: Maker) -> None:
    """`bind = []`."""
    collector = make_collector("[web]\nbind = []\n").start()
    assert [child for child in collector.status()["children"] if child["kind"] == "web"] == []
    assert "page at" not in collector.log


def test_a_stop_waits_for_no_stream(make_collector: Maker) -> None:
    """Somebody who watches the live tail does not hold the collector up; the stream ends as it should."""
    collector = make_collector(f'[[store]]\ntype = "parquet"\n{WEB}').start()
    send(collector, 1)
    with browser(collector) as client, client.stream("GET", "/api/v1/tail") as tail:
        pieces = tail.iter_raw()
        next(pieces)
        began_s = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - began_s < 10
        with contextlib.suppress(httpx.RemoteProtocolError):
            for _ in pieces:
                pass
    assert "did not end in time" not in collector.log
    assert "request failed" not in collector.log
