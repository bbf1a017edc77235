"""The recipes of docs/recipes.md for processes that are frozen, killed or at an end soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.harness import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.recipes import Recipe

PLATFORM = """
import os, signal, types
from function import handler

for number in range(3):
    handler({"order": number}, types.SimpleNamespace(aws_request_id=f"request-{number}"))
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_function_is_frozen_after_each_call_and_killed(recipe: Callable[[str], Recipe]) -> None:
    """The records of a call are acknowledged when it returns: a platform may do to its process as it likes."""
    shop = recipe("Short processes")
    shop.write("platform_of_functions.py", PLATFORM)
    with subprocess.Popen(
        [sys.executable, "platform_of_functions.py"], cwd=shop.folder, env=shop.environment
    ) as process:
        for number in range(3):
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            stored = [record["extra"] for record in shop.collector.records()]
            assert stored == [{"request": f"request-{each}"} for each in range(number + 1)]
            process.send_signal(signal.SIGCONT if number < 2 else signal.SIGKILL)
    assert messages(shop.collector.records()) == [f"order {number} paid" for number in range(3)]


def test_a_program_ends_while_the_collector_is_away(recipe: Callable[[str], Recipe]) -> None:
    """What it logged waits in the spool, and the next run sends it beside its own."""
    shop = recipe("Short processes")
    assert shop.collector.stop() == 0
    first = shop.start()
    assert first.wait(60) == 0
    assert list((shop.folder / "spool").iterdir())
    shop.restart_collector()
    second = shop.start()
    assert second.wait(60) == 0
    records = shop.stored(40)
    for service in first, second:
        mine = [record for record in records if record["process"] == service.pid]
        assert messages(mine) == [f"page {number} written" for number in range(20)]
    assert not list((shop.folder / "spool").iterdir())
