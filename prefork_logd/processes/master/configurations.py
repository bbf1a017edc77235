"""Keeps the configurations in use, and assigns each output, store and limit its slot on the scoreboard.

Does not know how a configuration is read (load.py), or how children receive it (reload.py).

An output keeps its slot while its path is configured, and longer while an older configuration has it. A store keeps its
slot by its name; the slot of a removed store stays taken until its shipper has ended. A limit keeps its slot by its
name, too; that of a removed limit stays taken while an older configuration has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import ConfigError, Problem
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import LIMIT_PLACES, PLACES, STORE_PLACES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from prefork_logd.config.settings import Settings
    from prefork_logd.ipc.scoreboard import Scoreboard


class Configurations:
    """The current configuration, and earlier ones that a worker may still have lines of."""

    def __init__(
        self,
        board: Scoreboard,
        kept: Iterable[Configuration] = (),
        output_ids: Mapping[str, int] | None = None,
        last_output_id: int = 0,
    ) -> None:
        """Clear counters on `board`. The other arguments are those of the last program, after an upgrade."""
        self._board = board
        self.kept = list(kept)
        """The current one last."""
        self.output_ids = dict(output_ids or {})
        """Path of each output to its slot."""
        self.last_output_id = last_output_id
        """The slot that was assigned last."""
        self.store_ids: dict[str, int] = {}
        """Name of each store to its slot."""
        self.limit_ids: dict[str, int] = {}
        """Name of each limit of clients to its slot."""

    @property
    def current(self) -> Configuration:
        """The configuration that was added last."""
        return self.kept[-1]

    def add(self, settings: Settings, busy_store_ids: Collection[int]) -> None:
        """Make settings the current configuration, with a new generation number.

        `busy_store_ids` are the slots of stores whose shippers have not ended: no new store gets one of them.
        Raises ConfigError, and changes nothing, if there are not enough slots.
        """
        outputs, last_output_id = self._assign_outputs(settings)
        stores = self._assign_stores(settings, busy_store_ids)
        limits = self._assign_limits(settings)
        for path, slot in outputs.items():
            if self.output_ids.get(path) != slot:
                _clear(self._board.output(slot))
        for name, slot in limits.items():
            if self.limit_ids.get(name) != slot:
                self._board.clear_limit(slot)
        self.output_ids, self.last_output_id, self.store_ids, self.limit_ids = outputs, last_output_id, stores, limits
        self.kept.append(
            Configuration(
                self.current.generation + 1 if self.kept else 1,
                settings,
                tuple(outputs[output.path] for output in settings.output),
                tuple(stores[store.name] for store in settings.shipped),
                tuple(limits[limit.name] for limit in settings.limit),
            )
        )

    def _assign_outputs(self, settings: Settings) -> tuple[dict[str, int], int]:
        """Return the slot of each output, and the last one assigned."""
        paths = {output.path for output in settings.output}
        used = {slot for configuration in self.kept for slot in configuration.output_ids}
        assigned = {path: slot for path, slot in self.output_ids.items() if path in paths or slot in used}
        new = sorted(paths - assigned.keys())
        free = [slot for slot in range(1, PLACES + 1) if slot not in assigned.values()]
        if len(new) > len(free):
            raise ConfigError([Problem("output", f"{len(new)} of them are new, too many at once; reload in two steps")])
        last = self.last_output_id
        # The next slot rather than the first free one: a late line must not find another output in its slot.
        free.sort(key=lambda slot: slot <= last)
        assigned.update(zip(new, free, strict=False))
        return assigned, free[len(new) - 1] if new else last

    def _assign_stores(self, settings: Settings, busy: Collection[int]) -> dict[str, int]:
        """Return the slot of each store."""
        names = [store.name for store in settings.shipped]
        assigned = {name: slot for name, slot in self.store_ids.items() if name in names}
        taken = {*assigned.values(), *busy}
        free = [slot for slot in range(STORE_PLACES) if slot not in taken]
        new = [name for name in names if name not in assigned]
        if len(new) > len(free):
            raise ConfigError([Problem("store", f"{len(new)} of them are new, too many at once; reload in two steps")])
        return assigned | dict(zip(new, free, strict=False))

    def _assign_limits(self, settings: Settings) -> dict[str, int]:
        """Return the slot of each limit."""
        names = [limit.name for limit in settings.limit]
        assigned = {name: slot for name, slot in self.limit_ids.items() if name in names}
        taken = {slot for configuration in self.kept for slot in configuration.limit_ids}
        free = [slot for slot in range(LIMIT_PLACES) if slot not in taken]
        new = [name for name in names if name not in assigned]
        if len(new) > len(free):
            raise ConfigError([Problem("limit", f"{len(new)} of them are new, too many at once; reload in two steps")])
        return assigned | dict(zip(new, free, strict=False))

    def forget_settled(self, settled: Iterable[int]) -> int | None:
        """Forget the configurations that no worker has lines of any more.

        `settled` has the generation of the oldest configuration that each living worker may have lines of. Returns the
        oldest generation that is kept; None if nothing was forgotten.
        """
        oldest = min(settled, default=self.current.generation)
        if self.kept[0].generation >= oldest:
            return None
        self.kept = [kept for kept in self.kept if kept.generation >= oldest]
        return oldest


def _clear(counters: memoryview) -> None:
    counters[:] = memoryview(bytes(counters.nbytes)).cast("Q")
