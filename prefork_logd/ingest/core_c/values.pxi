# Turns the values of a pickle into JSON: inputs/pickles/values.py and the encoder in C.
#
# Owns the form of containers, keys, names and objects in a line, and the budgets on the result. Budgets are counted
# too high (bytes for characters), so that a value that passes here also passes in Python. Python decides about others.

cdef inline bint put_value(Machine* m, Out* out, const Node* node, int depth) noexcept nogil:
    """Write a value within `depth` containers. After a failure the caller cuts off the part that was written."""
    cdef uint8_t* to
    if node.kind != TEXT or node.look != PLAIN or node.size >= m.secrets.shortest:
        return put_any_value(m, out, node, depth)
    m.nodes_left -= 1
    m.text_left -= node.size
    if (m.nodes_left | m.text_left) < 0 or out.size > m.output_end or not reserve(out, <size_t> node.size + 2):
        return False
    to = out.data + out.size
    to[0] = 34
    copy_octets(to + 1, node.value.text, node.size)
    to[node.size + 1] = 34
    out.size += node.size + 2
    return True


cdef inline bint shows_form(Machine* m, const Out* out, size_t start) noexcept nogil:
    """Tell whether the text that was written from `start` on may hold a secret by its form.

    It is in JSON, but the characters of a form are never escaped there.
    """
    return may_have_form(m.secrets, out.data + start, out.size - start)


cdef bint put_any_value(Machine* m, Out* out, const Node* node, int depth) noexcept nogil:
    """Do what `put_value` does, which writes plain texts itself."""
    cdef uint8_t kind = node.kind
    cdef size_t start = out.size
    m.nodes_left -= 1
    if (m.nodes_left | m.text_left) < 0 or out.size > m.output_end:
        return False
    if kind == TEXT or kind == OCTETS:
        m.text_left -= node.size
        if may_have_form(m.secrets, node.value.text, node.size):
            return False
        return put_string(out, node.value.text, node.size, node.look, kind == OCTETS)
    if kind == INT:
        return not (m.secrets.forms & CARD and may_be_card(node.value.integer)) and put_integer(out, node.value.integer)
    if kind == NONE:
        return put(out, <const uint8_t*> b"null", 4)
    if kind == BOOL:
        return put_literal(out, b"true" if node.value.integer else b"false")
    if kind == FLOAT:
        m.nodes_left -= 1
        if isfinite(node.value.real):
            return put_float(out, node.value.real, True)
        return put_literal(out, b'"nan"' if isnan(node.value.real) else b'"inf"' if node.value.real > 0 else b'"-inf"')
    if kind == BIG:
        m.text_left -= 10 * node.size + 8 if node.look else 4 * node.size + 8
        m.nodes_left -= <long> node.size * node.size >> 12 if node.look else 1 + (12 * <long> node.size * node.size >> 18)
        return put_big(out, node)
    if kind == BYTES:
        m.text_left -= 4 * node.size
        return put_octets(out, node.value.text, node.size) and not shows_form(m, out, start)
    if kind == WRITTEN:
        m.nodes_left -= node.tag
        m.text_left -= node.value.integer >> 32
        return put(out, m.written.data + <uint32_t> node.value.integer, node.size)
    if kind == SYMBOL:
        if m.memory.boxes[node.value.box].known == MEMBER:
            m.nodes_left += 1
            return put_by_python(m, out, node, depth)
        m.nodes_left -= 3
        return put_symbol(m, out, m.memory.boxes + node.value.box)
    return put_container(m, out, node, depth)


cdef bint put_big(Out* out, const Node* node) noexcept nogil:
    if not node.look:
        return put(out, node.value.text, node.size)
    with gil:
        try:
            digits = str(int.from_bytes((<const char*> node.value.text)[:node.size], "little", signed=True)).encode()
        except (ValueError, MemoryError):
            return False
        return put(out, <const uint8_t*> <const char*> digits, len(digits))


