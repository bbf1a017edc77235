"""One reload from its signal to its outcome.

Owns the order: every output is reopened, then the writer takes the new configuration, then the workers do, so that no
line comes for an output that the writer does not know. Which children there are is the master's knowledge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.processes.children import Child


class Reload:
    """What one reload waits for, and what it will answer."""

    def __init__(self, number: int, answer: Callable[[dict[str, Any]], None]) -> None:
        self.number = number
        self.outcome: dict[str, Any] = {
            "reopened": False,
            "taken": False,
            "generation": 0,
            "changed": [],
            "needs_restart": [],
            "problems": [],
        }
        self._answers = [answer]
        self._waiting_for: set[int] = set()
        """Spawn ids of the children that have not confirmed the step."""
        self._next_step: Callable[[], None] | None = None

    def add_caller(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Tell the outcome to one more who asked."""
        self._answers.append(answer)

    def step(self, children: list[Child], next_step: Callable[[], None]) -> None:
        """Wait for these children, and then go on with `next_step`."""
        self._waiting_for = {child.spawn_id for child in children}
        self._next_step = next_step
        self._go_on()

    def confirm(self, spawn_id: int, problems: tuple[str, ...] = ()) -> None:
        """Note that a child has done its part; or has died, and its successor begins with the new state."""
        self.outcome["problems"] += problems
        if spawn_id in self._waiting_for:
            self._waiting_for.discard(spawn_id)
            self._go_on()

    def _go_on(self) -> None:
        if not self._waiting_for and self._next_step is not None:
            next_step, self._next_step = self._next_step, None
            next_step()

    def finish(self) -> None:
        """Answer everyone."""
        for answer in self._answers:
            answer(self.outcome)
