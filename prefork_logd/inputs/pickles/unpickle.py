"""Runs the opcodes of a pickle, protocols 0 to 5, on data only.

Owns the loop. The other opcodes are in opcodes.py, stack and memo in machine.py. Does not know classes.

Opcodes are described in PEP 307, PEP 3154, PEP 574 and the comments of CPython's pickletools.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles import opcodes
from prefork_logd.inputs.pickles.budget import Budget, exceeded
from prefork_logd.inputs.pickles.machine import MAX_MEMO_INDEX, Machine
from prefork_logd.inputs.pickles.opcodes import COSTS, HANDLERS, TRIMMED_HANDLERS
from prefork_logd.inputs.pickles.symbols import Node, OctetText

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DOUBLE = struct.Struct(">d")


def run(frame: bytes, budget: Budget, *, is_trimmed: bool = False) -> Node:
    """Return the value that the frame's pickle builds; it may have the opcodes of trim.py if it `is_trimmed`.

    Raises only RecordRejected, for an invalid pickle, and with the reason `budget` for one above its budget.
    """
    machine = Machine(frame, budget)
    try:
        return _run_opcodes(machine, TRIMMED_HANDLERS if is_trimmed else HANDLERS)
    except IndexError:
        if machine.position >= len(frame):
            raise RecordRejected("truncated", f"ends after {format_count(len(frame), 'byte')}, without STOP") from None
        machine.malformed("stack or memo underflow")
    except UnicodeDecodeError:
        machine.malformed("text that cannot be decoded")


def _run_opcodes(machine: Machine, handlers: Mapping[int, Callable[[Machine], None]]) -> Node:
    """Run until STOP.

    Longer than other functions: it contains the most frequent opcodes, and the rest are in a table. A record
    has some eighty opcodes, and a call for each would be half of the time.
    """
    frame, size, memo = machine.frame, len(machine.frame), machine.memo
    stack, marks = machine.stack, machine.marks
    memo_entries = machine.budget.memo_entries
    decode_text = opcodes.decode_text
    i, left = 0, machine.budget.opcodes
    try:
        while left > 0:
            left -= 1
            opcode = frame[i]
            i += 1
            if opcode == 0x71:  # BINPUT
                if len(memo) >= memo_entries:
                    raise exceeded("memo entries")
                memo[frame[i]] = stack[-1]
                i += 1
            elif opcode == 0x58:  # BINUNICODE
                start = i + 4
                i = start + int.from_bytes(frame[i:start], "little")
                if i > size:
                    machine.truncated(i)
                stack.append(decode_text(frame[start:i]))
            elif opcode == 0x8C:  # SHORT_BINUNICODE
                start = i + 1
                i = start + frame[i]
                if i > size:
                    machine.truncated(i)
                stack.append(decode_text(frame[start:i]))
            elif opcode == 0x55:  # SHORT_BINSTRING
                start = i + 1
                i = start + frame[i]
                if i > size:
                    machine.truncated(i)
                stack.append(OctetText(frame[start:i]))
            elif opcode == 0x94:  # MEMOIZE
                if len(memo) >= memo_entries:
                    raise exceeded("memo entries")
                memo[len(memo)] = stack[-1]
            elif opcode == 0x68:  # BINGET
                machine.position = i
                stack.append(machine.recall(frame[i]))
                i += 1
            elif opcode == 0x4E:  # NONE
                stack.append(None)
            elif opcode == 0x4B:  # BININT1
                stack.append(frame[i])
                i += 1
            elif opcode == 0x47:  # BINFLOAT
                if i + 8 > size:
                    machine.truncated(i + 8)
                stack.append(_DOUBLE.unpack_from(frame, i)[0])
                i += 8
            elif opcode == 0x72:  # LONG_BINPUT
                left -= 1
                index = int.from_bytes(frame[i : i + 4], "little")
                i += 4
                if i > size:
                    machine.truncated(i)
                if index >= MAX_MEMO_INDEX or len(memo) >= memo_entries:
                    raise exceeded("memo entries")
                memo[index] = stack[-1]
            elif opcode == 0x6A:  # LONG_BINGET
                left -= 1
                index = int.from_bytes(frame[i : i + 4], "little")
                i += 4
                if i > size:
                    machine.truncated(i)
                machine.position = i
                stack.append(machine.recall(index))
            elif opcode == 0x4D:  # BININT2
                left -= 1
                if i + 2 > size:
                    machine.truncated(i + 2)
                stack.append(frame[i] | frame[i + 1] << 8)
                i += 2
            elif opcode == 0x28:  # MARK
                if len(marks) > machine.budget.marks:
                    raise exceeded("nested containers")
                marks.append(stack)
                stack = []
            elif opcode == 0x2E:  # STOP
                machine.position = i
                return machine.finish(stack)
            else:
                handler = handlers.get(opcode)
                machine.position, machine.stack = i, stack
                if handler is None:
                    machine.malformed(f"unknown opcode 0x{opcode:02x}")
                left -= COSTS.get(opcode, 0)
                handler(machine)
                i, stack = machine.position, machine.stack
    finally:
        machine.position = max(machine.position, i)
    raise exceeded("opcodes")
