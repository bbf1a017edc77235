"""Chooses the core that turns stored lines into rows: the compiled one, or the Python modules.

Owns the choice; `PREFORK_LOGD_NATIVE=0` (system/compiled.py) selects the Python modules. Does not know the work of a
core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.system import compiled

if TYPE_CHECKING:
    from types import ModuleType

ABI = 5
"""The version of the interface that the compiled core must have (stores/_rows_c.pyx)."""

core: ModuleType | None
try:
    from prefork_logd.stores import _rows_c as core
except ImportError:
    core = None

if core is not None and (not compiled.IS_ALLOWED or getattr(core, "ABI", None) != ABI):
    core = None

Copier = core.Copier if core is not None else None
"""Makes rows for PostgreSQL's COPY; None if they are made in Python."""
json_rows = core.json_rows if core is not None else None
"""Makes rows of JSON for the Parquet store (stores/parquet/rows.py); None if they are made in Python."""
WordSet = core.WordSet if core is not None else None
"""Collects the words of records for the Parquet store (stores/parquet/word_filter.py); None if Python does."""
fill_filter = core.fill_filter if core is not None else None
"""Fills the filter of such words; None if Python does."""
error_lines = getattr(core, "error_lines", None)
"""Finds the lines of errors (stores/errors/candidates.py); None if they are found in Python, as with an older core."""
