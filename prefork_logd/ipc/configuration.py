"""Defines the configuration as it passes from the master to its children.

Owns its form as a file in memory. Knows nothing of the meaning of the settings.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from prefork_logd.config.settings import Settings, settings_from


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
            return cls.decode(file.read())

    @classmethod
    def decode(cls, data: bytes | msgspec.Raw) -> Configuration:
        """Return what msgspec made of one as JSON. Raises msgspec.MsgspecError."""
        plain = msgspec.json.decode(data, type=dict[str, Any])
        # Which stores there are is not known to msgspec, but to their table (store_settings.KINDS).
        settings = settings_from(msgspec.convert(plain.get("settings"), dict[str, Any]))
        return msgspec.structs.replace(msgspec.convert({**plain, "settings": {}}, cls), settings=settings)