cdef bint put_path(Machine* m, Out* out, const Box* symbol) noexcept nogil:
    """Write module and name, with a dot between, as the inside of a string; builtins without their module."""
    cdef size_t start = out.size
    m.text_left -= symbol.module.size + symbol.name.size + 1
    if not says(&symbol.module, b"builtins"):
        if not put_inside(out, symbol.module.value.text, symbol.module.size, symbol.module.look, False):
            return False
        if not put_byte(out, 46):
            return False
    if not put_inside(out, symbol.name.value.text, symbol.name.size, symbol.name.look, False):
        return False
    return not shows_form(m, out, start)


cdef bint put_symbol(Machine* m, Out* out, const Box* symbol) noexcept nogil:
    return put_literal(out, b'{"__name__":"') and put_path(m, out, symbol) and put_literal(out, b'"}')


cdef bint put_container(Machine* m, Out* out, const Node* node, int depth) noexcept nogil:
    cdef Box* box = m.memory.boxes + node.value.box
    cdef bint done
    cdef size_t start = out.size
    cdef long nodes_left = m.nodes_left, text_left = m.text_left
    if depth >= MAX_DEPTH:
        return False
    m.nodes_left -= 9 if node.kind == OBJECT else 7 if node.kind == DICT else 5
    if box.is_unfolded:
        # Whether it is within itself here, only Python knows.
        m.is_left = True
        return False
    if box.open:
        return put_literal(out, b'"<cycle>"')
    box.open = True
    if node.kind == DICT:
        done = put_mapping(m, out, &box.flat, NULL, depth, False)
    elif node.kind == OBJECT:
        done = put_object(m, out, box, depth)
    else:
        done = put_sequence(m, out, &box.items, NULL, depth)
    box.open = False
    if done or m.is_left or (m.nodes_left | m.text_left) < 0 or out.size > m.output_end:
        return done
    # Only this value is unusual: the rest of the record is rendered here.
    out.size = start
    m.nodes_left, m.text_left = nodes_left + 1, text_left
    return put_by_python(m, out, node, depth)


cdef inline bint is_secret_name(Machine* m, const uint8_t* text, size_t size) noexcept nogil:
    return size > 0 and find_verdict(m.secrets, text, size) != 0


cdef bint names_secret(Machine* m, const Node* name) noexcept nogil:
    """Tell whether a value is a text that names a secret, or may become one: bytes, a call, what is written already."""
    cdef const uint8_t* text
    if is_text(name) or name.kind == BYTES:
        return is_secret_name(m, name.value.text, name.size)
    if name.kind == WRITTEN:
        # The texts of objects, which have nothing to escape.
        text = m.written.data + <uint32_t> name.value.integer
        return text[0] == 34 and is_secret_name(m, text + 1, name.size - 2)
    if name.kind == SYMBOL:
        return m.memory.boxes[name.value.box].known == MEMBER
    return name.kind == OBJECT and call_names_secret(m, m.memory.boxes + name.value.box)


cdef bint call_names_secret(Machine* m, Box* box) noexcept nogil:
    """Tell whether a call may become a text that names a secret. If that is not known, it may."""
    cdef Node* given[1]
    cdef size_t count = box.args.count
    cdef int known
    if box.module.kind != SYMBOL:
        return False
    known = m.memory.boxes[box.module.value.box].known
    if known == SEQUENCE or known == MAPPING or known == DEFAULT_MAPPING or known == TIMEDELTA:
        return False
    if known == UNIVERSAL_ID or ((known == DATETIME or known == DATE or known == TIME) and count == 1):
        return m.secrets.has_pattern_of_digits
    if count == 0:
        return known == UNKNOWN or known == OTHER
    arguments(m, &box.args, given, 1)
    if (count == 1 or known == ENCODE) and known != EXCEPTION and known != OTHER:
        if is_text(given[0]) or given[0].kind == BYTES:
            return is_secret_name(m, given[0].value.text, given[0].size)
        return given[0].kind == OBJECT
    return True


