"""Turns the values that a pickle builds into plain values: the second half of decoding.

Owns the form of containers, keys, names and objects, and the budgets of the result: depth, nodes, bytes. A value that
contains itself becomes CYCLE there; a value with many references is written out, and counted, each time. A too large
result keeps the parts that fit, with the number of the others. Does not know opcodes, or the standard library's types
(known.py).

Longer than other modules: the forms of all containers are charged to the same budgets, and cut in the same way.
"""

from __future__ import annotations

import codecs
import math
from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET, Budget, OverBudgetError
from prefork_logd.inputs.pickles.known import KNOWN, MEMBER_BYTES, MEMBERS
from prefork_logd.inputs.pickles.symbols import Cut, Dict, Node, Object, OctetText, Set, Symbol, Tuple, is_private
from prefork_logd.inputs.pickles.trim import OWN_NAMES
from prefork_logd.inputs.pickles.unknown import read_unknown
from prefork_logd.records.values import REST, TRUNCATED, Plain, cut_text

if TYPE_CHECKING:
    from collections.abc import Sequence

CYCLE = "<cycle>"
_VALUE_BYTES = 8
"""Bytes of JSON of a value besides its text: the longest of the short ones, "false" and "null", with a comma."""
_ESCAPE_BYTES = 6
_NAME_BYTES = 12
"""Bytes of JSON that mark a value as a class or a function."""
_OBJECT_BYTES = 56
"""The same for an object with all its parts."""
_DIGITS_PER_BIT = 0.30103
_SMALL = 1 << 64
_KINDS = {type(None): "None", OctetText: "str"}
_KEY_NODES, _OCTET_KEY_NODES, _ODD_KEY_NODES = 4, 2, 12
"""Additional values that a key counts which is an integer, or of another type than text."""
_KNOWN_NODES = 8
"""Additional values that an object of a known type counts, once."""
_LITERAL_NODES = 3
"""Additional values that writing a value as Python would counts."""
_NUMBER_BYTES = 20
_LONG_NUMBER = 4
"""A digit of an integer above 64 bits counts as so many characters, as writing it takes as long."""
_SPELLING_SHIFT = 18
"""The square of an integer's bits, divided by two to this, counts as so many values: writing it takes that long."""
_QUOTED_BYTES = 4
_PLAIN_OCTETS = bytes(n for n in range(0x20, 0x7F) if n not in b'"\\')
_CUT_KEY_NODES = 3
"""Least number of values for which a pair of a cut dict counts."""
_LEAST_TEXT = 256
_OWN_NAMES = frozenset(name.decode() for name in OWN_NAMES)
_TOO_DEEP = Cut()
_CONTAINERS = {list: 6, Tuple: 6, Set: 6, Dict: 8, Object: 10}
"""Number of values that each of these types counts: it costs several times as much as a scalar."""


# Now, and not at the first octets of a client: what a client sends imports nothing.
codecs.lookup("unicode_escape")


class Attributes(dict[str, Plain]):
    """The attributes of a record that was cut."""

    __slots__ = ("truncated",)

    def __init__(self) -> None:
        super().__init__()
        self.truncated: list[str] = []
        """The names of those with a value that was cut."""


