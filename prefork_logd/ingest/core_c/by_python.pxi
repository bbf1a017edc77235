# Lets the Python modules render an unusual value, while the rest of its record is rendered here; and reads the pickle of a
# record that is left to them (decode.py).
#
# Owns the copy of a value into the nodes of symbols.py, and the limits of that copy. values.py makes the plain value of
# the copy, within the rest of the record's budget.

cdef enum:
    COPIED_AT_ONCE = 64     # octets of a text that count as one more node


_BASE_NAMES = {
    BASE_TEXT: "str", BASE_INT: "int", BASE_FLOAT: "float", BASE_LIST: "list", BASE_DICT: "dict", BASE_OF_NEW: "new"
}


def _give_up():
    raise OverflowError


cdef object copied_chain(Machine* m, Chain* chain, int depth):
    cdef Walk walk
    cdef Node* node
    found = []
    start_walk(&m.memory, chain, &walk)
    node = step(&m.memory, &walk)
    while node != NULL:
        found.append(copied(m, node, depth))
        node = step(&m.memory, &walk)
    return found


cdef dict COPIES = None   # in read_symbols: what was made of which box or octets


cdef object copied(Machine* m, const Node* node, int depth):
    """Return a node in the form of symbols.py. Raises OverflowError if it is too large, too deep or within itself."""
    cdef size_t origin
    if COPIES is None or (node.kind < LIST and node.kind != BYTES):
        return copied_anew(m, node, depth)
    # values.py knows what it has met by its identity. No box has the number of an address.
    origin = node.value.box if node.kind >= LIST else <size_t> node.value.text
    made = COPIES.get(origin)
    if made is None:
        made = COPIES[origin] = copied_anew(m, node, depth)
    return made


cdef object copied_anew(Machine* m, const Node* node, int depth):
    cdef uint8_t kind = node.kind
    cdef Box* box
    m.copies_left -= 1
    if TEXT <= kind <= BYTES or kind == BIG:
        m.copies_left -= node.size // COPIED_AT_ONCE
    if m.copies_left < 0 or depth > MAX_DEPTH:
        _give_up()
    if kind == TEXT:
        return decode_text((<const char*> node.value.text)[:node.size])
    if kind == INT:
        return node.value.integer
    if kind == NONE:
        return None
    if kind == BOOL:
        return node.value.integer != 0
    if kind == FLOAT:
        return node.value.real
    if kind == OCTETS:
        return symbols.OctetText((<const char*> node.value.text)[:node.size])
    if kind == BYTES:
        octets = (<const char*> node.value.text)[:node.size]
        return bytearray(octets) if node.look else octets
    if kind == BIG:
        m.copies_left -= <long> node.size * node.size >> 12
        octets = (<const char*> node.value.text)[:node.size]
        return int.from_bytes(octets, "little", signed=True) if node.look else int(octets)
    box = m.memory.boxes + node.value.box
    if kind == SYMBOL:
        return symbols.Symbol(copied(m, &box.module, depth), copied(m, &box.name, depth))
    if box.open:
        _give_up()
    box.open = True
    try:
        return copied_box(m, box, kind, depth + 1)
    finally:
        box.open = False


cdef inline bint is_asked_for(const Node* key) noexcept nogil:
    """Tell whether an attribute is copied: a public one is, and a few private ones that known.py reads."""
    if not is_private(key) or (key.size > 1 and key.value.text[1] == 95):
        return True
    return says(key, b"_offset") or says(key, b"_uri_reference") or says(key, b"_val") or says(key, b"_keys")


cdef object copied_state(Machine* m, const Node* node, int depth):
    """Return an object's attributes without private values, which may be large, or lead back to the object."""
    cdef Box* box = m.memory.boxes + node.value.box
    cdef Walk walk
    cdef Node* key
    cdef Node* value
    m.copies_left -= 1
    if box.open or m.copies_left < 0:
        _give_up()
    made = symbols.Dict()
    box.open = True
    try:
        start_walk(&m.memory, &box.flat, &walk)
        key = step(&m.memory, &walk)
        while key != NULL:
            value = step(&m.memory, &walk)
            made.flat += (copied(m, key, depth), copied(m, value, depth) if is_asked_for(key) else None)
            key = step(&m.memory, &walk)
    finally:
        box.open = False
    return made


cdef object copied_box(Machine* m, Box* box, uint8_t kind, int depth):
    if kind == LIST:
        return copied_chain(m, &box.items, depth)
    if kind == TUPLE:
        return symbols.Tuple(copied_chain(m, &box.items, depth))
    if kind == SET:
        return symbols.Set(copied_chain(m, &box.items, depth), frozen=box.hashable)
    if kind == DICT:
        made = symbols.Dict()
        made.flat = copied_chain(m, &box.flat, depth)
        return made
    made = symbols.Object(
        copied(m, &box.module, depth), copied_chain(m, &box.args, depth),
        copied(m, &box.name, depth) if box.has_kwargs else None,
    )
    made.base = _BASE_NAMES.get(box.known, "")
    if box.has_state:
        made.has_state = True
        made.state = copied_state(m, &box.state, depth) if box.state.kind == DICT else copied(m, &box.state, depth)
    if box.items.count:
        made.items = copied_chain(m, &box.items, depth)
    if box.flat.count:
        made.flat = copied_chain(m, &box.flat, depth)
    return made


cdef bint put_by_python(Machine* m, Out* out, const Node* node, int depth) noexcept nogil:
    """Write the value that values.py makes; if that fails, the whole record is left to Python."""
    cdef bint done = False
    if m.is_left:
        return False
    m.made_by_python += 1
    with gil:
        try:
            reader = values.Reader.with_rest(m.nodes_left, m.text_left)
            made = reader.plain(copied(m, node, depth), depth)
            if m.redactor != NULL and isinstance(made, (dict, list, str)):
                made, is_redacted = (<object> m.redactor).redact_value(made)
                m.redacted = m.redacted or is_redacted
            if isinstance(made, str) and made[:2] == "--" and m.secrets.forms & KEY_VALUE:
                # It may be an option of a command in a list, with a secret behind it, which is not seen here.
                _give_up()
            put_made(out, made)
            m.nodes_left, m.text_left = reader.rest
            done = True
        except Exception:
            # Any error: decode.py reads the record again, and reports it.
            m.is_left = True
    return done


cdef Machine READ
cdef size_t[MAX_MARKS] READ_MARKS
memset(&READ, 0, sizeof(Machine))
READ.marks = READ_MARKS
READ.memory.runs_size = 1


def read_symbols(bytes frame not None):
    """Do what decode._members does with unpickle.run; return None for a frame that Python has to read."""
    global COPIES
    cdef Box* box
    if <size_t> len(frame) > MOST_BYTES:
        return None
    begin_machine(&READ, <const uint8_t*> <const char*> frame, len(frame))
    if not run_machine(&READ, 0) or READ.memory.stack.kind != DICT:
        return None
    box = READ.memory.boxes + READ.memory.stack.value.box
    # A record within itself is Python's to read, as is what copied() gives up.
    box.open = True
    COPIES = {}
    try:
        return copied_chain(&READ, &box.flat, 1)
    except (OverflowError, ValueError, RecursionError):
        return None
    finally:
        COPIES = None
