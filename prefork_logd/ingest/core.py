"""Chooses the core that turns frames into lines: the compiled one, or Python's.

Owns the choice. Does not know the work of a core, or the environment variable that forces one (system/compiled.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import ConfigError, Problem
from prefork_logd.ingest import _core_py
from prefork_logd.inputs import runs
from prefork_logd.inputs.pickles import decode, opcodes, trim
from prefork_logd.ipc import batch_builder
from prefork_logd.records import render
from prefork_logd.system import compiled

if TYPE_CHECKING:
    from types import ModuleType

ABI = 17
"""The version of the interface that the compiled core must have (ingest/_core_c.pyx)."""

speedups: ModuleType | None
try:
    from prefork_logd.ingest import _core_c as speedups
except ImportError as error:
    speedups = None
    MISSING = f"the compiled core is not there ({error}); install the package where there is a C compiler, or unset it"
else:
    MISSING = ""
    if getattr(speedups, "ABI", None) != ABI:
        speedups = None
        MISSING = "the compiled core was built from another version's sources; build it again, or unset it"

_used = speedups if compiled.IS_ALLOWED else None

NATIVE = _used is not None
"""Whether the compiled core is used; `status` shows it."""

Core = _core_py.Core if _used is None else _used.Core
Lines = batch_builder.Lines if _used is None else _used.Lines
share = None if _used is None else _used.share
"""Sets the shared memory for lines; None without the compiled core: lines are then ordinary bytes."""
measure = runs.measure_in_python if _used is None else _used.measure
measure_batches = runs.measure_batches_in_python if _used is None else _used.measure_batches
if _used is not None:
    render.escape_json, render.escape_inside = _used.escape_json, _used.escape_inside
    render.encode_marked = _used.encode_marked
    trim.trim = _used.trim
    decode.read_symbols = _used.read_symbols
    opcodes.decode_text, opcodes.unquote = _used.decode_text, _used.unquote


def require() -> None:
    """Raise ConfigError if the environment demands the compiled core and it cannot be used."""
    if not compiled.IS_VALID:
        raise ConfigError([Problem(compiled.VARIABLE, f"{compiled.WANTED!r} is neither 0 nor 1")])
    if compiled.IS_REQUIRED and speedups is None:
        raise ConfigError([Problem(compiled.VARIABLE, MISSING)])
