"""The NATS store against a real server: each record is in the stream, under ids that take none twice."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.errors import StoreError
from prefork_logd.stores.base import Block, Run
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.store import NatsStore
from prefork_logd.stores.nats.stream import query_stream
from tests.support.disks import Disk
from tests.support.harness import Collector, frame, wait_for
from tests.support.nats_proxy import Proxy
from tests.support.nats_servers import Server, ask, free_ports
from tests.support.session_client import Faithful

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[[NatsStoreSettings, Path], NatsStore]

JOURNAL = "0123456789abcdef0123456789abcdef"
SESSION = b"s" * 16


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One server with JetStream."""
    server = Server(tmp_path, "n1", free_ports(1)[0]).start()
    yield server
    server.close()


@pytest.fixture
def make() -> Iterator[Make]:
    """Return what makes stores; they are closed in the end."""
    stores: list[NatsStore] = []

    def made(settings: NatsStoreSettings, path: Path) -> NatsStore:
        stores.append(NatsStore(msgspec.structs.replace(settings, checkpoint=str(path))))
        return stores[-1]

    yield made
    for store in stores:
        store.close()


def settings_for(server: Server, **keys: Any) -> NatsStoreSettings:
    """Return settings for a server."""
    return NatsStoreSettings(servers=(server.url,), timeout="3s", **keys)


def block(first: int, count: int, session: bytes = bytes(16), start: int = 0) -> Block:
    """Return a block whose messages are the records' numbers."""
    lines = b"".join(
        b'{"created":1.0,"name":"shop.check out","message":"%d"}\n' % number for number in range(first, first + count)
    )
    return Block(first, count, session, (Run(start, count),) if start else (), lines)


def refuse(number: int, line: bytes, why: str) -> None:
    """Take no refusals."""
    raise AssertionError((number, line[:80], why))


def contents(server: Server, stream: str = "LOGS") -> list[tuple[str, dict[str, str], bytes]]:
    """Return subject, headers and body of every message of a stream."""

    async def read(js: Any) -> list[tuple[str, dict[str, str], bytes]]:
        state = (await js.stream_info(stream)).state
        found = []
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await js.get_msg(stream, sequence)
            found.append((message.subject, message.headers, message.data or b""))
        return found

    return ask([server.url], read)


def numbers(server: Server) -> list[int]:
    """Return the number of every record in the stream, in its order, duplicates included."""
    found: list[int] = []
    for _, headers, body in contents(server):
        lines = wire.unpack(body, wire.read_header(headers).encoding)
        found += [int(json.loads(line)["message"]) for line in lines.splitlines()]
    return found


def test_records_are_published_in_order_under_ids(server: Server, make: Make, tmp_path: Path) -> None:
    """Ranges follow one another without holes, packed; what was published is wanted no more."""
    store = make(settings_for(server), tmp_path / "w")
    assert store.open(JOURNAL) == 0
    store.write([block(0, 3000), block(3000, 5)], refuse)
    store.write([block(3005, 1)], refuse)
    messages = contents(server)
    ranges = [wire.read_header(headers) for _, headers, _ in messages]
    assert [(it.first, it.end) for it in ranges] == [(0, 2048), (2048, 3005), (3005, 3006)]
    assert messages[0][0] == f"logs.{int(JOURNAL[:8], 16) % 16:03d}.{JOURNAL}"
    assert messages[0][1]["Nats-Msg-Id"] == f"{JOURNAL}-0-2048"
    assert len(messages[0][2]) < 20_000
    assert numbers(server) == list(range(3006))
    assert store.durable() == 0
    store.close()
    store.close()
    assert make(settings_for(server), tmp_path / "w").open(JOURNAL) == 3006


def test_a_crash_before_the_acknowledgement_publishes_the_same_ids(server: Server, make: Make, tmp_path: Path) -> None:
    """What was published and not written down as acknowledged is cut and named as before, in blocks cut elsewhere."""
    store = make(settings_for(server), tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 10)], refuse)
    before = (tmp_path / "w").read_bytes()
    store.write([block(10, 4000)], refuse)
    after = (tmp_path / "w").read_bytes()
    store.close()
    # As after a kill: the two cuts are written down, their acknowledgements are not.
    (tmp_path / "w").write_bytes(after[: len(before) + 2 * 36])
    store = make(settings_for(server), tmp_path / "w")
    assert store.open(JOURNAL) == 10
    for first in range(10, 4010, 1000):
        store.write([block(first, 600), block(first + 600, 400)], refuse)
    store.write([block(4010, 1)], refuse)
    store.close()
    assert numbers(server) == list(range(4011))


