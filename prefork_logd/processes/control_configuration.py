"""Defines the configuration as it passes from the master to its children.

Owns its form as a file in memory. Knows nothing of the meaning of the settings.
"""

from __future__ import annotations

import os

import msgspec

from prefork_logd.settings import Settings  # noqa: TC001 - msgspec reads the annotation


class Configuration(msgspec.Struct, frozen=True):
    """The settings with what the master adds: which generation they are, and each output's place on the scoreboard."""

    generation: int
    settings: Settings
    places: tuple[int, ...]
    store_places: tuple[int, ...] = ()
    """Of each store, as the settings have them."""

    def to_file(self) -> int:
        """Return the descriptor of a file in memory that holds this; messages have a bound, settings have none."""
        fd = os.memfd_create("configuration", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(msgspec.json.encode(self))
        return fd

    @classmethod
    def from_file(cls, fd: int) -> Configuration:
        """Return what `to_file` wrote; the descriptor is closed."""
        with os.fdopen(fd, "rb") as file:
            file.seek(0)
            return msgspec.json.decode(file.read(), type=cls)
