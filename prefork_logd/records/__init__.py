"""Records: a frame's pickle read as data, made a valid record, rendered as a line. Pure functions of bytes.

    decode.py    bytes -> plain values          from skim, machine + opcodes, symbols, plain, known + known_time
    record.py    plain values -> Record
    render.py    Record -> one line of JSON or text

Nothing here opens a file or a socket, reads a clock, or imports, calls or hashes what a client sent.
"""

NATIVE = False
"""Whether a compiled core does this room's work; `status` tells."""
