"""Defines the tree of a query: a small, closed set of conditions on one record.

Owns the nodes, and how they are put together. Does not know how a query is written, what a node means in
detail (evaluate.py), or how a store finds the records. A store compiles a tree with one match statement over Node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TEXT_FIELDS = ("message", "exc_text", "stack_info")
"""The fields in which words are searched."""

Operator = Literal["=", "<", "<=", ">", ">=", "~", "=~", "^="]
"""`~`: contains the text; `=~`: a regular expression (RE2) matches a part of it; `^=`: begins with the text."""

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,999})(?:\.\d{1,999})?(?:[eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class And:
    """Every part has to be met; without parts, every record meets it."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """One part has to be met; without parts, no record meets it."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The part must not be met. A condition is either met or not; there is no third value, also for missing fields."""

    part: Node


@dataclass(frozen=True, slots=True)
class Words:
    """Consecutive words in one of the fields (words.py has the rule)."""

    words: tuple[str, ...]
    """One or more, folded (words.fold)."""
    is_prefix: bool = False
    """Whether the last word may go on."""
    fields: tuple[str, ...] = TEXT_FIELDS
    """Some of TEXT_FIELDS."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A value of the record compared with an operand, which is text as in the query."""

    path: tuple[str, ...]
    """A field of the record, then keys of objects or indexes of lists."""
    operator: Operator
    operand: str

    @property
    def number(self) -> int | float | None:
        """The operand as a JSON number, or None; always None for the operators on text."""
        if self.operator in {"~", "=~", "^="} or not _NUMBER.fullmatch(self.operand):
            return None
        return int(self.operand) if self.operand.lstrip("-").isdigit() else float(self.operand)


@dataclass(frozen=True, slots=True)
class Has:
    """The path leads to a value other than null."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InGroup:
    """The record belongs to a group of errors."""

    key: str
    """The group's key (fingerprints.py), of any version of the algorithm."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a fingerprint is computed from."""
        return ("name", "levelno", "message", "msg", "exc_text", "exception", "extra")


Node = And | Or | Not | Words | Compare | Has | InGroup

EVERYTHING = And()
NOTHING = Or()


def all_of(parts: Iterable[Node]) -> Node:
    """Return the node that is met when every part is; nested Ands become one."""
    flat = tuple(dict.fromkeys(one for part in parts for one in (part.parts if isinstance(part, And) else (part,))))
    return flat[0] if len(flat) == 1 else And(flat)


def any_of(parts: Iterable[Node]) -> Node:
    """Return the node that is met when one part is; nested Ors become one."""
    flat = tuple(dict.fromkeys(one for part in parts for one in (part.parts if isinstance(part, Or) else (part,))))
    return flat[0] if len(flat) == 1 else Or(flat)


def negated(part: Node) -> Node:
    """Return the opposite of a node; of a negated one, its part."""
    return part.part if isinstance(part, Not) else Not(part)


def conjuncts(node: Node) -> tuple[Node, ...]:
    """Return the nodes of which each has to be met: the parts of an And, else the node itself."""
    return node.parts if isinstance(node, And) else (node,)


def leaves(node: Node) -> Iterator[Words | Compare | Has | InGroup]:
    """Yield the conditions of a tree from left to right."""
    if isinstance(node, (And, Or)):
        for part in node.parts:
            yield from leaves(part)
    elif isinstance(node, Not):
        yield from leaves(node.part)
    else:
        yield node


def level_is(operator: Operator, number: int) -> Node:
    """Return the comparison of a record's level; a record without a level counts as 0."""
    compared = Compare(("levelno",), operator, str(number))
    holds = {"=": number == 0, "<": number > 0, "<=": number >= 0, ">": number < 0, ">=": number <= 0}
    return any_of((compared, Not(Has(("levelno",))))) if holds.get(operator) else compared


def level_from(number: int) -> Node:
    """Return the threshold of a flag `--level`; 0 means no threshold."""
    return level_is(">=", number) if number else EVERYTHING


def logger(name: str) -> Node:
    """Return the condition that a record comes from a logger or one of its children."""
    return Or((Compare(("name",), "=", name), Compare(("name",), "^=", f"{name}.")))
