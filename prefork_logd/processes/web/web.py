"""Runs the page's process: its limits, its messages from the master, and its end.

Owns the process. Does not know HTTP (server.py) or what the page shows (the room web).

The process has no pipe to the writer: it reads stores and the journal. Its end loses nothing. It has a low priority and
bounded memory, so that ingest never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.errors import ProcessError, file_problem
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.command_socket import send_command
from prefork_logd.ipc.messages import AnyMessage, Drain, Ready, Reopen
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.net.loop import Loop
from prefork_logd.processes import search_limits
from prefork_logd.processes.web.memory import MemoryWatch
from prefork_logd.system import libc
from prefork_logd.system.log import LOGGER, RateLimitedLog, describe_bug, log_unexpected, reopen_own

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import ASGIApp

    from prefork_logd.config.settings import Settings
    from prefork_logd.config.web import WebSettings
    from prefork_logd.processes.web.server import PageServer
    from prefork_logd.web.context import PageContext

DRAIN_S = 2.0
"""How long requests that are under way may take during a stop. Streams end at once."""
FAILED = 1
"""Exit status of a page that could not be served; it is tried again, after a pause."""
METRICS_CONNECTIONS = 64
"""Most connections to the addresses of `[metrics]`; one peer may hold half of them."""
STATUS_S = 3.0
"""Longest time that the master may take to answer a question about its status."""


_LIBRARIES = (
    "prefork_logd.processes.web.server",
    "prefork_logd.web.application",
    "prefork_logd.web.context",
    "uvicorn.lifespan.off",
    "uvicorn.loops.asyncio",
    "anyio._backends._asyncio",
    "encodings.idna",
)
"""Some of them are imported by others when the first request comes."""


def import_libraries() -> None:
    """Import what the page needs while it can be read: the collector may change its user after this.

    A missing library is reported by the page's process, which is tried again.
    """
    with contextlib.suppress(ImportError):
        for name in _LIBRARIES:
            importlib.import_module(name)


class WebProcess:
    """The life of the page's process."""

    def __init__(
        self,
        slot: int,
        board: Scoreboard,
        channel: socket.socket,
        settings: Settings,
        sockets: list[socket.socket],
        metrics_sockets: Sequence[socket.socket] = (),
    ) -> None:
        """Serve the page on `sockets`, and metrics alone on `metrics_sockets`; `slot` is the process's own."""
        self._slot = board.slot(slot)
        self._loop = Loop()
        self._channel = Channel(self._loop, channel, self._handle_message, self._end_at_once)
        self._settings = settings
        self._sockets = sockets
        self._metrics_sockets = metrics_sockets
        self._servers: list[PageServer] = []
        self._asking: asyncio.Future[dict[str, Any]] | None = None
        self._log = RateLimitedLog()

    def run(self) -> int:
        """Serve until the master ends the process; return the exit status."""
        search_limits.bound_process(self._settings.web.memory_bytes)
        self._slot[Field.PID] = os.getpid()
        try:
            asyncio.run(self._serve())
        except (ProcessError, OSError) as error:
            why = file_problem(error) if isinstance(error, OSError) else error
            LOGGER.error("the page cannot be served: %s", why)
        except ImportError as error:
            remedy = "install prefork-logd with its dependencies, where the collector's user can read them"
            LOGGER.error("the page cannot be served: %s; %s", error, remedy)
        return FAILED

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._loop.fileno(), self._loop.turn, 0)
        loop.set_exception_handler(self._log_bug)
        if self._sockets:
            self._servers.append(await self._make_page())
        if self._metrics_sockets:
            self._servers.append(self._make_metrics())
        starting = set(range(len(self._servers)))

        def ready(number: int) -> None:
            starting.discard(number)
            if not starting:
                self._channel.send(Ready())

        await asyncio.gather(
            *(server.run_until_ended(partial(ready, number), DRAIN_S) for number, server in enumerate(self._servers))
        )
        # Not by a return: that would wait for threads, also for one whose search does not end. Nothing has to be saved.
        os._exit(0)

    async def _make_page(self) -> PageServer:
        # Imported after the fork: the master has no use for them, and they take 30 MB.
        from prefork_logd.processes.web.server import PageServer  # noqa: PLC0415
        from prefork_logd.stores.parquet.engine import remove_old_temporaries  # noqa: PLC0415
        from prefork_logd.web.application import make_application  # noqa: PLC0415
        from prefork_logd.web.context import make_context  # noqa: PLC0415

        await asyncio.to_thread(remove_old_temporaries)
        context = make_context(self._settings, self._status)
        watch = MemoryWatch(self._settings.web.memory_bytes, partial(_free, context), self._end)
        return PageServer(make_application(context), self._settings.web, self._sockets, watch.request_failed)

    def _make_metrics(self) -> PageServer:
        # A metrics address alone needs neither stores nor the page.
        from prefork_logd.processes.web.server import PageServer  # noqa: PLC0415

        bounds = msgspec.structs.replace(
            self._settings.web, certificate="", key="", max_connections=METRICS_CONNECTIONS
        )
        return PageServer(metrics_application(self._status, bounds), bounds, list(self._metrics_sockets))

    def _end(self) -> None:
        """End as soon as the requests that are under way have ended."""
        for server in self._servers:
            server.end()

    def _log_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error outside of a request. A client may cause it, so the number of these lines is limited."""
        error = context.get("exception")
        self._log.warning("%s", describe_bug(error) if error is not None else context["message"])

    async def _status(self) -> dict[str, Any]:
        """Return the collector's status document. Raises ProcessError if the master cannot answer.

        All who ask at the same time have the same answer: the master, and our threads, are asked once.
        """
        if self._asking is None or self._asking.done():
            state_dir = Path(self._settings.server.state_dir)
            self._asking = asyncio.ensure_future(asyncio.to_thread(send_command, state_dir, "status", STATUS_S))
            # All who asked may have gone before the answer.
            self._asking.add_done_callback(lambda asking: asking.cancelled() or asking.exception())
        return await asyncio.shield(self._asking)

    def _handle_message(self, message: AnyMessage, _fds: list[int]) -> None:
        match message:
            case Drain(fast):
                if fast or not self._servers:
                    self._end_at_once()
                else:
                    self._end()
            case Reopen():
                reopen_own()
            case _:
                log_unexpected(message, "the master")

    def _end_at_once(self) -> None:
        """End without regard to requests that are under way: the master has gone, or stops fast."""
        os._exit(0)


def metrics_application(status: Callable[[], Awaitable[dict[str, Any]]], settings: WebSettings) -> ASGIApp:
    """Return the application of the addresses of `[metrics]`, whose requests take turns like those of the page."""
    from prefork_logd.web.monitoring import make_application  # noqa: PLC0415 - see _make_page
    from prefork_logd.web.proxies import Proxies  # noqa: PLC0415
    from prefork_logd.web.request_turns import RequestTurns  # noqa: PLC0415

    return RequestTurns(make_application(status), Proxies(settings), settings.max_connections)


def _free(context: PageContext) -> None:
    """Give back the memory that nothing needs."""
    context.searches.close_idle()
    gc.collect()
    libc.trim_memory()
