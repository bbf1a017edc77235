"""Reads the hostile corpus: pickles and raw streams with the verdict that each must get.

Owns data/hostile.tar.xz: `manifest.json`, the bodies of frames (`payloads/`), and bytes as sent on a socket with their
headers (`stream/`). Hostile payloads were assembled opcode by opcode, records come from real SocketHandlers of Python
2.7, 3.9 and 3.13. Read them with the decoder; never with pickle.
"""

from __future__ import annotations

import ast
import functools
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json

ARCHIVE = Path(__file__).parents[1] / "data" / "hostile.tar.xz"
CPU_LIMIT_S = 0.25
MEMORY_LIMIT_MIB = 32
"""Limits for decoding and rendering one payload."""


@dataclass(frozen=True)
class Payload:
    """One entry of the manifest and its bytes."""

    name: str
    category: str
    attacks: str
    data: bytes
    expect: str
    """"accept", "reject", or "bounded": either, within the limits; empty for a stream."""
    must: str
    """The required reaction of a server to a stream."""
    attributes: dict[str, Any]
    """Attributes that must be recovered; {"kind": ...} in the manifest for those whose form we choose."""
    lossy: frozenset[str]
    """Attributes that must be present, with any value."""


@functools.cache
def load() -> tuple[Payload, ...]:
    """Return the whole corpus."""
    with tarfile.open(ARCHIVE) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    return tuple(
        Payload(
            name=entry["name"],
            category=entry["category"],
            attacks=entry["attacks"],
            data=files[entry["file"]],
            expect=entry.get("expect", ""),
            must=entry.get("must", ""),
            attributes=entry.get("core", {}) | entry.get("extra", {}) | entry.get("decode_to", {}),
            lossy=frozenset(entry.get("lossy", ())),
        )
        for entry in json.loads(files["manifest.json"])["entries"]
    )


def frames() -> tuple[Payload, ...]:
    """Return every payload that is the body of one frame."""
    return tuple(payload for payload in load() if payload.category != "stream")


def records() -> tuple[Payload, ...]:
    """Return the genuine records."""
    return tuple(payload for payload in load() if payload.category == "record")


def hostile() -> tuple[Payload, ...]:
    """Return the hostile payloads."""
    return tuple(payload for payload in frames() if payload.category != "record")


def streams() -> tuple[Payload, ...]:
    """Return the raw streams, headers included."""
    return tuple(payload for payload in load() if payload.category == "stream")


SHOWN_AS_BASES = frozenset({"AttrDict", "StrList", "LazyStr", "SimpleNamespace"})
"""Classes that are stored as the dict, list or text that they hold, and not with their names (docs/record.md)."""


def missing(payload: Payload, attributes: dict[str, Any]) -> list[str]:
    """Return a sentence for each attribute of the payload that `attributes` does not recover."""
    problems = []
    for name, want in payload.attributes.items():
        if name not in attributes:
            problems.append(f"{name} is gone")
        elif name not in payload.lossy and not recovers(attributes[name], want):
            problems.append(f"{name} is {attributes[name]!r:.100}, not {want!r:.100}")
    return problems


def recovers(got: Any, want: Any) -> bool:
    """Tell whether a decoded value holds the value in the manifest."""
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(map(recovers, got, want))
    if not isinstance(want, dict):
        return type(got) is type(want) and got == want
    kind = want.get("kind")
    if kind is None:
        return (
            isinstance(got, dict) and got.keys() == want.keys() and all(recovers(got[key], want[key]) for key in want)
        )
    if kind == "bytes":
        return octets(got) == bytes.fromhex(want.get("hex", want.get("text", "")))
    if kind == "surrogate":
        return got.encode("utf-8", "backslashreplace").decode() == want["text_escaped"]
    if kind in ("set", "list", "dict"):
        return recovers(got, want["text"])
    if kind == "opaque":
        words = set(want.get("must_mention", [want.get("text", "")])) - SHOWN_AS_BASES
        return all(word in json.dumps(got) for word in words)
    return want["text"] in str(got)


def octets(text: str) -> bytes:
    """Return the octets of a decoded text: Python 2 text that was not UTF-8, or escaped binary data."""
    if any("\udc80" <= character <= "\udcff" for character in text):
        return text.encode("utf-8", "surrogateescape")
    quoted = text.replace('"', '\\"')
    return ast.literal_eval(f'b"{quoted}"')


def corpus_lines():
    """Return the line of every accepted payload of the corpus."""
    lines = []
    for payload in frames():
        try:
            lines.append(render_json(make_record(decode(payload.data), "192.0.2.7:40000", 1_795_404_245.125)))
        except RecordRejected:
            continue
    assert len(lines) > 512
    return lines


def mutated(chance, seeds):
    """Return a corpus payload with bits flipped, parts cut, repeated or spliced in, opcodes put in."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        other = chance.choice(seeds)
        start = chance.randrange(len(other))
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.choice((1, 2, 5, 50))]
            case 2:
                data[at:at] = other[start : start + chance.choice((1, 5, 20, 100, 1000))]
            case 3:
                data[at:at] = bytes([chance.choice(b"()012.FGIKNRSUX]abdehiloqstu}\x81\x85\x86\x8f\x90\x93\x94")])
            case 4:
                data[at:at] = data[at : at + 20] * chance.choice((1, 3, 100))
    return bytes(data)
