"""Completes TLS handshakes before connections are read, within bounds of time, number and peer.

Owns which connections on a TLS listener are plain, and the half-done handshakes. Does not know how bytes are encrypted
(net/tls.py), or what is said on a connection.

A half-done handshake costs memory that nobody has paid for by a record. So few are half done at once; a further client
waits unread, which costs it nothing but time. A slow one is closed after HANDSHAKE_S, or after PATIENCE_S if others
wait for its room.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Protocol

from prefork_logd.inputs.detect import demand_tls
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.net import tls
from prefork_logd.net.certificates import ListenerTls, explain, make_context
from prefork_logd.net.loop import ENDED, PEER_CLOSED
from prefork_logd.net.peers import peer_key
from prefork_logd.net.tls import FIRST_BYTE, HandshakeError, SharedBuffers, TlsStream
from prefork_logd.processes.worker.connection import GREETING_BYTES, peek
from prefork_logd.system.log import LOGGER, RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.connection import Connection

HANDSHAKE_S = 10.0
"""Longest time from a client's first byte to a complete handshake; limits.record_timeout, if that is shorter."""
PATIENCE_S = 1.0
"""The same while connections wait whose handshakes may not begin; two round trips to the other side of the earth."""
TICK_S = 0.1
"""How often that is checked."""
MOST_HALF_DONE = 512
"""Handshakes of one worker that are half done at once."""
MOST_OF_PEER = 256
"""The same of one peer."""

SLOT_S = 0.002
"""Time for postponed handshakes in a turn."""

_COUNTERS = {reason: Field[f"TLS_{reason.upper()}"] for reason in tls.REASONS}


class WorkerPort(Protocol):
    """The worker."""

    loop: Loop
    counters: memoryview
    warnings: RateLimitedLog

    def begin_slice(self, *, waited: bool) -> None:
        """Start a connection's share of the turn; `waited`: it is one of those that wait for another turn."""

    def end_slice(self, connection: Connection, *, waited: bool) -> None:
        """Count what the connection has used of its share."""

    def close(self, connection: Connection) -> None:
        """Close a connection."""


class _Door:
    """One TLS listener."""

    def __init__(self, settings: ListenerTls) -> None:
        self.is_required = settings.is_required
        self.context = make_context(settings)


