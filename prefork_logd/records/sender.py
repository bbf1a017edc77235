"""Describes who sent a record: the fields that all records of a session have in common.

Owns their limits, their form in HELLO, and their place in a record. Does not know sessions, sockets or the compiled
core, which writes the same (ingest/_core_c.pyx).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prefork_logd.records.record import INTEGER_MAX, SENDER_FIELDS
from prefork_logd.records.render import render_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.records.record import Record

MOST_CHARS = 255
"""Characters of each text and of each name of `fields`."""
MOST_FIELDS = 32
"""Fields of a sender's own."""


class Sender(NamedTuple):
    """Who sent a record. Records of one sender share one object: the compiled core prepares it once."""

    host: str = ""
    service: str = ""
    environment: str = ""
    version: str = ""
    peer_name: str = ""
    """Its name by its certificate; a client cannot set it by itself."""
    fields: Mapping[str, str | int | float | bool] = {}
    """Further fields, for `extra`; a record's own attribute of the same name is kept instead."""
    nbytes: int = 0
    """Most bytes that all of this takes in a line of JSON."""
    members: bytes = b""
    """The texts as members of a line of JSON, each behind a comma."""

    def sign(self, record: Record) -> None:
        """Put the sender into a record, where the record does not have these fields itself."""
        record.host = record.host or self.host or None
        record.service = record.service or self.service or None
        record.environment = record.environment or self.environment or None
        record.version = record.version or self.version or None
        record.peer_name = self.peer_name or None
        if self.fields:
            record.extra = {**record.extra, **{key: self.fields[key] for key in self.fields if key not in record.extra}}


NOBODY = Sender()


def make_sender(
    host: str,
    service: str = "",
    environment: str = "",
    version: str = "",
    fields: Mapping[str, str | int | float | bool] | None = None,
    peer_name: str = "",
) -> Sender:
    """Return a sender of values that are within the limits."""
    texts = {"host": host, "service": service, "environment": environment, "version": version, "peer_name": peer_name}
    nbytes = len(render_values({**texts, "extra": fields or {}}))
    line = render_values({name: text for name, text in texts.items() if text})
    members = b"," + line[1:-2] if len(line) > len(b"{}\n") else b""
    return Sender(host, service, environment, version, peer_name, fields or {}, nbytes, members)


def read_sender(document: bytes, host: str, peer_name: str = "") -> Sender:
    """Return the sender that a client describes in a JSON object; no bytes: the client does not describe one.

    `host` is the host of a client that names none, `peer_name` the client's name by its certificate.
    Never raises: a value of another type or beyond the limits is left out.
    """
    try:
        found = msgspec.json.decode(document) if document else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return make_sender(host, peer_name=peer_name)
    texts = (str(text) if _is_text(text := found.get(name)) else "" for name in SENDER_FIELDS)
    named_host, service, environment, version = texts
    own = found.get("fields")
    pairs = own.items() if isinstance(own, dict) else ()
    fields = {key: value for key, value in pairs if _is_text(key) and (value == "" or _is_scalar(value))}
    kept = dict([*fields.items()][:MOST_FIELDS])
    return make_sender(named_host or host, service, environment, version, kept, peer_name)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_CHARS


def _is_scalar(value: Any) -> bool:
    if isinstance(value, int):
        return -INTEGER_MAX - 1 <= value <= INTEGER_MAX
    return isinstance(value, float) or _is_text(value)
