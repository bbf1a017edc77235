"""Defines the values that a pickle builds, as data: the machine pushes them, and values.py reads them.

Owns the form of containers, names and calls. Scalars and lists are Python's own. Dicts, sets and tuples, which would
hash or compare a client's values, have classes here that do not.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Node: TypeAlias = Any
"""str, int, float, bool, None, bytes, bytearray, list, or one of the classes below."""

_MODERN_MODULES = {
    "__builtin__": "builtins",
    "exceptions": "builtins",
    "copy_reg": "copyreg",
    "pathlib._local": "pathlib",
}
_MODERN_NAMES = {
    ("builtins", "xrange"): "range",
    ("builtins", "long"): "int",
    ("builtins", "unicode"): "str",
}


class OctetText(bytes):
    """A Python 2 str: text for the service, octets on the wire."""

    __slots__ = ()

    def text(self) -> str:
        """Return it as UTF-8; other octets become lone surrogates, so nothing is lost or guessed."""
        return self.decode("utf-8", "surrogateescape")


class Tuple:
    """A tuple; `hashable` is whether Python's hash() would accept it, which would recurse through it."""

    __slots__ = ("hashable", "items")

    def __init__(self, items: list[Node]) -> None:
        self.items = items
        self.hashable = all(map(is_hashable, items))


class Dict:
    """A dict: keys and values in turn, in one flat list, duplicates included."""

    __slots__ = ("flat",)

    def __init__(self) -> None:
        self.flat: list[Node] = []


class Set:
    """A set or frozenset: members in the order of the pickle, duplicates included."""

    __slots__ = ("frozen", "items")

    def __init__(self, items: list[Node], *, frozen: bool) -> None:
        self.items = items
        self.frozen = frozen


class Cut:
    """A value that was left out, because it or those around it are too large.

    `text` is what is stored in its place; if it is empty, the number of values that were left out is.
    """

    __slots__ = ("count", "text")

    def __init__(self, count: int = 0, text: str = "") -> None:
        self.count = count
        self.text = text


class Symbol:
    """The name of a class or function, as in Python 3. It is never looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = _MODERN_MODULES.get(module, module)
        self.name = _MODERN_NAMES.get((self.module, name), name)

    @property
    def path(self) -> str:
        """Module and name, dotted; a builtin goes without its module."""
        return self.name if self.module == "builtins" else f"{self.module}.{self.name}"


class Object:
    """A call that is described and not made, and the changes to its result."""

    __slots__ = ("args", "base", "callee", "flat", "has_state", "items", "kwargs", "state")

    def __init__(self, callee: Symbol | Object, args: list[Node], kwargs: Dict | None = None) -> None:
        self.callee = callee
        self.args = args
        self.kwargs = kwargs
        self.base = ""
        """The builtin type of which it is an instance, if the pickle tells; "new" for that of its only argument."""
        self.has_state = False
        self.state: Node = None
        self.items: list[Node] = []
        self.flat: list[Node] = []

    @property
    def path(self) -> str:
        """The path of the callee; with parentheses if it is the result of a call."""
        callee = self.callee
        return callee.path if type(callee) is Symbol else f"{callee.path}()"

    @property
    def is_bare(self) -> bool:
        """Whether it has only positional arguments."""
        return not (self.kwargs or self.has_state or self.items or self.flat)


LATIN_1 = frozenset({"latin1", "latin-1", "iso-8859-1", "8859"})
"""Names of the one encoding of octets that are pickled as text."""
_UNHASHABLE = frozenset({list, Dict, bytearray})


def is_hashable(node: Node) -> bool:
    """Tell whether Python would accept the value as a key; objects count as acceptable."""
    kind = type(node)
    if kind is Tuple:
        return bool(node.hashable)
    if kind is Set:
        return bool(node.frozen)
    return kind not in _UNHASHABLE


EMPTY_TUPLE = Tuple([])


def is_private(key: Node) -> bool:
    """Tell whether an attribute's name begins with an underscore."""
    return key[:1] in ("_", b"_") if type(key) is str or type(key) is OctetText else False


def text_of(node: Node, longest: int) -> str | None:
    """Return a text of Python 2 or 3, if it has at most `longest` characters or octets."""
    if type(node) is str:
        return node if len(node) <= longest else None
    return node.text() if type(node) is OctetText and len(node) <= longest else None


def is_call(node: Node, module: str, name: str) -> bool:
    """Tell whether the node is a call of this callable, with positional arguments only."""
    if type(node) is not Object or not node.is_bare:
        return False
    callee = node.callee
    return type(callee) is Symbol and callee.module == module and callee.name == name
