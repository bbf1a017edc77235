"""Defines the configuration as the master passes it to its children.

Owns its form as a file in memory. Does not know the meaning of the settings.
"""

from __future__ import annotations

from typing import Any

import msgspec

from prefork_logd.config.settings import Settings, settings_from
from prefork_logd.system.memory_file import make_memory_file, take_memory_file


class Configuration(msgspec.Struct, frozen=True):
    """The settings, with their generation, and the slot of each output, store and limit on the scoreboard."""

    generation: int
    settings: Settings
    output_ids: tuple[int, ...]
    store_ids: tuple[int, ...] = ()
    """In the order of the stores in the settings."""
    limit_ids: tuple[int, ...] = ()
    """In the order of the limits in the settings."""

    def to_file(self) -> int:
        """Return the descriptor of a file in memory that holds this. A message is limited in size, settings are not."""
        return make_memory_file("configuration", msgspec.json.encode(self))

    @classmethod
    def from_file(cls, fd: int) -> Configuration:
        """Return the configuration that `to_file` wrote; the descriptor is closed."""
        return cls.decode(take_memory_file(fd))

    @classmethod
    def decode(cls, data: bytes | msgspec.Raw) -> Configuration:
        """Return the configuration that msgspec encoded as JSON. Raises msgspec.MsgspecError."""
        plain = msgspec.json.decode(data, type=dict[str, Any])
        # Not by msgspec: the kinds of stores are in a table (config/stores/kinds.py).
        settings = settings_from(msgspec.convert(plain.get("settings"), dict[str, Any]))
        return msgspec.structs.replace(msgspec.convert({**plain, "settings": {}}, cls), settings=settings)
