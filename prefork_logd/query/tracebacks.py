"""Reads the exceptions of a record: from the handler's data, or from the text of a traceback.

Owns the forms of tracebacks: chains, groups, notes, repeated lines, those of Python 2.7. Does not know what makes two
errors equal (fingerprints.py).

The text is read line by line, in a time linear in its length, and a message that holds a traceback is not taken for
one: after the line with the type of an exception everything is its message, until a sentence that Python writes between
two exceptions of a chain. The functions raise nothing, whatever the text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_CHARACTERS = 200_000
"""Characters of a text that are read: its first and its last half."""
MOST_EXCEPTIONS = 16
"""Exceptions of a chain that count: the root and the latest ones, as our handler sends them."""
FIRST_FRAMES, LAST_FRAMES = 8, 24
"""Frames of a traceback that count: the outermost and the innermost ones, as our handler sends them."""
_LINKS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_HEADERS = ("Traceback (most recent call last):", "Exception Group Traceback (most recent call last):")
_FRAME = re.compile(r'  File "([^"\n]{1,4096})", line (\d{1,12}), in (.{1,512})')
_TYPE = re.compile(r"([^\W\d][\w.<>]{0,511})(?::(?: (.*))?)?", re.DOTALL)
_RULE = re.compile(r"\s{0,400}(?:\+-)?\+-{3,}(?: (\d+|\.\.\.) -{3,})?\s*")
_LIBRARY = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib(?:64)?[/\\](?:python|pypy)\d[\d.]*[/\\]|[/\\]Python\d+[/\\]Lib[/\\]"
)


class Frame(NamedTuple):
    """A call in a traceback."""

    module: str
    """The last part of the module's name."""
    function: str
    """The last part of the function's name."""
    lineno: int
    in_app: bool
    """Whether the code is the application's, not Python's or an installed package's."""


class Raised(NamedTuple):
    """An exception that was raised."""

    type: str
    """The class's name without its module."""
    value: str
    """The message; empty if it is not known."""
    frames: tuple[Frame, ...]
    """The outermost call first."""
    leaves: tuple[Raised, ...] = ()
    """The exceptions of a group, those of groups in it included."""


def exceptions_of(record: Mapping[str, Any]) -> list[Raised]:
    """Return the chain of exceptions of a stored record, its root first; empty if it has none that can be read.

    Those of our handler's data have no messages (`with_values`).
    """
    described = record.get("exception")
    found = _from_data(described) if isinstance(described, list) and described else []
    text = record.get("exc_text")
    return found or (parse(text) if isinstance(text, str) and text else [])


def with_values(raised: Raised, record: Mapping[str, Any]) -> Raised:
    """Return an exception of our handler's data with its message, if the text of the traceback has one."""
    text = record.get("exc_text")
    if raised.value or not isinstance(text, str):
        return raised
    return raised._replace(value=_last_value(text, raised.type))


