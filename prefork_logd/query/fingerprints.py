"""Computes the fingerprint of a record: the key of the group of errors that it belongs to.

Owns which records are errors, and which errors are equal, by a version of the algorithm. Does not know stores, files or
clocks. docs/errors.md describes the rule to users.

A key is the version and 16 hexadecimal digits, `g1:5f0c8a1b2c3d4e5f`. A later version of the algorithm is a further
entry of ALGORITHMS; the keys of a version never change. A key of `g1v` is that of a variant: of the errors of a group
that have one place in the code.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.query.patterns import pattern_of
from prefork_logd.query.tracebacks import Frame, Raised, exceptions_of, with_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ERROR = 40
"""A record from this level on is an error, and so is any record with an exception."""
KEY = re.compile(r"g\d{1,4}v?:[0-9a-f]{16}", re.ASCII)
VARIANT = "v"
"""Ends the version of a key that is a variant's."""
MOST_TITLE = 200
"""Characters of a title."""
_NO_EXCEPTION = ("", "NoneType: None")
"""Texts of logging.exception() where no exception is handled."""


class Summary(NamedTuple):
    """What people read about a group, from one of its records."""

    title: str
    """The type and the form of the message: `ValueError: order <number> is closed`."""
    culprit: str
    """Where it was raised: `charge in shop.billing`; the logger's name if that is not known."""
    place: str
    """The line of the code, which tells the variants of a group: `billing:17`; empty if it is not known."""


def is_error(record: Mapping[str, Any]) -> bool:
    """Tell whether a stored record, given as the object in its line, belongs to a group."""
    level = record.get("levelno")
    return bool(
        (isinstance(level, (int, float)) and level >= ERROR)
        or record.get("exception")
        or record.get("exc_text", "") not in _NO_EXCEPTION
    )


def fingerprint(record: Mapping[str, Any], version: str = "g1") -> str | None:
    """Return the key of a record's group by one version of the algorithm; None if it is not an error.

    Raises KeyError for a version that does not exist.
    """
    base = version.removesuffix(VARIANT)
    algorithm = ALGORITHMS[base]
    if not is_error(record):
        return None
    chain = exceptions_of(record)
    key = key_of(base, algorithm(record, chain))
    return key if base == version else variant_key(key, _place(record, chain))


def variant_key(key: str, place: str) -> str:
    """Return the key of the errors of a group that have this place."""
    return key_of(key.partition(":")[0] + VARIANT, (key, place))


def key_of(version: str, parts: Iterable[str]) -> str:
    """Return the key of the parts in which equal errors are equal."""
    octets = "\0".join(parts).encode("utf-8", "surrogatepass")
    return f"{version}:{hashlib.blake2b(octets, digest_size=8).hexdigest()}"


def g1(record: Mapping[str, Any], chain: Sequence[Raised]) -> list[str]:
    """Return the parts of the first version.

    They are the sender's own fingerprint, else the types and the application's functions of the chain of exceptions,
    else the logger and the template or form of the message. Line numbers, source text and values are none of them.
    """
    own = _own_fingerprint(record)
    if own:
        return ["own", *own]
    if chain:
        return ["exception", *(part for raised in chain for part in _parts_of(raised))]
    # Of hexadecimal ids a few have digits only.
    return ["message", str(record.get("name") or ""), template_of(record).replace("<hex>", "<number>")]


ALGORITHMS: dict[str, Callable[[Mapping[str, Any], Sequence[Raised]], list[str]]] = {"g1": g1}
"""Each version, the newest last. It takes a record and its exceptions, the root first."""


def _own_fingerprint(record: Mapping[str, Any]) -> list[str]:
    """Return the attribute `fingerprint` of a record: a text, or a list of texts and numbers; else nothing."""
    extra = record.get("extra")
    own = extra.get("fingerprint") if isinstance(extra, dict) else None
    items = own if isinstance(own, list) else [own]
    return [str(one)[:1_000] for one in items[:32] if isinstance(one, (str, int, float)) and one != ""]


def _parts_of(raised: Raised) -> list[str]:
    """Return what identifies an exception; a group of exceptions is its distinct leaves, in any order."""
    if raised.leaves:
        distinct = sorted({tuple(_parts_of(leaf)) for leaf in raised.leaves})
        return [part for leaf in distinct for part in leaf]
    return [raised.type, *(f"{frame.module}:{frame.function}" for frame in _telling(raised.frames)), ""]


def _telling(frames: Sequence[Frame]) -> list[Frame]:
    """Return the application's frames, each function once; without any, the innermost one.

    A function that calls itself, directly or not, is the same error however deep it was. List comprehensions have no
    frame from Python 3.12 on.
    """
    found = {
        (frame.module, frame.function): frame
        for frame in frames
        if frame.in_app and frame.function not in ("<listcomp>", "<dictcomp>", "<setcomp>")
    }
    return list(found.values()) or list(frames[-1:])


def template_of(record: Mapping[str, Any]) -> str:
    """Return the form of the template of a record's message, or that of the message's first two lines."""
    template = record.get("msg")
    if isinstance(template, str) and template:
        return pattern_of(template)
    message = record.get("message")
    return pattern_of("\n".join(message.split("\n", 2)[:2])) if isinstance(message, str) else ""


def summary_of(record: Mapping[str, Any]) -> Summary:
    """Return what people read about the record's group."""
    chain = exceptions_of(record)
    name = str(record.get("name") or "")
    place = _place(record, chain)
    if not chain:
        title = template_of(record).partition("\n")[0] or name or "(no message)"
        return Summary(title[:MOST_TITLE], name[:MOST_TITLE], place)
    last = with_values(_raised_last(chain), record)
    title = form_of(last.type, last.value.partition("\n")[0]) or "(no type)"
    frames = _telling(last.frames)
    culprit = f"{frames[-1].function} in {frames[-1].module}" if frames else name
    return Summary(title[:MOST_TITLE], culprit[:MOST_TITLE], place)


def place_of(record: Mapping[str, Any]) -> str:
    """Return the place of a record's summary alone."""
    return _place(record, exceptions_of(record))


def kind_of(record: Mapping[str, Any]) -> str:
    """Return the type of the exception in a record's title; empty without an exception."""
    chain = exceptions_of(record)
    return _raised_last(chain).type if chain else ""


def form_of(kind: str, value: str) -> str:
    """Return the title of an error: of its exception's type, if there is one, and of the first line of a message."""
    pattern = pattern_of(value)
    return (f"{kind}: {pattern}" if kind and pattern else kind or pattern)[:MOST_TITLE]


def _place(record: Mapping[str, Any], chain: Sequence[Raised]) -> str:
    if not chain:
        module, lineno = record.get("module"), record.get("lineno")
        return f"{module}:{lineno}"[:MOST_TITLE] if module and lineno else ""
    frames = _telling(_raised_last(chain).frames)
    return f"{frames[-1].module}:{frames[-1].lineno}"[:MOST_TITLE] if frames else ""


def _raised_last(chain: Sequence[Raised]) -> Raised:
    """Return the exception that was logged; of a group its first leaf."""
    return chain[-1].leaves[0] if chain[-1].leaves else chain[-1]
