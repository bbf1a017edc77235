"""Celery's side: import this module where the application is made, and every worker logs to the collector."""

import logging
import logging.handlers
import os
from typing import Any

ADDRESS = os.environ.get("PREFORK_LOGD_ADDRESS", "127.0.0.1:9020")


def add_collector(logger: logging.Logger, **_: Any) -> None:
    """Add the collector to a logger that Celery has set up (`after_setup_logger`, `after_setup_task_logger`).

    Celery replaces the root logger's handlers when a worker starts, so a handler added earlier would be gone.
    """
    host, _, port = ADDRESS.rpartition(":")
    if not any(isinstance(handler, logging.handlers.SocketHandler) for handler in logger.handlers):
        logger.addHandler(logging.handlers.SocketHandler(host, int(port)))


def reconnect(**_: Any) -> None:
    """Give a process of the pool a connection of its own (`worker_process_init`).

    The pool is forked after the main process has logged; two processes must not write to one connection.
    """
    for logger in (logging.getLogger(), logging.getLogger("celery.task")):
        for handler in logger.handlers:
            if isinstance(handler, logging.handlers.SocketHandler) and handler.sock is not None:
                handler.sock.close()
                handler.sock = None


try:
    from celery import signals
except ImportError:
    # Without Celery there is nobody to call these; demo.py does.
    pass
else:
    signals.after_setup_logger.connect(add_collector)
    # Task loggers do not reach the root logger's handlers.
    signals.after_setup_task_logger.connect(add_collector)
    signals.worker_process_init.connect(reconnect)