class Handshakes:
    """The TLS listeners of one worker, and the handshakes there."""

    def __init__(self, port: WorkerPort) -> None:
        self._port = port
        self._doors: dict[str, _Door] = {}
        self._shared = SharedBuffers()
        self._longest_s = HANDSHAKE_S
        self._began_s: dict[Connection, float] = {}
        """Half-done handshakes, the oldest first, and when each began."""
        self._of_peer: dict[int, dict[Connection, None]] = {}
        """The same by peer, likewise."""
        self._waiting: dict[int, dict[Connection, None]] = {}
        """By peer the connections whose handshakes may not begin yet, the oldest first."""
        self._timer: Timer | None = None
        self._turns: dict[Connection, None] = {}
        """Connections whose handshakes go on in another turn, the oldest first."""
        self._is_queued = False
        """Whether a turn for them is requested."""
        self._of_plain = RateLimitedLog(burst=5, per_second=1 / 60)
        """A client of the standard library connects again for ever, and every time it is closed."""

    def configure(self, record_timeout_s: float) -> None:
        """Set the longest time of a handshake by limits.record_timeout, in seconds."""
        self._longest_s = min(HANDSHAKE_S, record_timeout_s)

    def renew(self, listeners: Iterable[ListenerTls]) -> None:
        """Take the certificates of every TLS listener; connections that are there keep theirs."""
        for listener in listeners:
            try:
                self._doors[listener.address] = _Door(listener)
            except (OSError, ValueError, ssl.SSLError) as error:
                # The master has tested them; memory or descriptors may be short here (memfd_create(2)).
                LOGGER.error("listener %s: the new certificate is not used here: %s", listener.address, explain(error))

    def secure(self, connection: Connection, events: int) -> bool:
        """Go on with a connection on a TLS listener; return whether it may be read: it is plain, or TLS is complete."""
        if connection.tls is None:
            first = peek(connection.fd)
            if first is None:
                return False
            if first != FIRST_BYTE:
                return self._let_plain_in(connection, has_ended=first == b"")
            if events & PEER_CLOSED and events != ENDED:
                # At once: while it waits it would keep its descriptor, and cost a handshake in the end.
                self._fail(connection, tls.CLOSED, "the client closed the connection before its handshake began")
                return False
            if not self._hold_place(connection):
                return False
        waited = events == ENDED
        if not waited and (connection.queued or self._port.loop.crowded):
            self._postpone(connection)
            return False
        paid_s = connection.paid_s
        self._port.begin_slice(waited=waited)
        try:
            return self._go_on(connection)
        finally:
            # The time counts for those who wait behind handshakes. The client itself pays for what it sends only, or
            # an honest one would wait once more for its greeting.
            self._port.end_slice(connection, waited=waited)
            connection.paid_s = paid_s

    def _postpone(self, connection: Connection) -> None:
        """Go on with a handshake in another turn. It takes as long as hundreds of records.

        All handshakes together are one of those who wait in the loop: each by itself would make the others wait for
        hundreds of them.
        """
        if not connection.queued:
            connection.queued = True
            self._turns[connection] = None
            self._request_turn()

    def _request_turn(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            self._port.loop.again(self)

    def ready(self, _events: int, /) -> None:
        """Go on with handshakes that were postponed, at least one and for at most SLOT_S."""
        self._is_queued = False
        end_s = time.monotonic() + SLOT_S
        for connection in list(itertools.islice(self._turns, MOST_HALF_DONE)):
            if connection in self._turns:
                del self._turns[connection]
                connection.ready(ENDED)
            if time.monotonic() >= end_s:
                break
        if self._turns:
            self._request_turn()

    def _let_plain_in(self, connection: Connection, *, has_ended: bool) -> bool:
        """Decide about a client that does not begin with TLS; return whether it may be read."""
        door = self._doors.get(connection.tls_listener)
        if not has_ended and (door is None or door.is_required):
            self._refuse_plain(connection)
            return False
        connection.tls_listener = ""
        return True

    def _hold_place(self, connection: Connection) -> bool:
        """Return whether a connection has a place among the half-done handshakes; else it waits, or is closed."""
        if connection in self._began_s:
            return True
        if connection.tls_listener not in self._doors:
            self._fail(connection, tls.PROTOCOL, "this listener has no certificate that can be used; see the log")
            return False
        if not self._has_room(connection):
            return False
        self._began_s[connection] = self._port.loop.now_s
        self._of_peer.setdefault(peer_key(connection.peer), {})[connection] = None
        self._arm()
        self._wake_next()
        return True

    def _refuse_plain(self, connection: Connection) -> None:
        """Close a plain client where TLS is required, with the answer that its protocol has for that."""
        try:
            # Read, because the reset for unread bytes could overtake the answer (RFC 2525, section 2.17).
            head = os.read(connection.fd, GREETING_BYTES)
        except OSError:
            head = b""
        if head:
            answer, remedy = demand_tls(head)
            if answer:
                connection.send_raw(answer)
            self._of_plain.warning("%s: TLS: closed: the client %s", connection.peer, remedy)
        if connection.fd >= 0:
            self._port.counters[_COUNTERS[tls.PLAIN]] += 1
            self._port.close(connection)

    def _go_on(self, connection: Connection) -> bool:
        stream = connection.tls
        if stream is None:
            stream = connection.tls = TlsStream(self._doors[connection.tls_listener].context, self._shared)
            # Its time begins now: until here it has waited for this worker.
            del self._began_s[connection]
            self._began_s[connection] = self._port.loop.now_s
        elif connection.unsent:
            connection.send_raw(b"")
            if connection.fd < 0:
                return False
        try:
            is_done = stream.handshake(connection.fd)
        except HandshakeError as error:
            connection.send_raw(stream.take_output())
            self._fail(connection, error.reason, str(error))
            return False
        output = stream.take_output()
        if output:
            connection.send_raw(output)
        if connection.fd < 0:
            return False
        if not is_done:
            if not stream.is_emptied:
                self._postpone(connection)
            return False
        self.forget(connection)
        self._port.counters[Field.HANDSHAKES] += 1
        _answer_at_once(connection.fd)
        connection.peer_name = stream.peer_name()
        connection.tls_listener = ""
        return True

    def _fail(self, connection: Connection, reason: str, message: str) -> None:
        """Count and log a failed handshake, and close the connection."""
        if connection.fd >= 0:
            self._port.counters[_COUNTERS[reason]] += 1
            self._port.warnings.warning("%s: TLS: closed: %s", connection.peer, message)
            self._port.close(connection)

    # Bounds

    def _has_room(self, connection: Connection) -> bool:
        """Return whether a handshake may begin; else the connection waits until another one has ended."""
        peer = peer_key(connection.peer)
        own = len(self._of_peer.get(peer, ()))
        waiting = self._waiting.get(peer, {})
        # A newcomer does not pass those of its peer who wait.
        has_room = own < MOST_OF_PEER and (not waiting or connection in waiting)
        if has_room and len(self._began_s) >= MOST_HALF_DONE:
            most = max(self._of_peer.values(), key=len)
            has_room = len(most) > own + 1
            if has_room:
                self._fail(next(iter(most)), tls.CROWDED, "no room for its half-done handshake; its peer has most")
        waiting = self._waiting.get(peer, {})
        waiting.pop(connection, None)
        if not has_room:
            waiting[connection] = None
            self._waiting[peer] = waiting
            self._arm()
        elif not waiting:
            self._waiting.pop(peer, None)
        return has_room

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is being closed, or whose handshake is complete; another one may begin."""
        self._turns.pop(connection, None)
        peer = peer_key(connection.peer)
        if self._began_s.pop(connection, None) is not None:
            own = self._of_peer[peer]
            del own[connection]
            if not own:
                del self._of_peer[peer]
            self._wake_next()
        elif connection in self._waiting.get(peer, ()):
            del self._waiting[peer][connection]
            if not self._waiting[peer]:
                del self._waiting[peer]
            self._wake_next()

    def _wake_next(self) -> None:
        """Let the oldest waiting connection of the next peer with room begin its handshake; it wakes the next one."""
        if len(self._began_s) >= MOST_HALF_DONE:
            return
        for peer, waiting in self._waiting.items():
            if len(self._of_peer.get(peer, ())) < MOST_OF_PEER:
                self._postpone(next(iter(waiting)))
                # The peers take turns.
                self._waiting[peer] = self._waiting.pop(peer)
                return

    def _arm(self) -> None:
        """Let the timer run until the oldest handshake has taken too long, or a tick while connections wait."""
        if not self._began_s:
            return
        now_s = self._port.loop.now_s
        delay_s = max(0.0, next(iter(self._began_s.values())) + self._longest_s - now_s)
        if self._waiting:
            delay_s = min(delay_s, TICK_S)
        if self._timer is not None and self._timer.pending:
            if self._timer.when_s <= now_s + delay_s:
                return
            self._timer.cancel()
        self._timer = self._port.loop.later(delay_s, self._enforce)

    def _enforce(self) -> None:
        """Close the connections whose handshakes have taken too long, and slow ones that others wait for."""
        for connection in self._older_than(self._longest_s, self._began_s):
            self._fail(connection, tls.TIMEOUT, "the handshake was not complete in time")
        for peer in list(self._waiting):
            # A peer that has none half-done waits because there are too many in all.
            own = self._of_peer.get(peer, self._began_s)
            for connection in self._older_than(PATIENCE_S, own)[: len(self._waiting.get(peer, ()))]:
                self._fail(connection, tls.CROWDED, "the handshake was slow, and others of its address wait")
        self._arm()

    def _older_than(self, age_s: float, connections: Iterable[Connection]) -> list[Connection]:
        """Return those of half-done handshakes, the oldest first, that began so long ago."""
        latest_s = self._port.loop.now_s - age_s
        return list(itertools.takewhile(lambda one: self._began_s[one] <= latest_s, connections))


def _answer_at_once(fd: int) -> None:
    """Let the kernel acknowledge what it has received, and send what we answer, without a delay of 40 ms (tcp(7)).

    TCP_QUICKACK: we send nothing after the client's last message of the handshake, so no answer carries the
    acknowledgement. A client without TCP_NODELAY sends its first record only after it. TCP_NODELAY: a client that waits
    for WELCOME sends nothing that acknowledges WAIT, without which WELCOME would be kept back.
    """
    sock = socket.socket(fileno=fd)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        # It has just been reset, or is not TCP.
        return
    finally:
        sock.detach()
