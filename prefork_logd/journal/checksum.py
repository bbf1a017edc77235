"""Chooses the fastest CRC-32, the checksum of the journal's blocks.

Owns the choice: the compiled one if it was built and the processor supports it, else zlib's. Both give the same
result. `PREFORK_LOGD_NATIVE=0` (system/compiled.py) chooses zlib's here, too.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from prefork_logd.system import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

crc32: Callable[..., int] = zlib.crc32
try:
    from prefork_logd.journal import _crc
except ImportError:
    pass
else:
    if _crc.WORKS and compiled.IS_ALLOWED:
        crc32 = _crc.crc32