class Reader:
    """Turns the nodes of one frame into plain values, within its budget.

    Above it, and for a value that was cut, every method raises OverBudgetError. In a Reader that `cuts`, only methods
    that make no container do: a container ends before the part that does not fit. A Reader that does not cut counts a
    character as a byte, so that its verdict "too large" is always right. One that cuts counts the most bytes that a
    text may take in a line.

    Longer than other classes: each form of a value is charged to the same budgets.
    """

    def __init__(self, budget: Budget, frame_bytes: int, *, cuts: bool = False) -> None:
        self._depth = budget.depth
        nodes = budget.nodes_for(frame_bytes)
        self._nodes_left = min(nodes, budget.nodes_cut) if cuts else nodes
        self._bytes_left = budget.output_for(frame_bytes)
        self._cuts = cuts
        self._path: set[int] = set()
        self._known: dict[int, str] = {}
        """Text of earlier objects and octets by their ids: a reference costs less than making it again."""
        self._sizes: dict[int, int] = {}
        self._made: list[Node] = []
        self._has_cut = False
        """Whether something was cut since it was last set to False."""

    @classmethod
    def with_rest(cls, nodes: int, nbytes: int) -> Reader:
        """Return a Reader of one value for which so much of a record's budget is left."""
        reader = cls(DEFAULT_BUDGET, 0)
        reader._nodes_left, reader._bytes_left = nodes, nbytes
        return reader

    @property
    def rest(self) -> tuple[int, int]:
        """What is left of the budget: values and bytes."""
        return self._nodes_left, self._bytes_left

    def charge(self, count: int) -> None:
        """Charge bytes that the result will have, or that must be read."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise OverBudgetError

    def charge_nodes(self, count: int) -> None:
        """Charge values that the result will hold, or that must be read."""
        self._nodes_left -= count
        if self._nodes_left < 0:
            raise OverBudgetError

    def _expect(self, count: int) -> None:
        """Raise OverBudgetError at once if so many values are above the budget."""
        if count > self._nodes_left and not self._cuts:
            raise OverBudgetError

    def cut_attributes(self, flat: Sequence[Node]) -> Attributes:
        """Return keys and values in turn as the attributes of a record that is cut. Never raises OverBudgetError.

        Attributes that are not containers come first, then the containers, those with few items first. Each gets an
        equal share of what is left, with what the ones before it did not use, and leaves out only the parts that do not
        fit.
        """
        result = Attributes()
        flat, rest = self._most_names(flat)
        last, more = self._last_of_equal(flat, 0)
        rest += more
        result.update(dict.fromkeys(last))
        containers = [text for text, value in last.items() if type(value) in _CONTAINERS]
        containers.sort(key=lambda text: _length(last[text]))
        for text, value in last.items():
            if type(value) not in _CONTAINERS:
                self._cut_attribute(result, text, value)
        nodes_left, bytes_left = self._nodes_left, self._bytes_left
        for index, text in enumerate(containers):
            shares = len(containers) - index
            nodes, nbytes = max(0, nodes_left // shares), max(0, bytes_left // shares)
            self._nodes_left, self._bytes_left = nodes, nbytes
            self._cut_attribute(result, text, last[text])
            nodes_left -= nodes - max(0, self._nodes_left)
            bytes_left -= nbytes - max(0, self._bytes_left)
        if rest:
            result[REST] = rest
        cut = {*result.truncated, *([REST] if rest or REST in result else [])}
        result.truncated = [text for text in result if text in cut]
        return result

    def _cut_attribute(self, result: Attributes, text: str, value: Node) -> None:
        self._has_cut = False
        room = self._bytes_left // (2 * _ESCAPE_BYTES)
        try:
            self.text(text)
            result[text] = self.plain(value, 1)
        except OverBudgetError:
            self._has_cut = True
            is_long = type(value) is str and room > _LEAST_TEXT
            result[text] = cut_text(value, room) if is_long else TRUNCATED
        if self._has_cut and text != REST:
            result.truncated.append(text)

    def _most_names(self, flat: Sequence[Node]) -> tuple[Sequence[Node], int]:
        """Return as many attributes as there is room for, and the number of the others."""
        count = len(flat) // 2
        is_octets = any(type(key) is OctetText for key in flat[: 2 * count : 2])
        most = self._nodes_left // (_CUT_KEY_NODES + is_octets * _OCTET_KEY_NODES)
        if count <= most:
            return flat, 0
        most -= min(most, 2 * len(_OWN_NAMES))
        kept: list[Node] = []
        for index in range(0, 2 * count, 2):
            key = flat[index]
            if index < 2 * most or _is_own(key) or type(key) is Cut:
                kept += flat[index : index + 2]
        return kept, count - len(kept) // 2

    def plain(self, node: Node, depth: int = 0) -> Plain:
        """Return the node as a plain value; `depth` is the number of containers around it.

        Longer than other functions: it runs for every value of a record, and a call for each type would cost more than
        what is done for most.
        """
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise OverBudgetError
        kind = type(node)
        if kind is str:
            if self._cuts:
                return self._text_again(node)
            self._bytes_left -= len(node)
            if self._bytes_left < 0:
                raise OverBudgetError
            return node  # type: ignore[no-any-return]
        if self._cuts:
            self.charge(_VALUE_BYTES)
        if kind is int:
            if not -_SMALL < node < _SMALL:
                bits = node.bit_length()
                self.charge(_LONG_NUMBER * (int(bits * _DIGITS_PER_BIT) + 2))
                self.charge_nodes(bits * bits >> _SPELLING_SHIFT)
            elif self._cuts:
                self.charge(_NUMBER_BYTES)
            return node  # type: ignore[no-any-return]
        if node is None or kind is bool:
            return node  # type: ignore[no-any-return]
        if kind is float:
            self.charge_nodes(1)
            if self._cuts:
                self.charge(_NUMBER_BYTES)
            return node if math.isfinite(node) else str(node)
        if kind is OctetText:
            known = self._known.get(id(node))
            if known is None:
                self._known[id(node)] = known = node.text()
            return self._text_again(known) if self._cuts else self.text(known)
        if kind is bytes or kind is bytearray:
            known = self._known.get(id(node))
            if known is not None:
                return self._text_again(known) if self._cuts else self.text(known)
            self._known[id(node)] = known = self.octets(node)
            return known
        if kind is Cut:
            return self._cut(node)
        if kind is Symbol:
            self.charge_nodes(3)
            if self._cuts:
                self.charge(_NAME_BYTES)
            path = self.text(node.path)
            member = MEMBERS.get((node.module, node.name))
            if member is None:
                return {"__name__": path}
            self.charge(MEMBER_BYTES)
            return dict(member) if isinstance(member, dict) else member
        return self._container(node, depth)

    def fresh(self, node: Node, depth: int) -> Plain:
        """Do the same for a node that was made of others just now: its id must not come again."""
        self._made.append(node)
        return self.plain(node, depth)

    def _container(self, node: Node, depth: int) -> Plain:
        if depth >= self._depth:
            return self._cut(_TOO_DEEP)
        kind = type(node)
        self._nodes_left -= _CONTAINERS[kind] - 1
        marker = id(node)
        if marker in self._path:
            return CYCLE
        self._path.add(marker)
        try:
            if kind is list:
                return self.sequence(node, depth)
            if kind is Tuple or kind is Set:
                return self.sequence(node.items, depth)
            if kind is Dict:
                return self.mapping(node.flat, depth)
            return self._object(node, depth)
        finally:
            self._path.discard(marker)

    def _cut(self, node: Cut) -> Plain:
        """Return the mark of a value that was left out."""
        if not self._cuts:
            raise OverBudgetError
        self._has_cut = True
        if node.text:
            return self.text(node.text)
        return {REST: node.count} if node.count else TRUNCATED

    def text(self, text: str) -> str:
        """Charge a text and return it."""
        self.charge(_bytes_of(text) if self._cuts else len(text))
        return text

    def _text_again(self, text: str) -> str:
        """Do the same for a text of the frame, which is measured only once for all references."""
        nbytes = self._sizes.get(id(text))
        if nbytes is None:
            self._sizes[id(text)] = nbytes = _bytes_of(text)
        self.charge(nbytes)
        return text

    def octets(self, data: bytes | bytearray) -> str:
        """Return octets as the inside of a Python bytes literal: printable ASCII as it is, the rest escaped."""
        self.charge(len(data))
        text = data.decode("latin-1").encode("unicode_escape").decode()
        # Each backslash becomes two in JSON.
        self.charge(2 * len(text) - len(data) if self._cuts else len(text) - len(data))
        return text

    def sequence(self, items: Sequence[Node], depth: int) -> list[Plain]:
        """Return the plain values of `items`, which are in a container at `depth`."""
        self._expect(len(items))
        result: list[Plain] = []
        try:
            for item in items:
                result.append(self.plain(item, depth + 1))  # noqa: PERF401 - a comprehension is one more frame per level
        except OverBudgetError:
            if not self._cuts:
                raise
            left = len(items) - len(result)
            last = items[-1]
            if type(last) is Cut and last.count:
                left += last.count - 1
            elif type(last) is Dict and len(last.flat) == 2:
                left += _counted_before(*last.flat)
            self._has_cut = True
            result.append({REST: left})
        return result

    def mapping(self, flat: Sequence[Node], depth: int) -> dict[str, Plain]:
        """Return keys and values in turn as a dict; the last of equal keys wins, in the place of the first.

        Keys become text. If two different keys have the same text, such as 1 and "1", the later one gets its kind as a
        suffix: "1 (int)".
        """
        self._expect(len(flat) // 2)
        last, rest = self._last_of_equal(flat, depth)
        if not self._cuts:
            return self._whole(last, depth)
        result: dict[str, Plain] = {}
        text = TRUNCATED
        try:
            for text, value in last.items():
                self.text(text)
                result[text] = self.plain(value, depth + 1)
        except OverBudgetError:
            self._has_cut = True
            result[text] = TRUNCATED
            rest += len(last) - len(result)
            if REST not in result:
                rest += _counted_before(REST, last.get(REST))
        if rest:
            self._has_cut = True
            result[REST] = rest
        return result

    def _whole(self, last: dict[str, Node], depth: int) -> dict[str, Plain]:
        """Do it for a Reader that does not cut. The usual values are charged here: a call would take longest."""
        result: dict[str, Plain] = {}
        for text, value in last.items():
            kind = type(value)
            self._bytes_left -= len(text)
            if kind is str:
                self._bytes_left -= len(value)
            elif not (value is None or kind is bool or (kind is int and -_SMALL < value < _SMALL)):
                result[text] = self.plain(value, depth + 1)
                continue
            self._nodes_left -= 1
            if self._nodes_left < 0 or self._bytes_left < 0:
                raise OverBudgetError
            result[text] = value
        self.charge(0)
        return result

    def public(self, flat: Sequence[Node], depth: int) -> dict[str, Plain]:
        """Do the same without the keys that begin with an underscore: they are private."""
        self.charge_nodes(len(flat) // 2)
        if not any(map(is_private, flat[::2])):
            return self.mapping(flat, depth)
        pairs = [(key, value) for key, value in zip(flat[::2], flat[1::2], strict=True) if not is_private(key)]
        return self.mapping([part for pair in pairs for part in pair], depth)

    def _last_of_equal(self, flat: Sequence[Node], depth: int) -> tuple[dict[str, Node], int]:
        """Return the last value of each key, in the order in which keys came first, and how many were left out.

        A Reader that cuts leaves room for the values of the keys that it returns.
        """
        last: dict[str, Node] = {}
        kinds: dict[str, str] = {}
        rest, count = 0, self._most_pairs(flat)
        self.charge_nodes(count)
        pairs = iter(flat[: 2 * count])
        for done, (key, value) in enumerate(zip(pairs, pairs, strict=True)):
            if type(key) is str and not kinds:
                last[key] = value
                continue
            if type(key) is Cut:
                if not self._cuts:
                    raise OverBudgetError
                if type(value) is not Cut:
                    rest += 1
                elif value.text:
                    last[REST] = value
                else:
                    rest += value.count or 1
                continue
            left = self._nodes_left, self._bytes_left
            try:
                text, kind = self._key(key, depth)
                self._leave_room(len(last) + 1)
            except OverBudgetError:
                if not self._cuts:
                    raise
                self._nodes_left, self._bytes_left = left
                count = done
                break
            if text in last and kinds.get(text, "str") != kind:
                text = f"{text} ({kind})"
            elif kind != "str":
                kinds[text] = kind
            last[text] = value
        return last, rest + _pairs_left(flat, count)

    def _most_pairs(self, flat: Sequence[Node]) -> int:
        """Return the number of the pairs, or of those for which there may be room."""
        count = len(flat) // 2
        return min(count, max(0, self._nodes_left // _CUT_KEY_NODES)) if self._cuts else count

    def _leave_room(self, count: int) -> None:
        """Raise OverBudgetError if a Reader that cuts has no room for so many values."""
        if self._cuts and self._nodes_left < count:
            raise OverBudgetError

    def _key(self, key: Node, depth: int) -> tuple[str, str]:
        """Return a key's text and the kind of value that it is."""
        if type(key) is str:
            return key, "str"
        kind = _KINDS.get(type(key), type(key).__name__.lower())
        if type(key) is OctetText:
            self.charge_nodes(_OCTET_KEY_NODES)
            return self.text(key.text()), kind
        self.charge_nodes(_KEY_NODES if type(key) is int else _ODD_KEY_NODES)
        value = self.plain(key, depth + 1)
        if isinstance(value, str):
            return value, kind
        if type(key) is Tuple:
            return self.text(f"({self.literal(value)[1:-1]})"), kind
        if type(key) is Symbol:
            return self.text(key.path), kind
        if isinstance(value, dict) and value.keys() == {"__class__", "args"}:
            return self.text(f"{value['__class__']}({self.literal(value['args'])[1:-1]})"), kind
        return self.literal(value), kind

    def literal(self, value: Plain) -> str:
        """Return a plain value as Python would write it; charge it piece by piece."""
        self.charge_nodes(_LITERAL_NODES)
        if isinstance(value, list):
            return f"[{', '.join([self.literal(item) for item in value])}]"
        if isinstance(value, dict):
            items = [f"{self.literal(key)}: {self.literal(item)}" for key, item in value.items()]
            return f"{{{', '.join(items)}}}"
        return self.text(repr(value))

    def _object(self, node: Object, depth: int) -> Plain:
        """Return the usual form of a type that is known, else its class, arguments, state and items as data."""
        callee = node.callee
        if type(callee) is Symbol:
            known = KNOWN.get((callee.module, callee.name))
            if known is not None:
                text = self._known.get(id(node))
                if text is not None:
                    return self.text(text)
                self.charge_nodes(_KNOWN_NODES)
                value = known(self, node, depth)
                if isinstance(value, str):
                    self._known[id(node)] = value
                if value is not None:
                    return value
            else:
                value = read_unknown(self, node, depth)
                if value is not None:
                    return value
        return self.opaque(node, depth)

    def opaque(self, node: Object, depth: int) -> dict[str, Plain]:
        """Return an object as data. The result of calling another object has that object as its first argument."""
        args = node.args
        if self._cuts:
            self.charge(_OBJECT_BYTES)
        result: dict[str, Plain] = {"__class__": self.text(node.path)}
        if type(node.callee) is Object:
            self.charge_nodes(len(args))
            args = [node.callee, *args]
        if args:
            result["args"] = self.sequence(args, depth + 1)
        if node.kwargs is not None and node.kwargs.flat:
            result["kwargs"] = self.mapping(node.kwargs.flat, depth + 1)
        if node.has_state:
            state = self._state(node.state, depth + 1)
            if state not in (None, {}, []):
                result["state"] = state
        items: Plain = self.sequence(node.items, depth + 1)
        if node.flat:
            pairs = self.mapping(node.flat, depth + 1)
            items = [*items, pairs] if isinstance(items, list) and items else pairs
        if items:
            result["items"] = items
        return result

    def _state(self, state: Node, depth: int) -> Plain:
        """Return an object's state; the pair of a class with __slots__ as one dict."""
        if type(state) is Tuple and len(state.items) == 2:
            attributes, slots = state.items
            if type(slots) is Dict and (attributes is None or type(attributes) is Dict):
                self.charge_nodes(len(slots.flat) + len(attributes.flat if attributes else ()))
                return self.public([*(attributes.flat if attributes else ()), *slots.flat], depth)
        if type(state) is Dict:
            # As plain() counts and marks it.
            self.charge_nodes(_CONTAINERS[Dict])
            if depth >= self._depth:
                return self._cut(_TOO_DEEP)
            if id(state) in self._path:
                return CYCLE
            self._path.add(id(state))
            try:
                return self.public(state.flat, depth)
            finally:
                self._path.discard(id(state))
        return self.plain(state, depth)


