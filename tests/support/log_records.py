"""Makes log records as an application's loggers do."""

from __future__ import annotations

import logging


def record(message: str = "hello %s", *args: object, **extra: object) -> logging.LogRecord:
    """Return a record of the logger `shop`, with attributes of its own."""
    return logging.getLogger("shop").makeRecord(
        "shop", logging.INFO, "x.py", 1, message, args, None, "f", extra or None
    )
