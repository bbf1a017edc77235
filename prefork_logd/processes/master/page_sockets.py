"""Keeps the listening sockets of the page: bound once, and kept over reloads, upgrades and deaths of its process.

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

    from prefork_logd.config.web import WebSettings


class InheritedPageSocket(msgspec.Struct, frozen=True):
    """A listening socket of the page, for the next program."""

    address: str
    """As the configuration has it; of a port 0 not the port that was picked."""
    fd: int
    is_own: bool


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
        self._sockets: dict[str, list[socket.socket]] = {}
        for left in inherited:
            self._sockets.setdefault(left.address, []).append(listener.adopt(left.fd, is_own=left.is_own))
        self.problem = ""
        """Why there is no page at the default address; empty if there is one, or if it is not wanted."""

    def __iter__(self) -> Iterator[socket.socket]:
        return (sock for some in self._sockets.values() for sock in some)

    @property
    def addresses(self) -> list[str]:
        """The addresses at which the page can be reached, with the ports that were picked."""
        return [listener.describe(sock) for sock in self]

    def bind(self, settings: WebSettings) -> Binding:
        """Bind the addresses that are new, and close those that are not wanted.

        The default address is not worth a collector: if it is taken, `problem` has the reason, and the log.
        """
        before, problem, self.problem = list(self._sockets), self.problem, ""
        for address in [address for address in self._sockets if address not in settings.bind]:
            self._close(address)
        problems = []
        for address in settings.bind:
            if address in self._sockets:
                continue
            try:
                self._sockets[address] = listener.bind_all([address], self._user)
            except ProcessError as error:
                if address != DEFAULT_ADDRESS:
                    problems.append(f"web.bind: {error}")
                    continue
                self.problem = f"{error}; there is no page until the next reload (web.bind)"
                if self.problem != problem:
                    LOGGER.warning("%s", self.problem)
        return Binding(problems, list(self._sockets) != before)

    def _close(self, address: str) -> None:
        with acting_as(self._user):
            listener.close_all(self._sockets.pop(address))

    def close(self) -> None:
        """Close all, and remove the files of Unix sockets."""
        for address in list(self._sockets):
            self._close(address)

    def close_in_child(self) -> None:
        """Close the descriptors that a fork copied; the files of Unix sockets stay."""
        for sock in self:
            sock.close()

    def state(self) -> list[InheritedPageSocket]:
        """Return the sockets for the next program."""
        return [
            InheritedPageSocket(address, sock.fileno(), listener.is_own(sock))
            for address, some in self._sockets.items()
            for sock in some
        ]