def test_a_lost_checkpoint_costs_nothing(server: Server, make: Make, tmp_path: Path) -> None:
    """Where to go on is read from the stream; what may come twice is told from its range."""
    store = make(settings_for(server), tmp_path / "w")
    store.open(JOURNAL)
    for first in range(0, 100, 10):
        store.write([block(first, 10)], refuse)
    store.close()
    (tmp_path / "w").unlink()
    store = make(settings_for(server), tmp_path / "w")
    wanted = store.open(JOURNAL)
    assert 0 < wanted <= 100
    store.write([block(wanted, 110 - wanted)], refuse)
    store.close()
    assert sorted(set(numbers(server))) == list(range(110))


def test_a_stream_that_was_set_back_is_noticed_and_filled(server: Server, make: Make, tmp_path: Path) -> None:
    """An older copy of the server's directory: the records since are wanted again, and take their old places."""
    store = make(settings_for(server), tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 10)], refuse)
    store.write([block(10, 10)], refuse)
    server.kill(15)
    shutil.copytree(server.store, tmp_path / "older")
    server.start()
    store.open(JOURNAL)
    store.write([block(20, 10)], refuse)
    store.write([block(30, 10)], refuse)
    server.kill()
    server.set_back_to(tmp_path / "older")
    server.start()
    # Somebody else's messages take the places of those that were lost.
    other = make(settings_for(server), tmp_path / "other")
    other.open("f" * 32)
    for first in range(5):
        other.write([block(first, 1)], refuse)
    other.close()
    with pytest.raises(StoreError):
        store.write([block(40, 10)], refuse)
    assert store.open(JOURNAL) == 20
    store.write([block(20, 20), block(40, 10)], refuse)
    store.close()
    ours = [wire.read_header(headers) for _, headers, _ in contents(server)]
    assert [(it.first, it.end) for it in ours if it.journal == JOURNAL] == [
        (0, 10), (10, 20), (20, 30), (30, 40), (40, 50)
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["json", "batch"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_stream_that_was_set_back_and_goes_on_with_others(
    server: Server, make: Make, tmp_path: Path, form: str, restarted: bool
) -> None:
    """Messages of another journal in the places of ours are noticed: the lost ones are published again."""
    settings = settings_for(server, format=form)
    store = make(settings, tmp_path / "w")
    other = make(settings, tmp_path / "other")
    store.open(JOURNAL)
    other.open("f" * 32)
    other.write([block(0, 3, SESSION, 1)], refuse)
    # A record that comes through both is one message, the other's.
    store.write([block(0, 3, SESSION, 1), block(3, 200)], refuse)
    store.write([block(203, 3, b"t" * 16, 1)], refuse)
    other.close()
    server.kill(15)
    shutil.copytree(server.store, tmp_path / "older")
    server.start()
    store.open(JOURNAL)
    store.write([block(206, 300)], refuse)
    server.kill()
    server.set_back_to(tmp_path / "older")
    server.start()
    other.open("f" * 32)
    for first in range(3, 1003, 250):
        other.write([block(first, 250)], refuse)
    other.close()
    if restarted:
        store.close()
        store = make(settings, tmp_path / "w")
    assert store.open(JOURNAL) <= 206
    wanted = store.open(JOURNAL)
    store.write([block(number, 1) for number in range(wanted, 506)], refuse)
    assert store.open(JOURNAL) == 506, "nothing is published for ever"
    store.close()
    found = {
        int(json.loads(line)["message"])
        for _, headers, body in contents(server)
        if wire.read_header(headers).journal == JOURNAL
        for line in wire.unpack(body, wire.read_header(headers).encoding).splitlines()
    }
    assert found >= set(range(3, 203)) | set(range(206, 506))


@pytest.mark.parametrize("form", ["json", "batch"])
def test_servers_that_take_small_messages(tmp_path: Path, make: Make, form: str) -> None:
    """Ranges are cut by the servers' limit; larger records are refused alone; a lower limit is named."""
    small = Server(tmp_path, "small", free_ports(1)[0], "max_payload: 40000\n").start()
    try:
        settings = settings_for(small, format=form, compress="none")
        store = make(settings, tmp_path / "w")
        store.open(JOURNAL)
        giant = b'{"message":"' + b"x" * 39_000 + b'"}\n'
        lines = [*block(0, 2000).lines.splitlines(keepends=True), giant, *block(2001, 99).lines.splitlines(True)]
        refused: list[int] = []
        store.write([Block(0, 2100, bytes(16), (), b"".join(lines))], lambda number, *_: refused.append(number))
        assert refused == [2000]
        found = (
            numbers(small) if form == "batch" else [int(json.loads(b)["message"]) for _, _, b in contents(small) if b]
        )
        assert found == [*range(2000), *range(2001, 2100)]
        assert store.open(JOURNAL) == 2100
        assert any("max_payload is 40000" in warning for warning in store.status()["warnings"])
        store.close()
        small.kill(15)
        small.config.write_text(small.config.read_text().replace("40000", "9000"))
        small.start()
        for attempt in (lambda: query_stream(settings), lambda: store.open(JOURNAL)):
            with pytest.raises(StoreError, match=r"max_payload is 9000 .*raise it"):
                attempt()
    finally:
        small.close()


@pytest.mark.parametrize(
    ("limit", "value"), [("max_msgs", 1500), ("max_msgs_per_subject", 5), ("max_msg_size", 5000), ("discard", "old")]
)
def test_limits_that_an_operator_sets_are_told(
    server: Server, make: Make, tmp_path: Path, limit: str, value: int | str
) -> None:
    """A stream that would throw records away is refused: by `check`, at the opening, and while it runs."""
    settings = settings_for(server)
    store = make(settings, tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 10)], refuse)

    async def edit(js: Any) -> None:
        config = (await js.stream_info("LOGS")).config
        await js.update_stream(config, **{limit: value})

    ask([server.url], edit)
    store._looked_s = -1e9
    with pytest.raises(StoreError, match=f"{limit} is {value}"):
        store.maintain()
    for attempt in (lambda: query_stream(settings), lambda: store.open(JOURNAL)):
        with pytest.raises(StoreError, match=f"{limit} is {value}"):
            attempt()


