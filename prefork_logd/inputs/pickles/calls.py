"""Turns calls and names in a pickle into data: no class is imported, and no call is made.

Owns the opcodes of names and calls, and the few callables that only name another callable. Like the functions of
opcodes.py, each reads its operands through the machine and changes its stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.symbols import Cut, Dict, Node, Object, Symbol, Tuple
from prefork_logd.records.values import TRUNCATED

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.inputs.pickles.machine import Machine


def _name(machine: Machine, name: str) -> str:
    """Return a name; a long one is cut."""
    longest = machine.budget.name_characters
    return name if len(name) <= longest else name[:longest] + TRUNCATED


def take_symbol(machine: Machine) -> Symbol:
    """Return the Symbol of GLOBAL and INST: module and name, each on a line."""
    names = [machine.take_line(len(machine.frame)).decode("utf-8") for _ in range(2)]
    return Symbol(_name(machine, names[0]), _name(machine, names[1]))


def stack_global(machine: Machine) -> None:
    """Push the Symbol of STACK_GLOBAL, whose module and name are on the stack."""
    module, name = machine.pop_items(2)
    if Cut in (type(module), type(name)):
        machine.push(Cut())
        return
    if type(module) is not str or type(name) is not str:
        machine.malformed("STACK_GLOBAL of no names")
    machine.push_container(Symbol(_name(machine, module), _name(machine, name)))


def _call(machine: Machine, callee: Node, args: list[Node], kwargs: Dict | None = None) -> None:
    """Push the Object of a call; the few callables that only name another are replaced by that."""
    if type(callee) is Cut:
        machine.push_container(callee)
        return
    if type(callee) is Object:
        # A call's result may be called (functools.partial is pickled so); no pickler writes one more step.
        if type(callee.callee) is not Symbol:
            machine.malformed("call of a call of a call")
    elif type(callee) is not Symbol:
        machine.malformed("call of something that is not a class")
    else:
        helper = _HELPERS.get((callee.module, callee.name))
        made = helper and helper(machine, args)
        if made:
            machine.push_container(made)
            return
    machine.push_container(Object(callee, args, kwargs))


def reduce(machine: Machine) -> None:
    """Push the result of REDUCE: callee and arguments."""
    callee, args = machine.pop_items(2)
    if type(args) is Cut:
        machine.push_container(args)
        return
    if type(args) is not Tuple:
        machine.malformed("call with arguments that are not a tuple")
    _call(machine, callee, args.items)


def newobj(machine: Machine) -> None:
    """Push the result of NEWOBJ: an instance that its class makes of these arguments without more ado."""
    reduce(machine)
    made = machine.stack[-1]
    if type(made) is Object:
        made.base = "new"


def newobj_ex(machine: Machine) -> None:
    """Push the result of NEWOBJ_EX: callee, arguments and keyword arguments."""
    callee, args, kwargs = machine.pop_items(3)
    if Cut in (type(args), type(kwargs)):
        machine.push_container(Cut())
        return
    if type(args) is not Tuple or type(kwargs) is not Dict:
        machine.malformed("call with arguments that are not a tuple and a dict")
    _call(machine, callee, args.items, kwargs)


def obj(machine: Machine) -> None:
    """Push the result of OBJ: everything above a mark."""
    callee, *args = machine.pop_mark() or [None]
    _call(machine, callee, args)


def inst(machine: Machine) -> None:
    """Push the result of INST: its callee stands in the frame, its arguments are above a mark."""
    callee = take_symbol(machine)
    _call(machine, callee, machine.pop_mark())


def build(machine: Machine) -> None:
    """Give the state of BUILD to the object below it, which takes only one."""
    state = machine.stack.pop()
    target = machine.stack[-1]
    if type(target) is Cut:
        return
    if type(target) is not Object or target.has_state:
        machine.malformed("BUILD of no new object")
    target.has_state, target.state = True, state


def _read_reconstructor(_: Machine, args: list[Node]) -> Node:
    """copyreg._reconstructor(class, base, state): an instance, made from `state` if the base is a builtin type."""
    match args:
        case [Symbol() as callee, Symbol(path="object"), _]:
            return Object(callee, [])
        case [Symbol() as callee, Symbol(path="tuple"), Tuple() as fields]:  # usually a namedtuple
            return Object(callee, fields.items)
        case [Symbol() as callee, Symbol() as base, state]:
            made = Object(callee, [state])
            made.base = base.path if base.path in BASES else ""
            return made
    return None


def _read_newobj(machine: Machine, args: list[Node]) -> Node:
    """copyreg.__newobj__(class, *args). The copy is charged: one tuple may be used by any number of calls."""
    if not args or type(args[0]) is not Symbol:
        return None
    machine.containers_left -= len(args) // 4
    made = Object(args[0], args[1:])
    made.base = "new"
    return made


def _read_newobj_ex(_: Machine, args: list[Node]) -> Node:
    """copyreg.__newobj_ex__(class, args, kwargs)."""
    match args:
        case [Symbol() as callee, Tuple() as positional, Dict() as kwargs]:
            return Object(callee, positional.items, kwargs)
    return None


def _read_getattr(machine: Machine, args: list[Node]) -> Node:
    """getattr(class, name): the form of a nested name below protocol 4."""
    match args:
        case [Symbol() as owner, str() as name] if len(owner.name) + len(name) < machine.budget.name_characters:
            return Symbol(owner.module, f"{owner.name}.{name}")
    return None


BASES = frozenset({"str", "int", "float", "list", "dict"})
"""Builtin types whose subclasses are read as what they hold."""

_HELPERS: dict[tuple[str, str], Callable[[Machine, list[Node]], Node]] = {
    ("copyreg", "_reconstructor"): _read_reconstructor,
    ("copyreg", "__newobj__"): _read_newobj,
    ("copyreg", "__newobj_ex__"): _read_newobj_ex,
    ("builtins", "getattr"): _read_getattr,
}