cdef bint has_secret_name_among(Machine* m, Chain* one, Chain* other) noexcept nogil:
    """Tell whether keys and values in turn, of one or two chains, have a name that names a secret."""
    cdef Walk walk
    cdef Node* key
    cdef Node* value
    while one != NULL:
        start_walk(&m.memory, one, &walk)
        key = step(&m.memory, &walk)
        while key != NULL:
            value = step(&m.memory, &walk)
            if is_text(key) and is_name_key(key.value.text, key.size) and names_secret(m, value):
                return True
            key = step(&m.memory, &walk)
        one = other
        other = NULL
    return False


cdef bint holds_secret_pair(Machine* m, Chain* one, Chain* other) noexcept nogil:
    """Tell whether the items of one or two chains may all be pairs of a name and a value, with a name of a secret."""
    cdef Walk walk, inner
    cdef Node* node
    cdef Box* box
    cdef bint found = False
    if not m.secrets.patterns_count:
        return False
    while one != NULL:
        start_walk(&m.memory, one, &walk)
        node = step(&m.memory, &walk)
        while node != NULL:
            if node.kind < LIST or node.kind == DICT:
                return False
            box = m.memory.boxes + node.value.box
            if node.kind != OBJECT:
                if box.items.count != 2:
                    return False
                start_walk(&m.memory, &box.items, &inner)
                found = found or names_secret(m, step(&m.memory, &inner))
            elif box.module.kind != SYMBOL or not (
                box.known == BASE_LIST or m.memory.boxes[box.module.value.box].known == SEQUENCE
            ):
                return False
            else:
                found = True
            node = step(&m.memory, &walk)
        one = other
        other = NULL
    return found


cdef bint put_sequence(Machine* m, Out* out, Chain* one, Chain* other, int depth) noexcept nogil:
    """Write one or two chains as a list at `depth`."""
    cdef Walk walk
    cdef Node* node
    cdef bint first = True
    if holds_secret_pair(m, one, other) or not put_byte(out, 91):
        return False
    while one != NULL:
        start_walk(&m.memory, one, &walk)
        node = step(&m.memory, &walk)
        while node != NULL:
            if not first and not put_byte(out, 44):
                return False
            first = False
            if not put_value(m, out, node, depth + 1):
                return False
            node = step(&m.memory, &walk)
        one = other
        other = NULL
    return put_byte(out, 93)


cdef enum:
    COMPARED = 16     # up to so many keys, each is compared with all others


cdef bint are_distinct(Machine* m, Node** keys, size_t count) noexcept nogil:
    """Tell whether all keys are texts, or all are integers, and no two are equal."""
    cdef size_t index, other, slots = 64
    cdef uint32_t at
    cdef Node** table
    cdef Node* key
    cdef bint numbers = count > 0 and keys[0].kind == INT
    for index in range(count):
        key = keys[index]
        if numbers:
            if key.kind != INT:
                return False
        elif not is_text(key) or (key.kind == OCTETS and key.look & (INVALID | SURROGATES)):
            return False
    if count <= COMPARED:
        for index in range(1, count):
            for other in range(index):
                if same_key(keys[index], keys[other], numbers):
                    return False
        return True
    while slots < 2 * count:
        slots *= 2
    table = <Node**> calloc(slots, sizeof(Node*))
    if table == NULL:
        return False
    for index in range(count):
        key = keys[index]
        if numbers:
            at = hash_text(HASH_SEED, <const uint8_t*> &key.value.integer, 8)
        else:
            at = hash_text(HASH_SEED, key.value.text, key.size)
        at = (at ^ at >> 15) & (slots - 1)
        other = 0
        while table[at] != NULL:
            other += 1
            # Python handles keys that are chosen to collide.
            if other > 64 or same_key(table[at], key, numbers):
                free(table)
                return False
            at = (at + 1) & (slots - 1)
        table[at] = key
    free(table)
    return True