@pytest.mark.parametrize("form", ["json", "batch"])
def test_a_record_that_cannot_be_published_costs_itself(
    server: Server, make: Make, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised while a message is made of it."""
    store = make(settings_for(server, format=form), tmp_path / "w")
    store.open(JOURNAL)
    real_pack, real_name = store._pack, wire.logger_of

    def pack(lines: bytes) -> bytes:
        if b'"message":"137"' in lines:
            raise RecursionError("too deep")
        return real_pack(lines)

    def name(line: bytes) -> str:
        if b'"message":"137"' in line:
            raise RuntimeError("boom")
        return real_name(line)

    monkeypatch.setattr(store, "_pack", pack)
    monkeypatch.setattr(wire, "logger_of", name)
    refused: list[tuple[int, str]] = []
    store.write([block(0, 100), block(100, 100)], lambda number, _, why: refused.append((number, why)))
    ((number, why),) = refused
    assert number == 137
    assert "RecursionError" in why or "RuntimeError" in why
    found = [int(json.loads(line)["message"]) for _, headers, body in contents(server)
             for line in wire.unpack(body, wire.read_header(headers).encoding).splitlines()]  # fmt: skip
    assert found == [number for number in range(200) if number != 137]
    assert store.open(JOURNAL) == 200


def test_a_server_that_is_too_old_is_told(make: Make, tmp_path: Path) -> None:
    """With its version and the remedy."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(
                b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"jetstream":true,"headers":true}\r\n'
            )
            while data := client.recv(4096):
                if b"PING" in data:
                    client.sendall(b"PONG\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        store = make(NatsStoreSettings(servers=(f"nats://127.0.0.1:{port}",), timeout="3s"), tmp_path / "w")
        with pytest.raises(StoreError, match=r"nats-server 2\.9\.10 is too old.*upgrade it to 2\.10 or newer"):
            store.open(JOURNAL)
        store.close()
    finally:
        thread.join(10)
        listener.close()


def test_a_server_without_jetstream_is_told(tmp_path: Path, make: Make) -> None:
    """What it lacks, and where it is written."""
    plain = Server(tmp_path, "plain", free_ports(1)[0])
    plain.config.write_text(f'listen: "127.0.0.1:{plain.port}"\n')
    plain.start()
    try:
        with pytest.raises(StoreError, match=r"no answer from JetStream: .*jetstream \{\} in their configuration"):
            make(settings_for(plain), tmp_path / "w").open(JOURNAL)
    finally:
        plain.close()


def test_records_are_safe_only_after_the_servers_have_synced(server: Server, make: Make, tmp_path: Path) -> None:
    """The journal may forget what the stream has held for longer than sync_wait, and nothing before."""
    store = make(settings_for(server, sync_wait="400ms"), tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 10)], refuse)
    store.maintain()
    assert store.durable() == 0
    end = time.monotonic() + 5
    while store.durable() < 10:
        time.sleep(min(0.1, store.maintain()))
        assert time.monotonic() < end
    store.write([block(10, 10)], refuse)
    assert store.durable() == 10
    store.close()


