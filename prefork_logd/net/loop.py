"""Runs the event loop: readiness, repeated turns and timers.

Owns the epoll descriptor, the turn and the timers. Does not know the work of handlers.

Properties of epoll (epoll(7)), and their consequences here:
- A registration belongs to the open file description, not to the descriptor: an epoll inherited over fork goes on
  reporting descriptors that the child has closed. So a loop is made after the fork, never before.
- With EPOLLET one change is reported once. A handler therefore reads until EAGAIN, or asks for another turn with
  `again`: forgetting both would leave bytes unread for ever.
- Events of one wait may name a descriptor that an earlier handler of the same turn has closed, or closed and got again
  for a new connection. Handlers never rely on the flags: they try, and EAGAIN means "not ready". So an event
  meant for a closed predecessor is harmless.
- Error flags are always reported and are treated as readiness: the system call then returns the error.

Timers use the monotonic clock, so setting the wall clock does not move them.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
EDGE = select.EPOLLET
PEER_CLOSED = select.EPOLLRDHUP
EXCLUSIVE = select.EPOLLEXCLUSIVE
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""Flags after which a short read may not be the last one."""
SOON = ENDED | 1 << 16
"""Passed to a handler in a turn requested with `soon`; the last bit is none of epoll's."""

_EVENTS_A_TURN = 256
LONGEST_WAIT_S = 86_400.0
"""A turn waits no longer, even if the next timer is later: epoll_wait(2) takes 24 days at most."""
TURN_S = 0.002
"""Handlers that requested another turn get it until a turn has taken this long; at least one gets it."""


class Handler(Protocol):
    """The object registered for a descriptor."""

    def ready(self, events: int, /) -> None:
        """Handle readiness; `events` are epoll's flags, or ENDED or SOON in a turn requested with `again` or `soon`."""


class Timer:
    """A scheduled call."""

    __slots__ = ("_call", "when_s")

    def __init__(self, when_s: float, call: Callable[[], None]) -> None:
        self.when_s = when_s
        self._call: Callable[[], None] | None = call

    @property
    def pending(self) -> bool:
        """Whether the call is still scheduled."""
        return self._call is not None

    def cancel(self) -> None:
        """Cancel the call; no effect after it was made."""
        self._call = None

    def fire(self) -> None:
        """Make the call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Loop:
    """One process's loop over its descriptors."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._again: deque[Handler] = deque()
        self._soon: tuple[deque[Handler], deque[Handler]] = (deque(), deque())
        self._ends_with_soon = False
        """Whether this turn has passed over handlers of `soon`, and ends with one of them."""
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = False
        self._after_turn: Callable[[], None] | None = None
        self.now_s = time.monotonic()
        """time.monotonic() at the beginning of this turn."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when a descriptor of this loop is ready: for another loop to watch."""
        return self._epoll.fileno()

    def add(self, fd: int, handler: Handler, events: int) -> None:
        """Watch a descriptor. Raises OSError as epoll_ctl(2) does, such as ENOSPC for too many watches."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        """Watch a descriptor for other events; with EDGE present readiness is reported again."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Stop watching a descriptor; call this before it is closed."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def again(self, handler: Handler) -> None:
        """Give a handler another turn, after all handlers that are ready now."""
        self._again.append(handler)

    def soon(self, handler: Handler, *, first: bool) -> None:
        """Give a handler the next turn, before all handlers that are ready then; those with `first` before others.

        While those with `first` make each turn long, the others take turns with the handlers of `again`.
        """
        self._soon[not first].append(handler)

    @property
    def waiting(self) -> int:
        """The number of handlers that wait for another turn, without those of `soon`."""
        return len(self._again)

    @property
    def is_long(self) -> bool:
        """Whether this turn has taken so long that newly ready handlers should wait for another one."""
        return time.monotonic() - self.now_s >= TURN_S

    @property
    def crowded(self) -> bool:
        """Whether handlers wait for another turn, or this one is long."""
        return bool(self._again or self._soon[0] or self._soon[1]) or self.is_long

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Make a call after a delay in seconds."""
        timer = Timer(time.monotonic() + delay_s, call)
        heapq.heappush(self._timers, (timer.when_s, next(self._order), timer))
        return timer

    def after_turn(self, call: Callable[[], None]) -> None:
        """Make this call at the end of every turn, to pass on the work gathered in it."""
        self._after_turn = call

    def stop(self) -> None:
        """End `run` after this turn."""
        self._running = False

    def run(self) -> None:
        """Turn until stopped."""
        self._running = True
        while self._running:
            self.turn()

    def turn(self, longest_wait_s: float = -1) -> None:
        """Wait for readiness or the next timer, and handle all events."""
        handlers = self._handlers
        events = self._epoll.poll(self._wait_s(longest_wait_s), _EVENTS_A_TURN)
        self.now_s = time.monotonic()
        # Requested turns come after the events, and only those requested before this turn.
        # Before the events come the few that the length of the last turn has delayed.
        waiting = len(self._again)
        for early in self._soon:
            for _ in range(len(early)):
                if self.is_long:
                    break
                early.popleft().ready(SOON)
        self._ends_with_soon = bool(self._soon[1]) and not self._ends_with_soon
        if self._ends_with_soon:
            self._again.appendleft(self._soon[1].popleft())
            waiting += 1
        for fd, flags in events:
            handler = handlers.get(fd)
            if handler is not None:
                handler.ready(flags)
        for _ in range(waiting):
            self._again.popleft().ready(ENDED)
            if time.monotonic() - self.now_s >= TURN_S:
                # Signals, the master and timers come in between; the rest of these follow in the next turn.
                break
        if self._timers:
            self._fire_timers()
        if self._after_turn is not None:
            self._after_turn()

    def _wait_s(self, longest_wait_s: float) -> float:
        if self._again or self._soon[0] or self._soon[1]:
            return 0
        while self._timers and not self._timers[0][2].pending:
            heapq.heappop(self._timers)
        if not self._timers:
            return longest_wait_s
        wait_s = min(max(0.0, self._timers[0][0] - time.monotonic()), LONGEST_WAIT_S)
        return wait_s if longest_wait_s < 0 else min(wait_s, longest_wait_s)

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now_s:
            heapq.heappop(self._timers)[2].fire()

    def close(self) -> None:
        """Close the epoll descriptor and forget all handlers; watched descriptors stay open."""
        self._handlers.clear()
        self._again.clear()
        for early in self._soon:
            early.clear()
        self._timers.clear()
        self._epoll.close()
