"""The checksum of the journal's blocks: CRC-32, by the quickest means there is.

Owns the choice: the compiled one where it was built and the processor can, else zlib's. Both give the same.
`PREFORK_LOGD_NATIVE=0` (compiled.py) takes zlib's here, too.
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