def test_plain_records_for_everyone(server: Server, make: Make, tmp_path: Path) -> None:
    """Format = "json": one record a message, under its logger's name and its session's number."""
    store = make(settings_for(server, format="json"), tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 2, SESSION, 7), block(2, 1)], refuse)
    messages = contents(server)
    assert [headers["Nats-Msg-Id"] for _, headers, _ in messages] == [
        f"{SESSION.hex()}-7", f"{SESSION.hex()}-8", f"{JOURNAL}-2",
    ]  # fmt: skip
    assert messages[0][0].endswith(f".{JOURNAL}.shop.check%20out")
    assert json.loads(messages[1][2])["message"] == "1"
    store.close()
    # The same session's record through another collector is the same message.
    other = make(settings_for(server, format="json"), tmp_path / "other")
    other.open("f" * 32)
    other.write([block(0, 2, SESSION, 8)], refuse)
    assert len(contents(server)) == 4
    assert other.open("f" * 32) == 2
    other.close()


def test_a_stream_that_differs_is_named_with_both_values(server: Server, make: Make, tmp_path: Path) -> None:
    """Every key that differs, at once."""
    make(settings_for(server), tmp_path / "w").open(JOURNAL)
    with pytest.raises(StoreError) as caught:
        make(settings_for(server, duplicate_window="20m", partitions=4), tmp_path / "w").open(JOURNAL)
    assert "duplicate_window is 600s on the server and 1200s in [[store]]" in str(caught.value)
    assert "partitions is 16 on the server and 4 in [[store]]" in str(caught.value)


def test_replicas_that_a_lone_server_cannot_have_are_told(server: Server, make: Make, tmp_path: Path) -> None:
    """By `check --connect` before the first start, and by the store; with what helps."""
    settings = settings_for(server, replicas=3)
    for attempt in (lambda: query_stream(settings), lambda: make(settings, tmp_path / "w").open(JOURNAL)):
        with pytest.raises(StoreError, match=r"replicas is 3 in .*, and the server is in no cluster; set replicas = 1"):
            attempt()


def test_a_full_stream_refuses_and_nothing_is_lost(server: Server, make: Make, tmp_path: Path) -> None:
    """Above max_bytes the server says no; when there is room again, what it refused is published."""
    store = make(settings_for(server, max_bytes=100_000, compress="none"), tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 1000)], refuse)
    with pytest.raises(StoreError, match="maximum bytes"):
        store.write([block(1000, 1500)], refuse)
    assert store.open(JOURNAL) == 1000
    ask([server.url], lambda js: js.purge_stream("LOGS"))
    assert store.open(JOURNAL) == 1000, "what was purged was not lost"
    store.write([block(1000, 500), block(1500, 1000)], refuse)
    store.close()
    assert sorted(set(numbers(server))) == list(range(1000, 2500))


