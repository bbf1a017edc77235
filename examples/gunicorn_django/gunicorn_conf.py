"""gunicorn's side: `gunicorn -c gunicorn_conf.py project.wsgi`."""

import logging
import logging.handlers
from typing import Any

from settings import LOGGING

workers = 2
preload_app = True
# gunicorn's own loggers do not reach the root logger unless they are told to.
logconfig_dict = {
    **LOGGING,
    "loggers": {
        **LOGGING["loggers"],
        "gunicorn.error": {"level": "INFO", "propagate": True},
        "gunicorn.access": {"level": "INFO", "propagate": True},
    },
}


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Give each worker a connection of its own.

    Whatever was logged before the fork (with preload_app, the whole import of the application) has opened a connection
    that master and workers would share, and frames of several writers on one connection tear each other apart. Only
    this process's descriptor is closed; the next record connects anew.
    """
    for reference in list(logging._handlerList):  # noqa: SLF001 - the one list of all handlers there is
        handler = reference()
        if isinstance(handler, logging.handlers.SocketHandler) and handler.sock is not None:
            handler.sock.close()
            handler.sock = None
