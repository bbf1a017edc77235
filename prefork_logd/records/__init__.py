"""Records: a frame's pickle read as data, made a valid record, rendered as a line. Pure functions of bytes.

    decode.py    bytes -> plain values, by way of skim, or machine (opcodes, symbols) and plain (known, known_time)
    record.py    plain values -> Record
    render.py    Record -> one line of JSON or text
    _core_c    bytes -> lines, for nearly every record there is, compiled; `twin` has its interface in Python

Nothing here opens a file or a socket or reads a clock, or imports or calls anything on a client's word.
"""
