"""Tells by its form alone what an object of an unknown class is: a subclass of a builtin type, a datetime, a model.

Owns these forms. The object stays data if it has none of them. Does not know the names of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.known_libraries import state_of
from prefork_logd.inputs.pickles.known_times import unknown_class
from prefork_logd.inputs.pickles.symbols import Dict, Object, OctetText

if TYPE_CHECKING:
    from prefork_logd.inputs.pickles.reader import ValueReader
    from prefork_logd.records.values import Plain

_BASES = {
    "str": (str, OctetText),
    "int": (int,),
    "float": (float,),
    "list": (list,),
    "dict": (Dict,),
    "new": (str, OctetText, int, float, bytes),
}
"""Types that the argument of a subclass of a builtin has (symbols.Object.base)."""


def read_unknown(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Return an object as its base, or as what its form says it is; None if neither."""
    args = node.args
    if node.kwargs is not None and node.kwargs.flat:
        return None
    if not args:
        if node.items and not node.flat:
            return reader.sequence(node.items, depth)
        if node.flat and not node.items:
            return reader.mapping(node.flat, depth)
        return _read_fields(reader, node, depth)
    is_base = len(args) == 1 and not (node.items or node.flat) and type(args[0]) in _BASES.get(node.base, ())
    return reader.plain(args[0], depth) if is_base else unknown_class(reader, node, depth)


def _read_fields(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Return the public fields of an object whose state tells that it is a model of pydantic or SQLAlchemy.

    None for any other object.
    """
    flat = node.state.flat if type(node.state) is Dict and not (node.args or node.items or node.flat) else []
    reader.charge_nodes(len(flat) // 2)
    names = {key for key in flat[::2] if type(key) is str and key[:1] == "_"}
    if "_sa_instance_state" in names:
        return reader.public(flat, depth)
    if "__dict__" in names and not names.isdisjoint({"__pydantic_fields_set__", "__fields_set__"}):
        fields, extra = state_of(reader, node, "__dict__"), state_of(reader, node, "__pydantic_extra__")
        if type(fields) is Dict:
            reader.charge_nodes(len(fields.flat) + (len(extra.flat) if type(extra) is Dict else 0))
            return reader.public([*fields.flat, *(extra.flat if type(extra) is Dict else [])], depth)
    return None