cdef inline bint same_key(const Node* one, const Node* other, bint numbers) noexcept nogil:
    return one.value.integer == other.value.integer if numbers else same_text(one, other)


cdef bint put_mapping(Machine* m, Out* out, Chain* one, Chain* other, int depth, bint public) noexcept nogil:
    """Write keys and values in turn, of one or two chains, as an object that is a container at `depth`.

    `public`: leave out the keys that begin with an underscore.
    """
    cdef size_t count = (one.count + (other.count if other != NULL else 0)) // 2
    cdef size_t index = 0
    cdef Node* few[COMPARED]
    cdef Node** keys = few
    cdef Chain* rest = other
    cdef Chain* chain = one
    cdef Walk walk
    cdef Node* key
    cdef bint done = False, has_value = False, has_name = False
    m.nodes_left -= 2 * count if public else count
    if count > COMPARED:
        keys = <Node**> malloc(count * sizeof(Node*))
        if keys == NULL:
            return False
    while chain != NULL:
        start_walk(&m.memory, chain, &walk)
        key = step(&m.memory, &walk)
        while key != NULL and index < count:
            if not public or not is_private(key):
                keys[index] = key
                index += 1
            step(&m.memory, &walk)
            if m.secrets.patterns_count and 3 <= key.size <= 6 and is_text(key):
                has_value = has_value or is_value_key(key.value.text, key.size)
                has_name = has_name or is_name_key(key.value.text, key.size)
            key = step(&m.memory, &walk)
        chain = rest
        rest = NULL
    # A key and its value may lie in two runs, so there is a walk for values, too.
    done = are_distinct(m, keys, index)
    if keys != few:
        free(keys)
    if not done or (has_value and has_name and has_secret_name_among(m, one, other)) or not put_byte(out, 123):
        return False
    done = False
    chain = one
    while chain != NULL:
        start_walk(&m.memory, chain, &walk)
        key = step(&m.memory, &walk)
        while key != NULL:
            if public and is_private(key):
                step(&m.memory, &walk)
                key = step(&m.memory, &walk)
                continue
            if not put_key(m, out, key, done):
                return False
            done = True
            if not put_under(m, out, key, step(&m.memory, &walk), depth + 1):
                return False
            key = step(&m.memory, &walk)
        chain = other
        other = NULL
    return put_byte(out, 125)


cdef bint put_under(Machine* m, Out* out, const Node* key, const Node* value, int depth) noexcept nogil:
    """Write the value of a key, or the replacement of a secret. The value counts against the budget in both cases."""
    cdef int secret = is_secret(m.secrets, key) if is_text(key) and not is_kept(value) else 0
    cdef size_t before = out.size
    if secret < 0 or not put_value(m, out, value, depth):
        return False
    if not secret:
        return True
    m.redacted = True
    out.size = before
    return put_literal(out, REDACTED)


cdef inline bint put_key(Machine* m, Out* out, const Node* key, bint is_next) noexcept nogil:
    """Write a key and its colon, behind a comma if it `is_next`."""
    if m.secrets.forms:
        if key.kind == INT:
            if m.secrets.forms & CARD and may_be_card(key.value.integer):
                return False
        elif may_have_form(m.secrets, key.value.text, key.size):
            return False
    if key.kind == INT:
        m.nodes_left -= 5
        m.text_left -= 40
        if is_next and not put_byte(out, 44):
            return False
        return put_byte(out, 34) and put_integer(out, key.value.integer) and put(out, <const uint8_t*> b'":', 2)
    if key.kind == OCTETS:
        m.nodes_left -= 2
    m.text_left -= 2 * key.size
    return put_name(out, key, is_next)


