"""Runs an acknowledged client whose records name the connection on which they were sent.

A WELCOME is a fence: records that it does not report as committed must arrive on that connection, or on a later one.
Numbers alone cannot show this, as a repeated record is the same; the records of this client differ. Now and then the
client pauses after a WELCOME, so that records sent before it could still be accepted by mistake.

Owns the client and the checks of its stored records. Does not know files.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from tests.support import wire
from tests.support.harness import frame, wait_for
from tests.support.session_client import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.harness import Collector

PATIENCE_S = 60.0
MOST_UNACKNOWLEDGED = 60
LOGGER_NAME = "connection-{}"


class Fenced:
    """One client, in a thread; it has the methods of a Service."""

    def __init__(self, collector: Collector, name: str, seed: int) -> None:
        """Log to `collector` from now on; each life needs a name of its own."""
        self.name = name
        self._collector = collector
        self._chance = random.Random(seed)
        self._session = b"%016x" % self._chance.getrandbits(64)
        self._welcomes: list[int] = []
        """The committed number in the WELCOME of each connection."""
        self._sent = 0
        self._acknowledged = 0
        self._client: Client | None = None
        self._problem = ""
        self._wanted = 0
        """Number of requests to pause or to continue; odd: it must pause."""
        self._rested = 0
        """The request of the pause that it has reached."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop logging, and wait for the missing acknowledgements."""
        self._wanted += 1

    def go_on(self) -> None:
        """Let it log again."""
        self._wanted += 1

    def cut(self) -> None:
        """Cut its connection; bytes already sent stay readable."""
        client = self._client
        if client is not None:
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)

    def report(self) -> int:
        """Wait until every record logged before a pause is acknowledged; return their number."""
        wait_for(lambda: self._rested == self._wanted, f"{self.name} is acknowledged", PATIENCE_S)
        return self._acknowledged

    def finish(self) -> int:
        """Stop logging, and wait until all is acknowledged; return the number of logged records."""
        self.pause()
        return self.report()

    def close(self) -> None:
        """End it in any state."""
        self._ending.set()
        self.cut()
        self._thread.join(PATIENCE_S)

    @property
    def committed(self) -> int:
        """How many records are acknowledged."""
        return self._acknowledged

    def check(self, connections: Mapping[int, int]) -> None:
        """Check that no stored record (its number, from 0 on, to its connection) came on a fenced connection."""
        assert not self._problem, self._problem
        welcomes = self._welcomes[:]
        for number, connection in connections.items():
            later = range(connection + 1, len(welcomes))
            fence = next((turn for turn in later if welcomes[turn] <= number), None)
            assert fence is None, (
                f"{self.name}: record {number} of connection {connection} is stored, "
                f"though connection {fence} had a WELCOME with {welcomes[fence or 0]} committed"
            )

    def _run(self) -> None:
        while not self._ending.is_set():
            wanted = self._wanted
            try:
                if wanted % 2 and self._acknowledged == self._sent:
                    self._rested = wanted
                    time.sleep(0.002)
                elif self._client is None:
                    self._connect()
                else:
                    self._go_on(self._client)
            except (OSError, AssertionError, struct.error):
                # An ERROR for a WELCOME is an AssertionError of the client's.
                self._disconnect()
                time.sleep(0.01)
        self._disconnect()

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError):
                client.close()

    def _connect(self) -> None:
        self._client = client = Client(self._collector)
        client.sock.settimeout(5)
        committed = client.welcome(self._session, self._acknowledged + 1)
        # Stored before anything is sent: every record of this connection comes after it.
        self._welcomes.append(committed)
        if not self._acknowledged <= committed <= self._sent:
            self._problem = f"{self.name}: {committed} committed; {self._acknowledged} acknowledged, {self._sent} sent"
        self._acknowledged = committed
        if self._chance.random() < 0.5:
            self._ending.wait(self._chance.uniform(0, 0.3))
        if committed < self._sent:
            self._send(client, committed + 1, self._sent)

    def _go_on(self, client: Client) -> None:
        is_pausing = self._wanted % 2
        if not is_pausing and self._sent - self._acknowledged < MOST_UNACKNOWLEDGED:
            first = self._sent + 1
            self._sent += self._chance.randint(1, 5)
            self._send(client, first, self._sent)
        if is_pausing or self._chance.random() < 0.2 or self._sent - self._acknowledged > 40:
            self._acknowledged = max(self._acknowledged, client.acknowledged(self._sent))
        else:
            time.sleep(self._chance.uniform(0, 0.01))

    def _send(self, client: Client, first: int, last: int) -> None:
        logger = LOGGER_NAME.format(len(self._welcomes) - 1)
        bodies = (frame(f"{self.name}-{number - 1:07d}", name=logger)[4:] for number in range(first, last + 1))
        client.send(wire.batch(first, *bodies))
