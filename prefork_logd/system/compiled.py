"""The environment variable PREFORK_LOGD_NATIVE, read once: whether compiled code is used.

`0` takes the Python code even where compiled code is there. `1` refuses to start without the compiled core
(native.py). Any other case: compiled code is used where it is there, and was built from this version's sources.

Knows no core. What is compiled, and what takes its place, is known where it is chosen: native.py, journal/checksum.py,
stores/rows_core.py.
"""

from __future__ import annotations

import os

VARIABLE = "PREFORK_LOGD_NATIVE"
WANTED = os.environ.get(VARIABLE, "")
"""The variable's value at the start of this process; empty: not set."""
IS_ALLOWED = WANTED != "0"
"""Whether compiled code may be used where it is there."""
IS_REQUIRED = WANTED == "1"
"""Whether the collector must not start without the compiled core."""
IS_VALID = WANTED in ("", "0", "1")
"""Whether the value has a meaning."""