cdef inline bint put_name(Out* out, const Node* name, bint is_next) noexcept nogil:
    """Write a text as a member's name and its colon, behind a comma if it `is_next`."""
    cdef uint8_t* to
    if name.look != PLAIN:
        if is_next and not put_byte(out, 44):
            return False
        return put_string(out, name.value.text, name.size, name.look, name.kind == OCTETS) and put_byte(out, 58)
    if not reserve(out, <size_t> name.size + 4):
        return False
    to = out.data + out.size
    to[0] = 44
    to += is_next
    to[0] = 34
    copy_octets(to + 1, name.value.text, name.size)
    to += name.size + 1
    to[0] = 34
    to[1] = 58
    out.size = to + 2 - out.data
    return True


cdef inline bint holds_base(int base, const Node* node) noexcept nogil:
    """Tell whether an object is of a subclass of a builtin type, and its only argument is its value."""
    if base == BASE_TEXT:
        return is_text(node)
    if base == BASE_INT:
        return node.kind == INT or node.kind == BIG
    if base == BASE_FLOAT:
        return node.kind == FLOAT
    if base == BASE_LIST:
        return node.kind == LIST
    if base == BASE_DICT:
        return node.kind == DICT
    return is_text(node) or node.kind == INT or node.kind == BIG or node.kind == FLOAT or (
        node.kind == BYTES and not node.look
    )


cdef inline bint may_be_datetime(Machine* m, Box* box) noexcept nogil:
    """Tell whether an object may be of a subclass of datetime, which known_times.py decides."""
    cdef Walk walk
    cdef Node* first
    start_walk(&m.memory, &box.args, &walk)
    first = step(&m.memory, &walk)
    if first.kind == OCTETS or (first.kind == BYTES and not first.look):
        return first.size == 10
    return known_callee(m, first) == ENCODE


cdef bint tells_fields(Machine* m, Box* box) noexcept nogil:
    """Tell whether an object's state has a key by which known_libraries.py knows a model."""
    cdef Walk walk
    cdef Node* key
    if not box.has_state or box.state.kind != DICT:
        return False
    m.nodes_left -= m.memory.boxes[box.state.value.box].flat.count // 2
    start_walk(&m.memory, &m.memory.boxes[box.state.value.box].flat, &walk)
    key = step(&m.memory, &walk)
    while key != NULL:
        if is_private(key) and (says(key, b"_sa_instance_state") or says(key, b"__dict__")):
            return True
        step(&m.memory, &walk)
        key = step(&m.memory, &walk)
    return False


cdef bint put_object(Machine* m, Out* out, Box* box, int depth) noexcept nogil:
    """Write the usual form of a known type, else the class, arguments, state and items as data."""
    cdef Box* callee = m.memory.boxes + box.module.value.box
    cdef Walk walk
    cdef Node* node
    cdef size_t start = out.size
    if box.module.kind == SYMBOL:
        if callee.known == SEQUENCE or callee.known == MAPPING or callee.known == DEFAULT_MAPPING:
            return put_known(m, out, box, callee, depth)
        if callee.known >= ENCODE:
            return put_known(m, out, box, callee, depth) and not shows_form(m, out, start)
        if callee.known == OTHER:
            return False
        if not (box.has_kwargs and m.memory.boxes[box.name.value.box].flat.count):
            if box.args.count == 0 and (box.items.count == 0) != (box.flat.count == 0):
                if box.items.count:
                    return put_sequence(m, out, &box.items, NULL, depth)
                return put_mapping(m, out, &box.flat, NULL, depth, False)
            if box.args.count == 0 and box.items.count == 0 and tells_fields(m, box):
                return False
            if box.args.count == 1 and box.known and box.items.count + box.flat.count == 0:
                start_walk(&m.memory, &box.args, &walk)
                node = step(&m.memory, &walk)
                if holds_base(box.known, node):
                    if not put_value(m, out, node, depth):
                        return False
                    return node.kind >= LIST or not shows_form(m, out, start)
            if 1 <= box.args.count <= 2 and may_be_datetime(m, box):
                return False
    return put_opaque(m, out, box, callee, depth)


