"""The handler's promises at ends and beginnings: reconfiguration, exit, fork, event loops, under real interpreters."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.fake_collector import Behaviour, FakeCollector
from tests.support.handler_service import Service, assert_whole, messages, numbered, wait_for
from tests.support.interpreters import ENDS


@pytest.fixture
def closed_port():
    """Give a port that is bound and refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("version", [version for version in interpreters.WANTED if version != "2.7"])
def test_another_configuration_takes_the_records_over(version):
    """At once, in one session and in order, though the collector is away."""
    with FakeCollector() as collector:
        collector.kill()
        service = Service(version, "reconfigured", collector)
        found = service.line()
        assert max(found["took"]) < 1.5
        assert (found["counters"]["emitted"], found["counters"]["held"]) == (3, 3)
        collector.start()
        service.go_on()
        assert service.end()["flushed"]
        assert messages(collector) == numbered(3)
        assert len(collector.sessions) == 1


def test_python_2_forgets_handlers_whose_records_are_sent_all_the_same():
    """Its logging.config closes no handler: each keeps its own records, and its thread."""
    with FakeCollector() as collector:
        collector.kill()
        service = Service("2.7", "reconfigured", collector)
        assert max(service.line()["took"]) < 1.5
        collector.start()
        service.go_on()
        assert service.end()["flushed"]
        assert sorted(messages(collector)) == numbered(3)


@pytest.mark.parametrize("version", ENDS)
def test_a_handler_that_is_configured_away_delivers_before_the_end(version):
    with FakeCollector(behaviour=Behaviour(acks=False)) as collector:
        service = Service(version, "reconfigured_away", collector)
        service.line()
        collector.behaviour = Behaviour()
        service.go_on()
        service.end()
        assert messages(collector) == numbered(1)
        assert collector.byes == 1


@pytest.mark.parametrize("version", ENDS)
def test_a_record_after_the_end_of_logging_is_delivered(version):
    with FakeCollector() as collector:
        Service(version, "late", collector).end()
        assert messages(collector) == numbered(3)
        assert_whole(collector)


@pytest.mark.parametrize("version", ENDS)
def test_a_record_after_the_end_of_logging_that_cannot_be_delivered_is_counted(version, closed_port):
    service = Service(version, "late", ("127.0.0.1", closed_port), close_timeout=0.3)
    service.end(stderr="did not acknowledge 1 record that came after the end of logging")


@pytest.mark.parametrize("version", ["3.12", "3.13"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_fork_causes_no_warning_of_threads(version, is_there):
    """And the thread is there again afterwards, though nothing more is logged."""
    with FakeCollector() as collector:
        if not is_there:
            collector.kill()
        service = Service(version, "forks_quietly", collector, close_timeout=0.2, limit_bytes=1 << 20)
        if not is_there:
            wait_for(lambda: service.process.poll() is None)
            collector.start()
        found = service.end()
        assert (found["told"], found["flushed"], found["profile"]) == ([], True, False)
        assert messages(collector) == numbered(8)


@pytest.mark.parametrize("version", ["3.6", "3.13"])
def test_a_full_queue_does_not_stop_an_event_loop(version, closed_port):
    """Neither by its own records, nor by those of a thread that waits for room."""
    where = ("127.0.0.1", closed_port)
    service = Service(version, "loop_with_threads", where, limit_bytes=50_000, block_timeout=5.0, close_timeout=0.1)
    found = service.end(stderr="records are dropped")
    assert found["longest"] < 1.5
    assert found["counters"]["dropped"] > 10


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize("behaviour", [None, Behaviour(greets=False), Behaviour(acks=False)])
def test_an_exit_with_a_spool_is_immediate(version, behaviour, tmp_path):
    """Whatever the collector does: the next process sends the records."""
    spool = str(tmp_path / "spool")
    with FakeCollector(behaviour=behaviour or Behaviour()) as collector:
        if behaviour is None:
            collector.kill()
        found = Service(
            version, "timed", collector, seconds=0.2, overflow="spool", spool_dir=spool, close_timeout=60
        ).end()
        assert found["close"] < 1.5
        if behaviour is not None:
            collector.kill()
        collector.behaviour = Behaviour()
        collector.start()
        service = Service(version, "until_told", collector, burst=0, overflow="spool", spool_dir=spool)
        service.line()
        wait_for(lambda: not list(Path(spool).glob("*.lock")))
        service.end()
        assert messages(collector) == numbered(found["emits"])
        assert_whole(collector)


def test_an_exit_without_a_spool_says_what_it_waits_for(closed_port):
    """And for how long, which is bounded and set by close_timeout."""
    service = Service("3.13", "timed", ("127.0.0.1", closed_port), seconds=0.1, close_timeout=1.5)
    found = service.end(stderr="the end waits for that, at most 1.5 s (close_timeout)", times=1)
    assert 1.0 < found["close"] < 4.5


def test_a_short_process_clears_the_spools_of_others(tmp_path):
    """Those of five killed processes, all at once."""
    spool = str(tmp_path / "spool")
    with FakeCollector() as collector:
        collector.kill()
        for _ in range(5):
            Service("3.13", "ends", collector, count=20, how="kill", overflow="spool", spool_dir=spool).end(
                status=-signal.SIGKILL
            )
        assert len(list(Path(spool).glob("*.lock"))) == 5
        collector.start()
        for _ in range(5):
            Service("3.13", "ends", collector, count=1, overflow="spool", spool_dir=spool).end()
            if not list(Path(spool).iterdir()):
                break
        assert not list(Path(spool).iterdir())
        assert len(messages(collector)) >= 101
        assert_whole(collector)
