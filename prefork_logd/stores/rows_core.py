"""Chooses the core that turns stored lines into rows: the compiled one, or the Python modules.

Owns the choice; `PREFORK_LOGD_NATIVE=0` (system/compiled.py) takes the Python modules. Knows nothing of what a
core does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.system import compiled

if TYPE_CHECKING:
    from types import ModuleType

ABI = 2
"""What the compiled core has to say of itself (stores/_rows_c.pyx)."""

core: ModuleType | None
try:
    from prefork_logd.stores import _rows_c as core
except ImportError:
    core = None

if core is not None and (not compiled.IS_ALLOWED or getattr(core, "ABI", None) != ABI):
    core = None

Packer = core.Packer if core is not None else None
"""Makes rows for SQLite. None: they are made in Python."""
Copier = core.Copier if core is not None else None
"""Makes rows for PostgreSQL's COPY. None: they are made in Python."""