cdef bint put_opaque(Machine* m, Out* out, Box* box, Box* callee, int depth) noexcept nogil:
    cdef bint called = box.module.kind == OBJECT
    cdef size_t start
    cdef Walk walk
    cdef Node* node
    cdef Box* symbol = callee
    if called:
        symbol = m.memory.boxes + callee.module.value.box
    if not put_literal(out, b'{"__class__":"') or not put_path(m, out, symbol):
        return False
    if not put_literal(out, b'()"' if called else b'"'):
        return False
    if box.args.count or called:
        m.nodes_left -= box.args.count
        if (not called and holds_secret_pair(m, &box.args, NULL)) or not put_literal(out, b',"args":['):
            return False
        if called and not put_value(m, out, &box.module, depth + 2):
            return False
        start_walk(&m.memory, &box.args, &walk)
        node = step(&m.memory, &walk)
        start = 0 if called else 1
        while node != NULL:
            if not start and not put_byte(out, 44):
                return False
            start = 0
            if not put_value(m, out, node, depth + 2):
                return False
            node = step(&m.memory, &walk)
        if not put_byte(out, 93):
            return False
    if box.has_kwargs and m.memory.boxes[box.name.value.box].flat.count:
        if not put_literal(out, b',"kwargs":'):
            return False
        if not put_mapping(m, out, &m.memory.boxes[box.name.value.box].flat, NULL, depth + 1, False):
            return False
    if box.has_state and not put_state(m, out, &box.state, depth + 1):
        return False
    if box.flat.count and box.items.count:
        return False
    if box.items.count:
        if not put_literal(out, b',"items":') or not put_sequence(m, out, &box.items, NULL, depth + 1):
            return False
    elif box.flat.count:
        if not put_literal(out, b',"items":') or not put_mapping(m, out, &box.flat, NULL, depth + 1, False):
            return False
    return put_byte(out, 125)


cdef bint put_state(Machine* m, Out* out, const Node* state, int depth) noexcept nogil:
    """Write an object's state unless it is empty; of a class with __slots__ both parts as one object."""
    cdef size_t before = out.size, start
    cdef Walk walk
    cdef Node* attributes
    cdef Node* slots
    cdef Chain* first
    cdef bint is_pair = False, done
    cdef Box* box
    if state.kind == NONE:
        return True
    if not put_literal(out, b',"state":'):
        return False
    start = out.size
    if state.kind == TUPLE and m.memory.boxes[state.value.box].items.count == 2:
        start_walk(&m.memory, &m.memory.boxes[state.value.box].items, &walk)
        attributes = step(&m.memory, &walk)
        slots = step(&m.memory, &walk)
        is_pair = slots.kind == DICT and (attributes.kind == NONE or attributes.kind == DICT)
    if is_pair:
        first = &m.memory.boxes[slots.value.box].flat
        m.nodes_left -= first.count
        if attributes.kind == DICT:
            m.nodes_left -= m.memory.boxes[attributes.value.box].flat.count
            if not put_mapping(m, out, &m.memory.boxes[attributes.value.box].flat, first, depth, True):
                return False
        elif not put_mapping(m, out, first, NULL, depth, True):
            return False
    elif state.kind == DICT:
        m.nodes_left -= 8
        box = m.memory.boxes + state.value.box
        if box.is_unfolded:
            m.is_left = True
            return False
        if box.open:
            if not put_literal(out, b'"<cycle>"'):
                return False
        else:
            box.open = True
            done = depth < MAX_DEPTH and put_mapping(m, out, &box.flat, NULL, depth, True)
            box.open = False
            if not done:
                return False
    elif not put_value(m, out, state, depth):
        return False
    if out.size == start + 2 and (out.data[start] == 123 or out.data[start] == 91):
        out.size = before
    return True