def test_a_line_that_no_message_holds_is_refused_alone(server: Server, make: Make, tmp_path: Path) -> None:
    """The others are published, and its number is used up."""
    giant = b'{"message":"' + os.urandom(700_000).hex().encode() + b'"}\n'
    lines = [*block(0, 2).lines.splitlines(keepends=True), giant, *block(3, 2).lines.splitlines(keepends=True)]
    refused: list[tuple[int, bytes]] = []
    store = make(settings_for(server), tmp_path / "w")
    store.open(JOURNAL)
    store.write([Block(0, 5, bytes(16), (), b"".join(lines))], lambda number, line, _: refused.append((number, line)))
    assert refused == [(2, giant)]
    assert numbers(server) == [0, 1, 3, 4]
    store.close()


def test_a_server_that_is_away_is_named(make: Make, tmp_path: Path) -> None:
    """The error says where, and nothing hangs."""
    port = free_ports(1)[0]
    store = make(NatsStoreSettings(servers=(f"nats://127.0.0.1:{port}",), timeout="1s"), tmp_path / "w")
    with pytest.raises(StoreError, match=f"127.0.0.1:{port}: cannot connect: Connection refused$"):
        store.open(JOURNAL)
    with pytest.raises(StoreError, match="not connected"):
        store.write([block(0, 1)], refuse)
    store.close()


@pytest.mark.parametrize("form", ["batch", "json"])
def test_another_user_of_nats_reads_each_record_once(server: Server, make: Make, tmp_path: Path, form: str) -> None:
    """The example, which has nothing of ours: repetitions, other cuts, holes and a line that was refused."""
    store = make(settings_for(server, format=form), tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 3), block(5, 2)], refuse)
    giant = b'{"message":"' + os.urandom(700_000).hex().encode() + b'"}\n'
    lines = block(7, 1).lines + giant + block(9, 2).lines
    store.write([Block(7, 4, bytes(16), (), lines)], lambda *_: None)
    store.close()
    # As with a checkpoint that was lost: a part comes again, cut elsewhere, when the servers do not know its id.
    (tmp_path / "w").unlink()
    wanted = store.open(JOURNAL)
    store.write([block(number, 1) for number in (*range(wanted, 3), 5, 6, 7, 9, 10, 11) if number >= wanted], refuse)
    store.close()
    example = Path(__file__).parents[3] / "examples" / "read_nats.py"
    done = subprocess.run(
        [sys.executable, str(example), server.url, "logs.>"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == [
        str(number) for number in (0, 1, 2, 5, 6, 7, 9, 10, 11)
    ]


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """Return a link to the server that can be cut."""
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


def test_lost_acknowledgements_publish_again_under_the_same_ids(
    server: Server, proxy: Proxy, make: Make, tmp_path: Path
) -> None:
    """The stream has what was published, we do not hear of it; the servers know it when it comes again."""
    settings = NatsStoreSettings(servers=(proxy.url,), timeout="1s")
    store = make(settings, tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 10)], refuse)
    proxy.deafen()
    with pytest.raises(StoreError):
        store.write([block(10, 5000)], refuse)
    assert numbers(server) == list(range(5010)), "they have arrived"
    proxy.mend()
    assert store.open(JOURNAL) == 10, "nothing is taken for published that was not acknowledged"
    store.write([block(10, 3000), block(3010, 3000)], refuse)
    store.close()
    assert numbers(server) == list(range(6010))


def test_a_link_that_is_cut_costs_nothing(server: Server, proxy: Proxy, make: Make, tmp_path: Path) -> None:
    """The error comes at once, not after the timeout; what waits is published when there is a link again."""
    store = make(NatsStoreSettings(servers=(proxy.url,), timeout="60s"), tmp_path / "w")
    store.open(JOURNAL)
    store.write([block(0, 10)], refuse)
    proxy.cut()
    with pytest.raises(StoreError):
        store.write([block(10, 10)], refuse)
    with pytest.raises(StoreError, match="cannot connect"):
        store.open(JOURNAL)
    proxy.mend()
    assert store.open(JOURNAL) == 10
    store.write([block(10, 10)], refuse)
    store.close()
    assert numbers(server) == list(range(20))


