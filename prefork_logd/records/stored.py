"""A stored line, as a record again.

Owns the way back from JSON. Knows no files.
"""

from __future__ import annotations

import json

import msgspec

from prefork_logd.errors import RecordRejected
from prefork_logd.records.record import Record

_decode = msgspec.json.Decoder(Record).decode


def stored_record(line: bytes) -> Record:
    """Return the record that a line of JSON holds (docs/record.md). Raises RecordRejected if it holds none."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        # A lone surrogate, which the quick way refuses.
        return msgspec.convert(json.loads(line), Record)
    except (ValueError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RecordRejected("not-a-record", f"no stored record: {error}") from error
