"""Assembles pickles opcode by opcode, which no pickler would write."""

import struct

CREATED = b"G" + struct.pack(">d", 1_795_404_245.125)


def text(value):
    """Return BINUNICODE."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def named(module, name):
    """Return GLOBAL."""
    return f"c{module}\n{name}\n".encode()


def call(callee, *args):
    """Return REDUCE of a callee with arguments, each already in opcodes."""
    return callee + b"(" + b"".join(args) + b"tR"


def record(*values, before=b""):
    """Return a record whose attributes x0, x1, ... are the given values, each already in opcodes.

    `before` runs first and is popped; it can fill the memo.
    """
    items = b"".join(text(f"x{number}") + value for number, value in enumerate(values))
    return b"".join([before, b"}(", text("msg"), text("m"), text("created"), CREATED, items, b"u."])
