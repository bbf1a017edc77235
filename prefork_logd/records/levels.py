"""Lists the names of levels.

Owns the names and their numbers. Does not know loggers.
"""

from __future__ import annotations

LEVELS = {
    "NOTSET": 0, "TRACE": 5, "DEBUG": 10, "INFO": 20, "NOTICE": 25, "SUCCESS": 25, "WARNING": 30, "WARN": 30,
    "ERROR": 40, "CRITICAL": 50, "FATAL": 50,
}  # fmt: skip
"""Names of levels that every collector knows: logging's, and those of loguru and syslog that logging lacks."""