def test_status_tells_what_is_in_effect(server: Server, make: Make, tmp_path: Path) -> None:
    """Replicas, duplicate window, what is not settled; and what is too little for the promise."""
    settings = settings_for(server, duplicate_window="1m")
    assert query_stream(settings)["messages"] is None
    store = make(settings, tmp_path / "w")
    assert store.status() == {}
    store.open(JOURNAL)
    store.write([block(0, 10)], refuse)
    told = store.status()
    assert (told["stream"], told["replicas"], told["replicas_in_step"]) == ("LOGS", 1, 1)
    assert (told["duplicate_window_s"], told["unsettled_records"]) == (60.0, 10)
    assert [warning.split()[0] for warning in told["warnings"]] == ["replicas", "duplicate_window"]
    assert query_stream(settings)["messages"] == 1
    with pytest.raises(StoreError, match="duplicate_window is 60s on the server"):
        query_stream(settings_for(server))


def test_check_and_status_show_it(server: Server, tmp_path: Path) -> None:
    """For people and for programs, from a collector that runs."""
    (tmp_path / "edge").mkdir()
    toml = f'[[store]]\ntype = "nats"\nservers = ["{server.url}"]\nduplicate_window = "1m"\ntimeout = "2s"\n'
    edge = Collector(tmp_path / "edge", toml, "--workers", "1")
    done = edge.cli("check", "--connect")
    assert "# store 'nats': stream LOGS is not there; it will be made" in done.stdout
    edge.start()
    try:
        wait_for(lambda: edge.status()["stores"][0]["details"], "the store has told of itself")
        done = edge.cli("check", "--connect")
        assert (
            "# store 'nats': stream LOGS: replicas 1 (1 in step), duplicate_window 1 min 0 s, 0 messages" in done.stdout
        )
        assert "warning: store 'nats': replicas is 1" in done.stderr
        shown = edge.cli("status").stdout
        assert "stream LOGS, 1 of 1 replica in step, duplicate window 1 min 0 s" in shown
        assert "store nats: duplicate_window is below sync_wait" in shown
        server.kill()
        with edge.connect() as client:
            client.sendall(frame("wakes the shipper"))
            wait_for(lambda: edge.status()["stores"][0]["failing"], "it is missed")
        wait_for(lambda: "127.0.0.1" in edge.status()["stores"][0]["problem"], "the problem is told")
        done = edge.cli("check", "--connect")
        assert done.returncode == 1
        assert "cannot connect" in done.stderr
    finally:
        edge.clean_up()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a file system of the test's own, not mounted yet."""
    found = Disk(tmp_path / "disk")
    yield found
    if os.path.ismount(found.path):
        found.unmount()


def test_a_full_disk_of_the_servers_holds_records_back(server: Server, tmp_path: Path, disk: Disk) -> None:
    """Their store directory is full (503): records wait in the journal, and arrive once when there is room."""
    server.kill(15)
    disk.mount("size=8m")
    full = Server(tmp_path, "n2", free_ports(1)[0], store=disk.path / "js").start()
    (tmp_path / "edge").mkdir()
    toml = f'[[store]]\ntype = "nats"\nservers = ["{full.url}"]\ncompress = "none"\ntimeout = "2s"\n'
    edge = Collector(tmp_path / "edge", toml, "--workers", "1").start()
    client = Faithful(edge, "c1")
    try:
        client.log(50, 50)
        wait_for(lambda: edge.status()["stores"][0]["lag_records"] == 0, "the first are in the stream")
        disk.fill(1 << 16)
        # Each is acknowledged by the edge, whose own disk is another.
        client.log(4000, 1000)
        wait_for(lambda: edge.status()["stores"][0]["failing"], "the store fails")
        assert edge.status()["stores"][0]["lag_records"]
        disk.free()
        full.kill()
        full.start()
        client.log(50, 50)
        wait_for(lambda: edge.status()["stores"][0]["lag_records"] == 0, "all are in the stream", 60)
        found = sorted(set(messages_in(full)))
        assert found == [f"c1-{number:07d}" for number in range(1, 4101)]
    finally:
        client.close()
        edge.clean_up()
        full.close()


def messages_in(server: Server) -> list[str]:
    """Return the message of every record in the stream, in its order, duplicates included."""
    found: list[str] = []
    for _, headers, body in contents(server):
        lines = wire.unpack(body, wire.read_header(headers).encoding)
        found += [json.loads(line)["message"] for line in lines.splitlines()]
    return found