def _is_own(key: Node) -> bool:
    """Return whether an attribute's name is one of a LogRecord's own."""
    return key in _OWN_NAMES if type(key) is str else type(key) is OctetText and key in OWN_NAMES


def _pairs_left(flat: Sequence[Node], done: int) -> int:
    """Return the number of pairs behind the first ones, with those that were left out of the pickle before."""
    left = len(flat) // 2 - done
    if left and type(flat[-2]) is Cut and type(flat[-1]) is Cut:
        left += max(0, flat[-1].count - 1)
    elif left:
        left += _counted_before(flat[-2], flat[-1])
    return left


def _counted_before(key: Node, value: Node) -> int:
    """Return the number of other values for which a pair stands that our handler has put at the end of a cut value."""
    is_rest = type(key) is str and key == REST and type(value) is int and 0 < value < _SMALL
    return value - 1 if is_rest else 0


def _length(node: Node) -> int:
    """Return the number of items of a container."""
    if type(node) is list:
        return len(node)
    if type(node) is Dict:
        return len(node.flat)
    return len(node.items) + (len(node.flat) + len(node.args) if type(node) is Object else 0)


def _bytes_of(text: str) -> int:
    """Return an upper limit of the bytes of JSON for a text."""
    if text.isascii() and not text.encode().translate(None, _PLAIN_OCTETS):
        return len(text) + _QUOTED_BYTES
    # Beyond ASCII, an escape takes at most twice the bytes of UTF-8.
    return _ESCAPE_BYTES * len(text) + _QUOTED_BYTES
