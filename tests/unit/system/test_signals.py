"""Signals reach the loop as bytes on a descriptor, however many come."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_logd.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def receiver() -> Iterator[signals.SignalReceiver]:
    before = {number: signal.getsignal(number) for number in (*signals.NUMBERS, signal.SIGPIPE, signal.SIGXFSZ)}
    receiver = signals.SignalReceiver()
    yield receiver
    receiver.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_signal_of_the_table_is_caught(receiver: signals.SignalReceiver) -> None:
    """Each wakes whoever watches the descriptor, and is named."""
    for use in signals.TABLE:
        os.kill(os.getpid(), use.signal)
        os.kill(os.getpid(), use.signal)
        assert select.select([receiver.fd], [], [], 5)[0]
        assert set(receiver.take()) == {use.signal}
    assert not receiver.take()


def test_each_delivery_of_a_signal_counts(receiver: signals.SignalReceiver) -> None:
    """Five that are delivered one by one are five."""
    for number in (signal.SIGTTIN, signal.SIGTTIN, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTIN, signal.SIGTTIN):
        signal.raise_signal(number)
    assert receiver.take() == {signal.SIGTTIN: 5, signal.SIGHUP: 1}


def test_a_receiver_that_is_closed_gets_no_signal() -> None:
    """Python would write to a descriptor that another file may have by then."""
    receiver = signals.SignalReceiver()
    receiver.close()
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.slow
def test_a_storm_of_signals_is_harmless(receiver: signals.SignalReceiver, capfd: pytest.CaptureFixture[str]) -> None:
    """A full pipe is no error: the signal is pending anyway."""
    for _ in range(70_000):
        signal.raise_signal(signal.SIGHUP)
    assert set(receiver.take()) == {signal.SIGHUP}
    assert capfd.readouterr().err == ""


def test_a_verb_that_sends_a_signal_exists() -> None:
    """The table and the command line agree."""
    from prefork_logd.cli.main import cli

    assert {use.verb for use in signals.TABLE if use.verb} <= set(cli.commands)


@pytest.mark.slow
def test_a_child_leaves_every_stop_to_the_master() -> None:
    """A terminal's Ctrl-C reaches the whole group; only the master acts on it."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        signals.in_child()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE):
            os.kill(os.getpid(), number)
        os.write(write_fd, b"alive")
        os._exit(0)
    os.close(write_fd)
    assert os.read(read_fd, 10) == b"alive"
    os.close(read_fd)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.slow
def test_what_was_not_taken_comes_again() -> None:
    """Put back while signals are blocked, it is pending, and taken once they are not."""
    pid = os.fork()
    if pid == 0:
        # A process of one thread, as a master is: with more, the kernel picks one that does not block the signal.
        os._exit(_put_back())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _put_back() -> int:
    """Return the number of the step that failed; 0 if none did."""
    receiver = signals.SignalReceiver(frozenset({signal.SIGUSR1}))
    os.kill(os.getpid(), signal.SIGUSR1)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    receiver.put_back()
    if receiver.take():
        return 1
    if signal.SIGUSR1 not in signal.sigpending():
        return 2
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return 0 if set(receiver.take()) == {signal.SIGUSR1} else 3