def _from_data(described: list[Any]) -> list[Raised]:
    chain: list[Raised] = []
    leaves: list[Raised] = []
    for one in described[:64]:
        if not isinstance(one, dict) or not isinstance(one.get("type"), str):
            continue
        frames = one.get("frames")
        raised = Raised(
            last_part(one["type"]),
            "",
            _kept([_frame(frame) for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []),
        )
        if one.get("in_group") is True:
            leaves.append(raised)
        else:
            chain.append(raised._replace(leaves=tuple(leaves)))
            leaves = []
    return _latest([*chain, *leaves])


def _frame(described: Mapping[str, Any]) -> Frame:
    module, function, lineno = described.get("module"), described.get("function"), described.get("lineno")
    return Frame(
        last_part(module) if isinstance(module, str) else "",
        last_part(function) if isinstance(function, str) else "",
        lineno if isinstance(lineno, int) else 0,
        described.get("in_app") is True,
    )


def last_part(name: str) -> str:
    """Return the last part of a dotted name: `add` of `shop.cart.Cart.add`, `<lambda>` of `f.<locals>.<lambda>`."""
    return name[name.rfind(".") + 1 :]


def _kept(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    if len(frames) <= FIRST_FRAMES + LAST_FRAMES:
        return tuple(frames)
    return (*frames[:FIRST_FRAMES], *frames[-LAST_FRAMES:])


def _latest(chain: list[Raised]) -> list[Raised]:
    return chain if len(chain) <= MOST_EXCEPTIONS else [chain[0], *chain[1 - MOST_EXCEPTIONS :]]


def _last_value(text: str, kind: str) -> str:
    """Return the message behind the last line that begins with a type's name; empty if there is none."""
    for line in reversed(text[-MOST_CHARACTERS:].split("\n")):
        match = _TYPE.fullmatch(line.lstrip(" |+-"))
        if match is not None and last_part(match[1]) == kind:
            return match[2] or ""
    return ""


def parse(text: str) -> list[Raised]:
    """Return the chain of exceptions in the text of a traceback, its root first; empty if the text is not one."""
    if len(text) > MOST_CHARACTERS:
        text = text[: MOST_CHARACTERS // 2] + text[-MOST_CHARACTERS // 2 :]
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].strip().lstrip("+ ") not in _HEADERS:
        return []
    return _latest([one for part in _links(lines) if (one := _block(part)) is not None])


def _links(lines: list[str]) -> Iterator[list[str]]:
    """Yield the lines of each exception of a chain."""
    start = 0
    for at in range(1, len(lines) - 1):
        line = lines[at]
        if line.endswith(":") and line.lstrip(" |") in _LINKS:
            margin = line[: len(line) - len(line.lstrip(" |"))].rstrip()
            if lines[at - 1].rstrip() == margin and lines[at + 1].rstrip() == margin and "|" not in margin:
                yield lines[start : at - 1]
                start = at + 2
    yield lines[start:]


def _block(lines: list[str]) -> Raised | None:
    """Return the exception of one block; None if its type cannot be read."""
    header = lines[0] if lines else ""
    if header.lstrip(" +").startswith("Exception Group Traceback"):
        return _group(lines)
    at = 1 if header == _HEADERS[0] else 0
    frames: list[Frame] = []
    while at < len(lines) and (lines[at].startswith("  ") or (not lines[at].strip() and frames)):
        match = _FRAME.fullmatch(lines[at])
        if match is not None:
            frames.append(_from_path(match[1], int(match[2]), match[3]))
        at += 1
    match = _TYPE.fullmatch("\n".join(lines[at : at + 40])) if at < len(lines) else None
    if match is None:
        return None
    return Raised(last_part(match[1]), match[2] or "", _kept(frames))


def _group(lines: list[str]) -> Raised | None:
    """Return an exception group: its own block, and the leaves of the sections behind it."""
    own: list[str] = []
    sections: list[tuple[int, list[str]]] = []
    for line in lines:
        rule = _RULE.fullmatch(line)
        if rule is None:
            target = sections[-1][1] if sections else own
            target.append(_without_margin(line))
        elif rule[1]:
            sections.append((line.rindex("+"), []))
    group = _block([_HEADERS[0], *own[1:]])
    if group is None:
        return None
    leaves: list[Raised] = []
    for (depth, section), (following, _) in zip(sections, [*sections[1:], (0, [])], strict=True):
        if following <= depth:  # else a group itself, and its sections follow
            leaves += [one for part in _links(section) if (one := _block(part)) is not None][-1:]
    return group._replace(leaves=tuple(leaves))


def _without_margin(line: str) -> str:
    """Return a line of a group without the bars in front of it."""
    at = line.find("|")
    if at >= 0 and not line[:at].strip():
        return line[at + 2 :]
    return line.replace("+ ", "", 1) if line.lstrip().startswith("+ ") else line


def _from_path(path: str, lineno: int, function: str) -> Frame:
    """Return the frame of a line of a traceback: the module's name is that of its file."""
    *above, name = re.split(r"[/\\]", path[-512:])
    stem = name.rsplit(".", 1)[0] if name.endswith((".py", ".pyx", ".pyc", ".pyw")) else name
    if stem == "__init__" and above:
        stem = above[-1]
    in_app = not path.startswith("<") and _LIBRARY.search(path) is None
    return Frame(stem, last_part(function), lineno, in_app)
