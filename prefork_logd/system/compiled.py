"""Reads the environment variable PREFORK_LOGD_NATIVE once: it decides whether compiled code is used.

`0` chooses the Python code even if compiled code is installed. `1` refuses to start without the compiled core
(ingest/core.py). Otherwise compiled code is used if it is installed, and was built from this version's sources.

Does not know any compiled module. The choices are made in ingest/core.py, journal/checksum.py and stores/rows_core.py.
"""

from __future__ import annotations

import os

VARIABLE = "PREFORK_LOGD_NATIVE"
WANTED = os.environ.get(VARIABLE, "")
"""The variable's value at the start of this process; empty if it is not set."""
IS_ALLOWED = WANTED != "0"
"""Whether installed compiled code may be used."""
IS_REQUIRED = WANTED == "1"
"""Whether the collector must not start without the compiled core."""
IS_VALID = WANTED in ("", "0", "1")
"""Whether the value is valid."""
