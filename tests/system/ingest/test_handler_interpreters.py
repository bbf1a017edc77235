"""The handler under real interpreters, against a fake collector: what it delivers, and what it puts up with."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import interpreters
from tests.support.fake_collector import WELCOME, Behaviour, Chatterbox, FakeCollector, message
from tests.support.handler_service import Service, assert_whole, messages, numbered, python_with, run, wait_for
from tests.support.interpreters import ENDS
from tools import single_file

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = ("2.7", "3.6", "3.8", "3.11", "3.13")
LATEST = ("3.13",)
KEY = b"sixteen bytes or more"


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    with FakeCollector() as running:
        yield running


@pytest.mark.parametrize("version", interpreters.WANTED)
def test_records_arrive_once_and_in_order_in_a_form_the_fast_path_reads(version, collector):
    found = run(version, "some", collector, count=500)
    assert found["flushed"]
    assert [name for name in found["own_modules"] if not name.startswith("prefork_logd.handlers.")] == [
        "prefork_logd",
        "prefork_logd.handlers",
    ]
    assert found["counters"]["acknowledged"] == found["counters"]["emitted"] == 500
    assert messages(collector) == numbered(500)
    assert_whole(collector)
    (stored,) = collector.sessions.values()
    assert f"python {version}." in stored.client
    assert collector.byes == 1


@pytest.mark.parametrize("version", interpreters.WANTED)
def test_the_files_joined_into_one_work_as_well(version, collector, tmp_path, monkeypatch):
    (tmp_path / "copied.py").write_text(single_file.join_modules())
    monkeypatch.setenv("HANDLER_MODULE", str(tmp_path / "copied"))
    found = run(version, "some", collector, count=100)
    assert found["own_modules"] == []
    assert found["counters"]["acknowledged"] == 100
    assert messages(collector) == numbered(100)


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize(("how", "status"), [("return", 0), ("_exit", 0), ("raise", 3), ("kill", -signal.SIGKILL)])
def test_what_was_emitted_arrives_however_the_service_ends(version, how, status, collector):
    Service(version, "ends", collector, count=300, how=how).end(status=status)
    wait_for(lambda: len(collector.records) == 300)
    assert messages(collector) == numbered(300)


@pytest.mark.parametrize("version", interpreters.WANTED)
def test_values_that_cannot_be_pickled_formatted_or_told_go_as_text(version, collector):
    import pickle

    found = run(version, "values", collector)
    assert found["counters"]["dropped"] == 0
    records = [pickle.loads(body, encoding="utf-8") for body in collector.records]
    odd, worse, apples, argument, worst, message, large, snow, data, failed, untold, queued, fields = records[:-2]
    private, names = records[-2:]
    assert (odd["odd"]["text"], odd["fine"]) == ("odd one", 5)
    assert "lock" in odd["lock"]["text"]
    assert "<lambda>" in odd["call"]["__name__"]
    assert worse["worse"]["text"] == "<Worse>"
    assert apples["msg"].startswith("%d apples (not formatted")
    assert "no" in apples["msg"]
    assert argument["msg"] == "argument odd one"
    assert "<Worse>" in worst["msg"]
    assert message["msg"] == "odd one"
    assert large["number"] == 7
    assert len(collector.records[6]) <= 1 << 20
    assert len(collector.records[6]) > 1_000_000
    assert large["text"].startswith("xxx")
    assert large["text"].endswith("xxx")
    assert " cut) ..." in large["text"]
    assert large["prefork_logd.truncated"] == ["extra.text"]
    assert (fields["msg"], fields["user"]) == ("paid", 17)
    assert snow["msg"] == "snow \u2603 \u2603"
    assert data["data"] == {"a": [1, 2, {"b": None}]}
    assert "RuntimeError: second" in failed["exc_text"]
    assert "exc_info" not in failed
    assert version == "2.7" or "KeyError: 'first'" in failed["exc_text"]
    assert "Worse_error" in untold["exc_text"]
    assert (queued["exc_text"], queued["stack_info"]) == ("kept text", "kept stack")
    assert (private["private"]["text"], private["items"][0]["text"], private["fine"]) == ("private", "private", 5)
    assert (private["extra"]["text"], names["liar"]) == ("liar", 5)
    assert not any(b"t0ken" in body for body in collector.records)


@pytest.mark.parametrize("version", ["3.6", "3.13"])
def test_a_queue_handler_in_front_keeps_traceback_and_stack(version, collector):
    assert run(version, "queued", collector)["flushed"]
    (record,) = collector.dicts
    told = f"{record['msg']} {record.get('exc_text')} {record['stack_info']}"
    assert "ZeroDivisionError" in told
    assert "Stack (most recent call last)" in told


@pytest.mark.parametrize("version", ENDS)
def test_unix_sockets_work(version, tmp_path):
    with FakeCollector(str(tmp_path / "s")) as collector:
        for host in (f"unix:{tmp_path}/s", f"{tmp_path}/s"):
            assert run(version, "some", (host, ""), count=100)["flushed"]
        assert messages(collector) == numbered(100) * 2


@pytest.mark.parametrize("version", ENDS)
def test_configuration_by_dict_and_by_file(version, collector, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    found = run(version, "configured", collector)
    assert (found["name"], found["flushed"], found["kind"]) == ("logd", True, "prefork_logd.handlers")
    assert sorted(messages(collector)) == ["by dict", "by file"]


@pytest.mark.parametrize("version", ENDS)
def test_a_subclass_may_make_its_own_socket_and_pickle(version, collector):
    found = run(version, "subclass", collector)
    assert (found["flushed"], found["made"]) == (True, 1)
    assert [record["added"] for record in collector.dicts] == ["here"] * 20


@pytest.mark.parametrize("version", ENDS)
def test_a_host_name_is_resolved_aside(version, collector):
    assert run(version, "some", (socket.gethostname(), collector.port), fallback=False) is not None


@pytest.mark.parametrize("version", ENDS)
def test_a_collector_that_dies_at_any_moment_gets_every_record_once(version):
    behaviour = Behaviour(commits=0.7, resets=0.05, acks_lost=0.3)
    with FakeCollector(behaviour=behaviour, seed=len(version)) as collector:
        service = Service(version, "stream", collector, seconds=2.5, threads=3)
        for pause in (0.3, 0.1, 0.4, 0.2, 0.5, 0.15):
            service_is_up = threading.Event()
            service_is_up.wait(pause)
            collector.kill()
            service_is_up.wait(0.05)
            collector.start()
        collector.behaviour = Behaviour()
        found = service.end()
        assert found["counters"]["dropped"] == 0
        expected = [f"thread {i} record {n}" for i, count in enumerate(found["counts"]) for n in range(count)]
        got = messages(collector)
        assert len(got) == len(expected)
        assert set(got) == set(expected)
        assert_whole(collector)


@pytest.mark.parametrize("version", interpreters.WANTED)
def test_forking_in_the_middle_of_emits_loses_and_doubles_nothing(version, collector):
    found = run(version, "forks", collector, children=8, each=5)
    assert found["statuses"] == [0] * 8
    assert found["flushed"]
    expected = [f"parent {i} record {n}" for i, count in enumerate(found["counts"]) for n in range(count)]
    expected += [f"child {child} record {n}" for child in range(8) for n in range(5)]
    assert sorted(messages(collector)) == sorted(expected)
    assert len(collector.sessions) == 9
    assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize("overflow", ["block", "spool"])
def test_a_fork_that_python_does_not_hear_of_begins_a_session(version, overflow, collector, tmp_path):
    arguments = {"spool_dir": str(tmp_path)} if overflow == "spool" else {}
    found = Service(version, "forks_in_c", collector, overflow=overflow, **arguments).end()
    assert (found["status"], found["flushed"]) == (0, True)
    expected = [f"parent record {n}" for n in range(200)] + [f"child record {n}" for n in range(100, 200)]
    assert sorted(messages(collector)) == sorted(expected)
    assert len(collector.sessions) == 2
    assert_whole(collector)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_fork_in_c_with_the_calls_that_python_asks_for_loses_and_doubles_nothing(version, collector):
    found = run(version, "forks_like_uwsgi", collector, children=6, each=5)
    assert found["statuses"] == [0] * 6
    assert found["flushed"]
    expected = [f"parent {i} record {n}" for i, count in enumerate(found["counts"]) for n in range(count)]
    expected += [f"child {child} record {n}" for child in range(6) for n in range(5)]
    assert sorted(messages(collector)) == sorted(expected)
    assert len(collector.sessions) == 7
    assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
def test_a_fork_within_emit_harms_neither_side(version, collector):
    found = run(version, "forks_within", collector)
    assert found["statuses"] == [0, 0, 0]
    assert found["flushed"]
    got = messages(collector)
    assert got.count("before") == 3
    assert got.count("child") == 3
    assert got.count("forked") >= 3


@pytest.mark.parametrize("version", ENDS)
def test_children_of_multiprocessing_flush_at_their_end(version, collector):
    assert run(version, "processes", collector)["statuses"] == [0] * 4
    assert sorted(messages(collector)) == ["parent", *(f"process {index}" for index in range(4))]


@pytest.mark.parametrize("version", ENDS)
def test_children_of_multiprocessing_flush_a_handler_of_their_own(version):
    """The collector answers only after the child has nothing left to do."""
    with FakeCollector(behaviour=Behaviour(reads=False)) as collector:
        service = Service(version, "processes_of_their_own", collector)
        assert service.line()["emitted"]
        collector.behaviour.reads = True
        assert service.end()["status"] == 0
        assert messages(collector) == ["process 0"]


@pytest.mark.parametrize("version", ENDS)
def test_logging_from_a_signal_handler_that_interrupts_emit(version, collector):
    found = run(version, "signals", collector)
    assert found["counts"]["within"] > 0
    assert found["flushed"]
    expected = numbered(found["number"]) + [f"signal {n}" for n in range(found["counts"]["interrupted"])]
    got = messages(collector)
    assert len(got) == len(set(got))
    assert set(expected) - set(got) == set()
    assert set(got) == set(expected)
    assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
def test_an_exception_out_of_a_signal_handler_leaves_the_queue_whole(version, collector):
    # An interrupted close leaves a socket to the garbage collector, which says so.
    found = Service(version, "interrupts", collector, warnings="ignore").end()
    assert found["raised"] > 0
    assert found["flushed"]
    got = messages(collector)
    assert len(set(got)) == len(got)
    assert {f"record {number}" for number in found["returned"]} <= set(got)
    assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize("behaviour", [Behaviour(reads=False), Behaviour(acks=False), Behaviour(greets=False)])
def test_a_collector_that_hangs_never_makes_emit_slow(version, behaviour):
    with FakeCollector(behaviour=behaviour) as collector:
        # Few enough records that what each costs anyway does not count, on a slow machine either. One of three runs has
        # to hold, on a machine that is busy with something else.
        for _ in range(3):
            found = run_saying(version, "timed", collector, pause=0.04, close_timeout=0.2, fallback=False)
            if found["total"] / found["elapsed"] < 0.05:
                break
        assert found["total"] / found["elapsed"] < 0.05
        assert found["longest"] < 0.06
        assert found["close"] < 1.0


@pytest.mark.parametrize("version", ENDS)
def test_a_host_that_does_not_answer_costs_emit_less_than_50_ms_a_second(version):
    with socket.socket() as listener, socket.socket() as filler, socket.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (filler, other):  # the queue is full now, and further connections get no answer
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        # A machine that is busy with something else makes everything slower: one of three runs has to hold. The records
        # are few enough that what each costs anyway does not count, on a slow machine either.
        shares = []
        for _ in range(3):
            found = run_saying(
                version,
                "timed",
                ("127.0.0.1", listener.getsockname()[1]),
                pause=0.04,
                close_timeout=0.2,
                connect_timeout=0.5,
            )
            shares.append(found["total"] / found["elapsed"])
            if shares[-1] < 0.05:
                break
        assert min(shares) < 0.05
        assert found["longest"] < 0.06


def run_saying(version: str, scenario: str, where: Any, **arguments: Any) -> Any:
    """Run a client that is left with records, and says so."""
    return Service(version, scenario, where, **arguments).end(stderr="did not acknowledge")


@pytest.mark.parametrize("behaviour", [Behaviour(), Behaviour(reads=False)])
def test_an_event_loop_never_stands_still_for_long(behaviour):
    with FakeCollector(behaviour=behaviour) as collector:
        service = Service("3.13", "looped", collector, close_timeout=0.1)
        found = service.end(stderr="" if behaviour.reads else "did not acknowledge")
        assert found["longest"] < 0.06
        assert not behaviour.reads or messages(collector) == numbered(200)


@pytest.mark.parametrize("version", LATEST)
def test_a_subinterpreter_sends_its_records(version, collector):
    """One of its own lock (PEP 684) allows no daemon threads: `emit` and the end do without."""
    run(version, "subinterpreters", collector)
    assert sorted(messages(collector)) == sorted(
        f"{kind} record {n}" for kind in ("isolated", "legacy") for n in range(50)
    )
    assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize("target", ["at once", "later"])
def test_records_of_a_memory_handler_come_at_the_end(version, target, collector):
    """A target that is newer than the MemoryHandler is closed before it gets them, and then leaves its socket open."""
    Service(version, "memory", collector, warnings="ignore", target=target).end()
    assert sorted(messages(collector)) == sorted(numbered(50))
    assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
def test_adapters_warnings_and_shutdowns_lose_nothing(version, collector):
    run(version, "odd_ends", collector)
    got = messages(collector)
    assert "UserWarning: record 0" in got[0]
    assert got[1:] == [f"record {n}" for n in range(1, 5)]
    assert collector.dicts[1]["request"] == 7


def test_green_and_native_threads_of_a_patched_eventlet(collector):
    """A lock of eventlet would never be taken again once threads of tpool had waited for it."""
    found = Service(python_with("eventlet"), "green_and_native", collector, warnings="ignore").end()
    assert found["flushed"]
    expected = [f"{kind} {i} record {n}" for kind in ("native", "green") for i in range(10) for n in range(50)]
    assert sorted(messages(collector)) == sorted(expected)
    assert_whole(collector)


def test_greenlets_of_a_patched_gevent(collector):
    version = python_with("gevent")
    # gevent itself warns under some versions of Python.
    found = Service(version, "greenlets", collector, warnings="ignore").end()
    assert found["flushed"]
    assert sorted(messages(collector)) == sorted(f"greenlet {i} record {n}" for i in range(20) for n in range(50))
    assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
def test_there_is_a_thread_only_while_something_is_held(version, collector):
    found = run(version, "idle", collector)
    assert (found["before"], found["flushed"]) == (1, True)
    assert found["during"] <= 2
    assert found["again"] <= 2


@pytest.mark.parametrize("version", ENDS)
def test_authentication_lets_the_right_key_in_and_no_other(version):
    with FakeCollector(behaviour=Behaviour(keys={b"web": KEY})) as collector:
        assert run(version, "some", collector, key=KEY.decode(), key_id="web")["flushed"]
        assert messages(collector) == numbered(100)
        for arguments, said in (
            ({"key": KEY.decode() + "!", "key_id": "web"}, "refused (error 2)"),
            ({"key": KEY.decode(), "key_id": "other"}, "refused (error 2)"),
            ({}, "(error 6)"),
        ):
            found = Service(version, "some", collector, count=5, close_timeout=0.1, wait=0.3, **arguments)
            assert not found.end(stderr=said)["flushed"]
        assert len(collector.records) == 100


@pytest.mark.parametrize("version", LATEST)
def test_a_collector_that_cannot_prove_itself_gets_nothing(version):
    with FakeCollector(behaviour=Behaviour(keys={b"web": KEY}, false_proof=True)) as collector:
        arguments = {"key": KEY.decode(), "key_id": "web", "close_timeout": 0.1, "wait": 0.3}
        found = Service(version, "some", collector, count=5, **arguments)
        assert not found.end(stderr="does not know the key")["flushed"]
        assert not collector.records


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize("behaviour", [Behaviour(plain=True), Behaviour(closes_on_hello=True)])
def test_a_plain_receiver_gets_plain_frames_and_that_is_said_once(version, behaviour):
    with FakeCollector(behaviour=behaviour) as collector:
        service = Service(version, "some", collector, count=300, hello_timeout=0.3, fallback=True)
        found = service.end(stderr="as plain SocketHandler frames")
        assert (found["counters"]["handed_over"], found["counters"]["acknowledged"]) == (300, 0)
        assert not found["flushed"]
        wait_for(lambda: len(collector.plain) == 300)
        assert messages(collector) == numbered(300)


@pytest.mark.parametrize("version", ENDS)
def test_a_collector_that_says_wait_is_waited_for(version):
    """Also when it dies before its welcome, again and again: it is no plain receiver."""
    with FakeCollector(behaviour=Behaviour(welcomes=False)) as collector:
        service = Service(version, "until_told", collector, burst=5, hello_timeout=0.2)
        service.line()
        for time_of_death in range(1, 5):
            wait_for(lambda hello=time_of_death: collector.hellos >= hello)
            if time_of_death == 1:
                connections = collector.connections
                threading.Event().wait(0.5)
                assert collector.connections == connections
            collector.kill()
            collector.start()
        collector.behaviour = Behaviour()
        collector.kill()
        collector.start()
        service.go_on()
        service.line()
        found = service.end()
        assert found["flushed"]
        assert found["counters"]["handed_over"] == 0
        assert not collector.plain
        assert messages(collector) == numbered(10)


@pytest.mark.parametrize("version", LATEST)
def test_the_session_is_spoken_again_when_the_receiver_learns_it(version):
    with FakeCollector(behaviour=Behaviour(greets=False)) as collector:
        service = Service(version, "until_told", collector, burst=5, hello_timeout=0.2)
        service.line()
        wait_for(lambda: collector.connections >= 3)
        collector.behaviour = Behaviour()
        service.go_on()
        service.line()
        assert service.end(stderr="does not answer within 0.2 s")["flushed"]
        assert messages(collector) == numbered(10)


@pytest.mark.parametrize("version", ["2.7", "3.13"])
@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(greets=False), "does not answer within 0.2 s"),
        (Behaviour(closes_on_hello=True), "closes the connection without an answer"),
    ],
)
def test_something_that_accepts_for_a_dead_collector_gets_no_record(version, behaviour, said):
    """A proxy without a collector behind it, a collector that hangs: the records are kept, and that is said once."""
    with FakeCollector(behaviour=behaviour) as collector:
        service = Service(version, "until_told", collector, burst=50, hello_timeout=0.2)
        service.line()
        wait_for(lambda: collector.connections >= 5)
        service.go_on()
        counters = service.line()["counters"]
        assert (counters["held"], counters["handed_over"], counters["plain"]) == (100, 0, False)
        assert not collector.plain
        collector.behaviour = Behaviour()
        assert service.end(stderr=said, times=1)["flushed"]
        assert messages(collector) == numbered(100)


@pytest.mark.parametrize(("version", "fallback"), [("2.7", True), ("3.13", False)])
def test_a_collector_that_is_full_gets_every_record_later(version, fallback):
    """ERROR 7 is an answer: no fallback, a pause of about a second, a counter, one line."""
    with FakeCollector(behaviour=Behaviour(error=(7, "4 of 4 connections \x1b[31m"))) as collector:
        service = Service(version, "until_told", collector, burst=50, fallback=fallback)
        service.line()
        wait_for(lambda: collector.hellos >= 2)
        service.go_on()
        counters = service.line()["counters"]
        assert counters["busy"] in (2, 3)
        assert (counters["held"], counters["handed_over"]) == (100, 0)
        assert collector.connections <= 4
        collector.behaviour = Behaviour()
        # The text is for people, and no terminal obeys it.
        assert service.end(stderr="is busy: 4 of 4 connections \\x1b[31m (error 7)", times=1)["flushed"]
        assert messages(collector) == numbered(100)


def test_an_error_of_a_later_version_keeps_the_records():
    with FakeCollector(behaviour=Behaviour(error=(4711, "of the future"))) as collector:
        service = Service("3.13", "some", collector, fallback=True, wait=0.3, close_timeout=0.1)
        found = service.end(stderr="of the future (error 4711)")
        assert (found["counters"]["held"], found["counters"]["handed_over"]) == (100, 0)
        assert collector.connections == 1
        assert not collector.plain


ACK_OF_NOTHING = message(0x83, bytes(8))
CHATTER = {
    "ACKs without end": (WELCOME, ACK_OF_NOTHING * (1 << 18), 0.0),  # more than is read while some is understood
    "WAIT for ever": (b"", message(0x85) * (1 << 18), 0.0),
    "WELCOME again and again": (WELCOME, WELCOME * 1000, 0.0),
    "CHALLENGE again and again": (b"", message(0x82, bytes(32)) * 1000, 0.0),
    "garbage": (WELCOME, b"HTTP/1.1 400 Bad Request\r\n" * 1000, 0.0),
    "a huge length": (WELCOME, bytes.fromhex("f7508300ffffffff"), 0.0),
    "one byte at a time": (WELCOME, ACK_OF_NOTHING[:1], 0.001),
}


@pytest.mark.parametrize(("version", "kind"), [*(("3.13", kind) for kind in CHATTER), ("2.7", "ACKs without end")])
def test_a_server_that_never_stops_talking_does_not_hold_emit(version, kind):
    """Each call reads a bounded piece, and a session of nothing but noise ends; the records are kept."""
    # A machine that is busy makes everything slower: one of three runs has to hold.
    for is_last in (False, False, True):
        with Chatterbox(*CHATTER[kind]) as server:
            arguments = {"key": "sixteen bytes or more", "key_id": "k"} if "CHALLENGE" in kind else {}
            where = ("127.0.0.1", server.port)
            found = run_saying(version, "timed", where, seconds=0.4, pause=0.01, close_timeout=0.1, **arguments)
            assert found["counters"]["held"] == found["emits"] > 0
            assert server.connections < 30
            if found["longest"] < 0.05 and found["close"] < 1.0:
                break
            assert not is_last, found


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize("overflow", ["block", "drop_old", "drop_new"])
def test_an_overflow_is_counted_and_reported(version, overflow):
    with FakeCollector() as collector:
        collector.kill()
        service = Service(
            version, "until_told", collector, burst=400, overflow=overflow, limit_bytes=60000, block_timeout=0.05
        )
        counters = service.line()["counters"]
        assert counters["dropped"] > 0
        assert counters["held_bytes"] <= 60000 + 1000
        assert counters["held"] + counters["dropped"] == 400
        collector.start()
        found = service.end(stderr="records are dropped", times=1)
        assert found["flushed"]
        assert found["counters"]["dropped"] == counters["dropped"]
        (stored,) = collector.sessions.values()
        assert sum(gap.last - gap.first + 1 for gap in stored.gaps) == counters["dropped"]
        assert all(time.time() - 60 < gap.oldest <= gap.newest for gap in stored.gaps)
        assert_whole(collector)
        kept = numbered(400)[counters["dropped"] :] if overflow == "drop_old" else numbered(400 - counters["dropped"])
        assert messages(collector) == kept


@pytest.mark.parametrize("version", ENDS)
def test_blocking_waits_for_a_collector_that_comes_back(version):
    with FakeCollector() as collector:
        collector.kill()
        service = Service(
            version, "until_told", collector, burst=400, overflow="block", limit_bytes=60000, block_timeout=20
        )
        threading.Event().wait(0.5)
        collector.start()
        assert service.line()["emitted"] == 400
        assert service.end()["counters"]["dropped"] == 0
        assert messages(collector) == numbered(400)


@pytest.mark.parametrize("version", LATEST)
def test_records_dropped_that_turn_out_to_be_committed_are_not_counted(version):
    with FakeCollector(behaviour=Behaviour(acks=False)) as collector:
        service = Service(version, "until_told", collector, burst=400, overflow="drop_old", limit_bytes=60000)
        assert service.line()["counters"]["dropped"] > 0
        wait_for(lambda: len(collector.records) == 400)
        collector.behaviour = Behaviour()
        found = service.end(stderr="records are dropped")
        assert found["flushed"]
        assert found["counters"]["dropped"] == 0
        assert messages(collector) == numbered(400)


@pytest.mark.parametrize("version", ENDS)
def test_a_spool_outlives_the_service_and_is_adopted_by_the_next(version, tmp_path):
    spool = str(tmp_path / "spool")
    with FakeCollector() as collector:
        collector.kill()
        for _ in range(2):
            Service(
                version, "ends", collector, count=300, how="kill", overflow="spool", spool_dir=spool, limit_bytes=30000
            ).end(status=-signal.SIGKILL)
        assert len(list(Path(spool).glob("*.lock"))) == 2
        collector.start()
        service = Service(version, "until_told", collector, burst=1, overflow="spool", spool_dir=spool)
        service.line()
        wait_for(lambda: not list(Path(spool).glob("*.lock")) or len(collector.records) >= 601)
        wait_for(lambda: len(list(Path(spool).glob("*.lock"))) <= 1)
        service.end()
        assert sorted(messages(collector)) == sorted(numbered(300) * 2 + ["record 0"])
        assert_whole(collector)
        assert not list(Path(spool).iterdir())


@pytest.mark.parametrize("version", ENDS)
def test_a_spool_holds_more_than_memory_does(version, tmp_path):
    spool = str(tmp_path / "spool")
    with FakeCollector() as collector:
        collector.kill()
        service = Service(
            version, "until_told", collector, burst=2000, overflow="spool", spool_dir=spool, limit_bytes=60000
        )
        counters = service.line()["counters"]
        assert counters["held"] == 2000
        assert counters["held_bytes"] <= 60000
        collector.start()
        service.go_on()
        service.line()
        found = service.end()
        assert found["flushed"]
        assert messages(collector) == numbered(4000)
        assert_whole(collector)
        assert not list(Path(spool).iterdir())


@pytest.mark.parametrize("version", ENDS)
def test_a_service_killed_with_a_collector_that_dies_too_loses_nothing_with_a_spool(version, tmp_path):
    spool = str(tmp_path / "spool")
    with FakeCollector(behaviour=Behaviour(commits=0.3, acks_lost=0.5)) as collector:
        Service(version, "ends", collector, count=1000, how="kill", overflow="spool", spool_dir=spool).end(
            status=-signal.SIGKILL
        )
        collector.kill()
        collector.behaviour = Behaviour()
        collector.start()
        service = Service(version, "until_told", collector, burst=0, overflow="spool", spool_dir=spool)
        service.line()
        wait_for(lambda: not list(Path(spool).glob("*.lock")))
        service.end()
        assert messages(collector) == numbered(1000)
        assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
def test_a_fork_while_a_spool_is_adopted_does_not_keep_it_from_being_sent(version, tmp_path):
    """The child lives on, and holds neither the lock nor the connection."""
    spool = str(tmp_path / "spool")
    with FakeCollector() as collector:
        collector.kill()
        Service(version, "ends", collector, count=300, how="kill", overflow="spool", spool_dir=spool).end(
            status=-signal.SIGKILL
        )
        collector.behaviour = Behaviour(greets=False)
        collector.start()
        arguments = {"overflow": "spool", "spool_dir": spool, "hello_timeout": 0.3}
        service = Service(version, "forks_while_adopting", collector, **arguments)
        service.line()
        wait_for(lambda: collector.connections >= 1)
        service.go_on()
        service.line()
        collector.behaviour = Behaviour()
        wait_for(lambda: len(collector.records) == 300, 12)
        wait_for(lambda: not list(Path(spool).iterdir()))
        service.go_on()
        assert service.end()["counters"]["adopted"] == 300
        assert messages(collector) == numbered(300)
        assert_whole(collector)


@pytest.mark.parametrize("version", LATEST)
def test_a_child_that_outlives_its_parent_does_not_keep_its_spool(version, tmp_path):
    """Two services find it at the same moment; one sends it."""
    spool = str(tmp_path / "spool")
    with FakeCollector() as collector:
        collector.kill()
        with Service(version, "leaves_a_child", collector, overflow="spool", spool_dir=spool).running() as parent:
            child = parent.line()["child"]
        try:
            collector.start()
            arguments = {"burst": 1, "overflow": "spool", "spool_dir": spool}
            services = [Service(version, "until_told", collector, **arguments) for _ in range(2)]
            for service in services:
                service.line()
            wait_for(lambda: len(collector.records) == 302)
            for service in services:
                service.end()
            assert sorted(messages(collector)) == sorted([*numbered(300), "record 0", "record 0"])
            assert_whole(collector)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("version", LATEST)
def test_a_full_spool_is_counted_and_reported(version, tmp_path):
    with FakeCollector() as collector:
        collector.kill()
        service = Service(
            version,
            "until_told",
            collector,
            burst=500,
            overflow="spool",
            spool_dir=str(tmp_path / "spool"),
            limit_bytes=30000,
            spool_limit_bytes=60000,
        )
        counters = service.line()["counters"]
        assert counters["dropped"] > 0
        collector.start()
        assert service.end(stderr="is full (spool_limit_bytes")["flushed"]
        (stored,) = collector.sessions.values()
        assert sum(gap.last - gap.first + 1 for gap in stored.gaps) == counters["dropped"]
        assert_whole(collector)
        assert messages(collector) == numbered(500 - counters["dropped"])
