"""Keeps the listening sockets of the page and of `[metrics]`: bound once, and kept over reloads, upgrades and deaths.

Does not know the process that serves on them (page.py), or HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prefork_logd.config.web import DEFAULT_ADDRESS
from prefork_logd.errors import ProcessError
from prefork_logd.net import listener
from prefork_logd.system.log import LOGGER
from prefork_logd.system.privileges import acting_as

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

    from prefork_logd.config.settings import Settings

    Key = tuple[bool, str]
    """Whether the address is one of `[metrics]`, and the address as the configuration has it."""


class InheritedPageSocket(msgspec.Struct, frozen=True):
    """A listening socket of the page, for the next program."""

    address: str
    """As the configuration has it; of a port 0 not the port that was picked."""
    fd: int
    is_own: bool
    is_metrics: bool = False
    """Whether it answers metrics and health alone."""


class Binding(NamedTuple):
    """The outcome of binding."""

    problems: list[str]
    """A sentence for each address that cannot be had."""
    is_changed: bool
    """Whether the sockets are others than before."""


class PageSockets:
    """The sockets, by the addresses of the configuration."""

    def __init__(self, user: str = "", inherited: Iterable[InheritedPageSocket] = ()) -> None:
        """Keep the sockets that the last program has left. New Unix sockets are made with the rights of `user`."""
        self._user = user
        self._sockets: dict[Key, list[socket.socket]] = {}
        for left in inherited:
            key = left.is_metrics, left.address
            self._sockets.setdefault(key, []).append(listener.adopt(left.fd, is_own=left.is_own))
        self.problem = ""
        """Why there is no page at the default address; empty if there is one, or if it is not wanted."""

    def __iter__(self) -> Iterator[socket.socket]:
        return (sock for some in self._sockets.values() for sock in some)

    @property
    def addresses(self) -> list[str]:
        """The addresses at which the page can be reached, with the ports that were picked."""
        return [listener.describe(sock) for sock in self.of_page()]

    @property
    def metrics_addresses(self) -> list[str]:
        """The addresses that answer metrics and health alone, with the ports that were picked."""
        return [listener.describe(sock) for sock in self.of_metrics()]

    def of_page(self) -> list[socket.socket]:
        """Return the sockets of the page."""
        return [sock for (is_metrics, _), some in self._sockets.items() for sock in some if not is_metrics]

    def of_metrics(self) -> list[socket.socket]:
        """Return the sockets of `[metrics]`."""
        return [sock for (is_metrics, _), some in self._sockets.items() for sock in some if is_metrics]

    def bind(self, settings: Settings) -> Binding:
        """Bind the addresses that are new, and close those that are not wanted.

        The default address is not worth a collector: if it is taken, `problem` has the reason, and the log.
        """
        before, problem, self.problem = list(self._sockets), self.problem, ""
        wanted = [(False, address) for address in settings.web.bind]
        wanted += [(True, address) for address in settings.metrics.bind]
        for key in [key for key in self._sockets if key not in wanted]:
            self._close(key)
        problems = []
        for is_metrics, address in wanted:
            if (is_metrics, address) in self._sockets:
                continue
            try:
                self._sockets[is_metrics, address] = listener.bind_all([address], self._user)
            except ProcessError as error:
                if is_metrics or address != DEFAULT_ADDRESS:
                    problems.append(f"{'metrics' if is_metrics else 'web'}.bind: {error}")
                    continue
                self.problem = f"{error} (web.bind), then `prefork-logd reload`"
                if self.problem != problem:
                    LOGGER.warning("there is no page: %s", self.problem)
        return Binding(problems, list(self._sockets) != before)

    def _close(self, key: Key) -> None:
        with acting_as(self._user):
            listener.close_all(self._sockets.pop(key))

    def close(self) -> None:
        """Close all, and remove the files of Unix sockets."""
        for key in list(self._sockets):
            self._close(key)

    def close_in_child(self) -> None:
        """Close the descriptors that a fork copied; the files of Unix sockets stay."""
        for sock in self:
            sock.close()

    def state(self) -> list[InheritedPageSocket]:
        """Return the sockets for the next program."""
        return [
            InheritedPageSocket(address, sock.fileno(), listener.is_own(sock), is_metrics)
            for (is_metrics, address), some in self._sockets.items()
            for sock in some
        ]
