"""Reads the certificates of TLS listeners at the start and whenever their files change.

Owns when files are read, and which content is in use. Does not know how a pair is tested (net/certificates.py), or what
workers do with it.

Files that cannot be used change nothing: the content read before stays, and the log names the problem once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.net import certificates
from prefork_logd.system import shield
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.listeners import ListenerSettings
    from prefork_logd.config.settings import Settings
    from prefork_logd.net.certificates import Described, ListenerTls
    from prefork_logd.net.loop import Loop

CHECK_S = 5.0
"""How often the files are checked for changes: a call of stat(2) for each."""

Versions = list[tuple[int, int, int]]


def tls_problem(settings: Settings) -> str:
    """Return why the certificates of a TLS listener cannot be used, with the remedy; empty if all can."""
    for listener in settings.tls_listeners.values():
        try:
            certificates.read(listener)
        except ValueError as error:
            return f"listener {listener.address}: {error}"
    return ""


class CertificateFiles:
    """The certificates of one collector's listeners."""

    def __init__(self, loop: Loop, settings: Settings, changed: Callable[[], None]) -> None:
        """Read the files of `settings`, which a running collector keeps; call `changed` when new content is in use."""
        self._loop = loop
        self._settings = settings.tls_listeners
        self._changed = changed
        self._used: dict[str, ListenerTls] = {}
        """By the address of the listener."""
        self._versions: dict[str, Versions] = {}
        self._problems: dict[str, str] = {}
        """Why the present files of a listener cannot be used."""
        self._facts: dict[str, list[Described]] = {}
        """About each certificate in use of a listener."""
        for listener in self._settings.values():
            self._read(listener)
        if self._settings:
            loop.later(CHECK_S, self._check)

    @property
    def listeners(self) -> list[ListenerTls]:
        """The content that is in use."""
        return list(self._used.values())

    def _check(self) -> None:
        self._loop.later(CHECK_S, self._check)
        shield.attempt("the check of certificates", self.refresh)

    def refresh(self) -> list[str]:
        """Read the files that have changed; return a sentence for each listener whose files cannot be used."""
        before = self.listeners
        for listener in self._settings.values():
            if _versions(listener) != self._versions[listener.address] or listener.address not in self._used:
                self._read(listener)
        if self.listeners != before:
            self._changed()
        return list(self._problems.values())

    def _read(self, listener: ListenerSettings) -> None:
        """Read one listener's files."""
        old = self._used.get(listener.address)
        is_new = self._versions.get(listener.address) != (found := _versions(listener))
        self._versions[listener.address] = found
        try:
            read = certificates.read(listener)
        except ValueError as error:
            what = "the old certificate stays" if old is not None else "its TLS clients are refused until it can"
            problem = self._problems[listener.address] = f"listener {listener.address}: {error}; {what}"
            if is_new:
                LOGGER.error("%s", problem)
            return
        self._problems.pop(listener.address, None)
        if read != old:
            facts = [certificates.describe(pair) for pair in read.pairs]
            self._used[listener.address], self._facts[listener.address] = read, facts
            for (path, _), one in zip(listener.tls_pairs, facts, strict=True):
                _log_certificate(listener.address, path, one)

    def status(self) -> list[dict[str, Any]]:
        """Return a row for each certificate in use, for the status document."""
        return [
            {"listener": address, "path": path, "names": one.names, "serial": one.serial, "expires": one.expires_s}
            for address, facts in self._facts.items()
            for (path, _), one in zip(self._settings[address].tls_pairs, facts, strict=True)
        ]


def _log_certificate(address: str, path: str, facts: Described) -> None:
    until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.expires_s))
    if facts.expires_s < time.time():
        LOGGER.warning("listener %s: %s has expired on %s; clients refuse it", address, path, until)
    else:
        LOGGER.info("listener %s: %s, serial %s, is valid until %s", address, path, facts.serial, until)


def _versions(listener: ListenerSettings) -> Versions:
    """Return numbers that change when a file is replaced or written; zeros for a file that cannot be seen."""
    files = [path for pair in listener.tls_pairs for path in pair]
    found: Versions = []
    for path in (*files, *([listener.tls_client_ca] if listener.tls_client_ca else [])):
        try:
            status = Path(path).stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return found
