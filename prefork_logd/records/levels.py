"""The names of levels.

Owns which names stand for which numbers. Knows no logger.
"""

from __future__ import annotations

LEVELS = {
    "NOTSET": 0, "TRACE": 5, "DEBUG": 10, "INFO": 20, "NOTICE": 25, "SUCCESS": 25, "WARNING": 30, "WARN": 30,
    "ERROR": 40, "CRITICAL": 50, "FATAL": 50,
}  # fmt: skip
"""Names of levels that every collector knows: logging's, and loguru's and syslog's where logging has none."""
