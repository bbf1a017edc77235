# Reads a dict, list or usual object among a record's further attributes by its shape, without building it.
#
# Owns the shapes: the octets of a value that do not differ between records, and the JSON between the texts and numbers
# in it. A service fills the same form in each record, as a request with its method, path and headers. The opcodes of a
# pickle decide which dicts and lists it builds. Texts and numbers only fill places in them. So if all other octets of two
# values are equal, their JSON differs in these texts and numbers alone.
#
# A shape is learned from a value that was read and written in the usual way (nested.pxi, values.pxi), and kept only if
# the same JSON is written by it. It may refer to its own keys and names, as a list of dicts does, and to nothing else:
# a list that is referred to could grow later, and its values would stand in another order in the JSON than in the pickle.
# Its values are not in the memo. A record that refers to them later is read again, key by key.

cdef enum:
    REAL_STEP = 8            # BINFLOAT; the kinds below 8 are those of layouts (repeats.pxi)
    DECIMAL_STEP = 9         # the text of a Decimal
    DATETIME_STEP = 10       # the ten octets of a datetime, as Latin-1
    UUID_STEP = 11           # the number of a UUID: LONG
    SHAPE_BUCKETS = 64
    SHAPE_WAYS = 4           # places in a bucket, which is that of a key
    SHAPE_FRAME = 1 << 16    # octets of the largest frame with values that are read so: each reserves room for all texts of the frame
    SHAPE_PATIENCE = 8       # shapes in a row that may be learned and not used: then one of so many values is learned
    SHAPE_STEPS = 24
    SHAPE_BYTES = 512        # octets that do not differ
    SHAPE_JSON = 512
    SHAPE_DEPTH = 8
    SHAPE_WASTE = 256        # octets of texts that may be written in vain before no other shape is tried
    SHAPE_VALUE = 4096       # octets of the longest value that one is learned from
    SHAPE_ROOM = SHAPE_JSON + SHAPE_STEPS * 48 + 2 * SLACK  # octets of JSON beside the texts
    UUID_DIGITS = 39

cdef struct Shape:
    uint32_t key             # number of the attribute's name (flat.pxi); 0: the place is empty
    uint32_t memo_start      # the memo's size before it
    uint32_t secrets         # number of the Secrets that found none of its keys secret
    uint32_t credit          # how many new ones it outlasts
    uint32_t unfit           # number of records that it is not used for
    uint32_t memo_count      # values that it puts into the memo
    uint32_t count           # number of steps
    uint32_t needed          # octets that must be there before the first value is read
    uint32_t rest            # octets behind the last value
    uint32_t json_rest       # octets of JSON behind the last value
    uint32_t nodes           # its part of the budget on values
    long text                # its part of the budget on text, but for its texts
    long opcodes
    long containers
    long lines
    Step[SHAPE_STEPS] steps
    uint32_t[SHAPE_STEPS] json_sizes      # octets of JSON before each value
    uint8_t[SHAPE_BYTES] octets           # that do not differ, end to end
    uint8_t[SHAPE_JSON + SLACK] json      # the same of the JSON

cdef struct Sketch:
    # A shape that is being learned.
    Shape* shape
    Out* json
    const uint8_t* data
    size_t at                # of the next opcode
    size_t end               # of the value
    size_t fixed             # beginning of the octets that are not kept yet
    size_t used              # octets that are kept
    size_t json_used
    size_t memo_start
    size_t memo              # number of the next value
    uint8_t before           # the opcode before the next one; 0: it belongs to a step
    bint[256] is_fixed       # whether the value with this number is a text or a name that does not differ

cdef struct Moment:
    # What the machine had left before a value.
    size_t at
    size_t memo
    long opcodes
    long containers
    long lines

cdef Shape[SHAPE_BUCKETS][SHAPE_WAYS] SHAPE
cdef uint32_t[SHAPE_BUCKETS] SHAPES_UNUSED   # how many values were learned, or could have been, since one was used
cdef Out SHAPE_OUT
SHAPE_OUT.data = NULL
SHAPE_OUT.size = SHAPE_OUT.room = 0
cdef uint64_t shapes_used = 0
cdef uint8_t[256] PART_BYTES    # octets of an opcode with its argument; 0: they differ, or a shape has no such opcode
for _opcode, _size in zip(b"}](uesaNt)\x85\x86\x87\x88\x89RbqhKMJG", b"\1" * 17 + b"\2\2\2\3\5\x09", strict=True):
    PART_BYTES[_opcode] = _size


cdef bint read_further(Machine* m, Fields* fields, uint32_t key) noexcept nogil:
    """Read a value that is no scalar, as `read_value` does, or by its shape. `key`: its name's number; 0: by no shape."""
    global shapes_used
    cdef size_t bucket = (key * 5 + m.memory.memo_end) % SHAPE_BUCKETS
    cdef Shape* first = SHAPE[bucket]
    cdef Shape* shape
    cdef Moment before
    cdef size_t wasted = 0
    cdef int way
    if not key or m.secrets.forms or m.size > SHAPE_FRAME:
        return read_value(m)
    # Behind an empty dict it may be the only member of that (join_member), which has to be built.
    if fields.extras_count and is_open(m, fields.extras[fields.extras_count - 1], DICT):
        return read_value(m)
    for way in range(SHAPE_WAYS):
        shape = first + way
        if shape.key != key or shape.memo_start != m.memory.memo_end or shape.secrets != m.secrets.number:
            continue
        if shape.unfit:
            shape.unfit -= 1
            return read_value(m)
        if read_by_shape(m, shape, &wasted):
            shape.credit = MOST_CREDIT
            fields.unfit = &shape.unfit
            SHAPES_UNUSED[bucket] = 0
            shapes_used += 1
            return True
        if wasted > SHAPE_WASTE:
            # A client could have long texts written once for each shape that has them, in vain.
            break
    before.at, before.memo = m.at, m.memory.memo_end
    before.opcodes, before.containers, before.lines = m.opcodes, m.containers_left, m.lines_left
    if not read_value(m):
        return False
    SHAPES_UNUSED[bucket] += 1
    if SHAPES_UNUSED[bucket] > SHAPE_PATIENCE and SHAPES_UNUSED[bucket] % SHAPE_PATIENCE:
        return True
    shape = place_for_shape(first)
    if shape != NULL:
        shape.key = key if learn_shape(m, shape, &before) else 0
    return True


cdef Shape* place_for_shape(Shape* first) noexcept nogil:
    """Return an empty one of the places, or that of a shape without credit; NULL: each has some, and one less now."""
    cdef Shape* found = NULL
    cdef int way
    for way in range(SHAPE_WAYS):
        if first[way].key == 0:
            return first + way
        if first[way].credit == 0:
            found = first + way
    if found == NULL:
        for way in range(SHAPE_WAYS):
            first[way].credit -= 1
    return found


cdef bint read_by_shape(Machine* m, const Shape* shape, size_t* wasted) noexcept nogil:
    """Read a value that may have this shape; return whether it has.

    If it has not, nothing has changed, and the octets of texts that were written are added to `wasted`.
    """
    cdef size_t start = m.written.size
    cdef long text = shape.text
    cdef size_t end = write_by_shape(m, shape, &text)
    if (
        not end or m.lines_left < shape.lines or m.containers_left < shape.containers
        or m.opcodes + shape.opcodes >= MAX_OPCODES
    ):
        m.written.size = start
        wasted[0] += text - shape.text
        return False
    write_words(
        m.memory.stack + m.top, WRITTEN | <uint64_t> shape.nodes << 16 | <uint64_t> (m.written.size - start) << 32,
        start | <uint64_t> text << 32,
    )
    m.top += 1
    m.at = end
    m.opcodes += shape.opcodes
    m.lines_left -= shape.lines
    m.containers_left -= shape.containers
    pass_memo(m, shape.memo_count)
    return True


cdef size_t write_by_shape(Machine* m, const Shape* shape, long* cost) noexcept nogil:
    """Write the JSON of the value that comes, if it has this shape, and return the value's end; else return 0.

    The octets of its texts are added to `cost`. After a failure the caller cuts off what was written.
    """
    cdef Out* out = &m.written
    cdef const uint8_t* at = m.data + m.at
    cdef const uint8_t* end = m.data + m.size
    cdef const uint8_t* octets = shape.octets
    cdef const uint8_t* json = shape.json
    cdef const Step* step = &shape.steps[0]
    cdef const uint32_t* json_size = &shape.json_sizes[0]
    cdef const Step* last = step + shape.count
    cdef uint8_t* to
    cdef uint32_t size, number
    cdef uint64_t value = 0
    cdef double real
    cdef int look
    if end - at < <ptrdiff_t> shape.needed or not reserve(out, SHAPE_ROOM + <size_t> (end - at)):
        return 0
    to = out.data + out.size
    while step < last:
        size = step.fixed
        if not same_run(at, octets, size):
            return 0
        at += size
        octets += size
        copy_run(to, json, json_size[0])
        to += json_size[0]
        json += json_size[0]
        json_size += 1
        # As in read_by_layout, there are octets enough for the beginning of a value.
        memcpy(&number, at, 4)
        if step.kind == TEXT_STEP or step.kind == SHORT_STEP:
            size = number
            at += 4
            if step.kind == SHORT_STEP:
                size = number & 0xFF
                at -= 3
            if end - at < <ptrdiff_t> (<uint64_t> size + step.needed):
                return 0
            if end - at >= <ptrdiff_t> (<uint64_t> size + SLACK) and is_plain_run(at, size):
                to[0] = 34
                copy_run(to + 1, at, size)
                to += size + 2
                (to - 1)[0] = 34
            else:
                look = look_at(at, size)
                out.size = to - out.data
                if look & INVALID or not put_string(out, at, size, look, False):
                    return 0
                if not reserve(out, SHAPE_ROOM + <size_t> (end - at)):
                    return 0
                to = out.data + out.size
            at += size
            cost[0] += size
        elif step.kind == NUMBER_STEP:
            size = NUMBER_BYTES[at[0]]
            to = spell_integer(to, number_at(at, end))
            at += size
            if not size or end - at < <ptrdiff_t> step.needed:
                return 0
        elif step.kind == REAL_STEP:
            if end - at < <ptrdiff_t> (8 + step.needed):
                return 0
            value = __builtin_bswap64(load8(at))
            memcpy(&real, &value, 8)
            if not isfinite(real):
                return 0
            to = spell_float(to, real, True)
            at += 8
        elif step.kind == LONG_STEP:
            size = number & 0xFF
            if not 1 <= size <= 8 or end - at < 9 or end - at < <ptrdiff_t> (1 + size + step.needed):
                return 0
            to = spell_integer(to, signed_octets(at + 1, size))
            at += 1 + size
        elif step.kind == LINE_STEP:
            # I00 and I01 are no numbers.
            if end - at < NUMBER_LINE or (at[0] == 48 and (octets - 1)[0] == 0x49):
                return 0
            size = <uint32_t> read_number_line(at, &value)
            to = spell_integer(to, <int64_t> value)
            at += size
            if not size or end - at < <ptrdiff_t> step.needed:
                return 0
        else:
            at = spell_object(step, at, end, &to, cost)
            if at == NULL:
                return 0
        step += 1
    if not same_run(at, octets, shape.rest):
        return 0
    at += shape.rest
    # What must follow a value that read_value has read.
    if not ends_value(at[0]):
        return 0
    copy_run(to, json, shape.json_rest)
    out.size = to + shape.json_rest - out.data
    return at - m.data


cdef const uint8_t* spell_object(
    const Step* step, const uint8_t* at, const uint8_t* end, uint8_t** to, long* cost
) noexcept nogil:
    """Write the usual text of an object as known.pxi does; return the end of its value, or NULL for an unusual one."""
    cdef uint8_t[16] octets
    cdef uint8_t* there = to[0] + 1
    cdef uint32_t size = 0
    if step.kind == UUID_STEP:
        while size <= UUID_DIGITS and end - at > <ptrdiff_t> size and 48 <= at[size] <= 57:
            size += 1
        if end - at < <ptrdiff_t> (<uint64_t> size + 2 + step.needed) or at[size] != 76 or at[size + 1] != 10:
            return NULL
        if not size or not read_128_bits(at, size, octets):
            return NULL
        there = spell_uuid(there, octets)
        at += size + 2
    else:
        memcpy(&size, at, 4)
        at += 4
        if end - at < <ptrdiff_t> (<uint64_t> size + step.needed):
            return NULL
        cost[0] += size
        if step.kind == DECIMAL_STEP:
            if not is_decimal(at, size):
                return NULL
            # Its size is below that of the frame, for which there is room.
            copy_octets(there, at, size)
            there += size
        else:
            if not from_latin_1(at, size, octets, 10):
                return NULL
            there = spell_stamp(there, octets)
            if there == NULL:
                return NULL
        at += size
    to[0][0] = 34
    there[0] = 34
    to[0] = there + 1
    return at


cdef inline bint from_latin_1(const uint8_t* text, size_t size, uint8_t* octets, size_t wanted) noexcept nogil:
    """Set octets that were sent as a text in UTF-8, each as the character of its number; return whether they are so many."""
    cdef size_t at = 0, count = 0
    cdef uint8_t octet
    while at < size and count < wanted:
        octet = text[at]
        at += 1
        if octet >= 0x80:
            if not 0xC2 <= octet <= 0xC3 or at == size or text[at] & 0xC0 != 0x80:
                return False
            octet = (octet & 3) << 6 | (text[at] & 0x3F)
            at += 1
        octets[count] = octet
        count += 1
    return at == size and count == wanted


cdef bint learn_shape(Machine* m, Shape* shape, const Moment* before) noexcept nogil:
    """Make a shape for the value that was read last; return whether it can be kept."""
    cdef Sketch sketch
    cdef Node* node = m.memory.stack + m.top - 1
    cdef size_t end = m.at, start = m.written.size, found
    cdef long nodes_left = m.nodes_left, text_left = m.text_left, texts = 0
    cdef size_t output_end = m.output_end
    cdef bint done, is_left = m.is_left
    # The members of a dict of this name are attributes of their own (unfold).
    if m.at - before.at > SHAPE_VALUE or says(node - 1, b"extra"):
        return False
    sketch.shape = shape
    sketch.json = &SHAPE_OUT
    sketch.data = m.data
    sketch.at = sketch.fixed = before.at
    sketch.end = end
    sketch.used = sketch.json_used = SHAPE_OUT.size = 0
    sketch.memo_start = sketch.memo = before.memo
    sketch.before = 0
    memset(sketch.is_fixed, 0, sizeof(sketch.is_fixed))
    shape.count = shape.unfit = shape.credit = 0
    if not sketch_value(m, &sketch, node, 1) or not shape.count or not end_sketch(&sketch):
        return False
    shape.memo_start = <uint32_t> before.memo
    shape.memo_count = <uint32_t> (sketch.memo - before.memo)
    if sketch.memo != m.memory.memo_end or sketch.memo > 256:
        return False
    shape.secrets = m.secrets.number
    shape.opcodes = m.opcodes - before.opcodes
    shape.containers = before.containers - m.containers_left
    shape.lines = before.lines - m.lines_left
    # The budgets, and the JSON to compare with.
    SHAPE_OUT.size = 0
    m.nodes_left = m.text_left = 1 << 30
    m.output_end = SIZE_MAX
    m.is_left = True  # what Python has to make has no shape: it would be charged by other rules than the shape's
    done = put_any_value(m, &SHAPE_OUT, node, 1)
    m.is_left = is_left
    shape.nodes = <uint32_t> ((1 << 30) - 1 - m.nodes_left)
    shape.text = (1 << 30) - m.text_left
    m.nodes_left, m.text_left, m.output_end = nodes_left, text_left, output_end
    if not done or shape.nodes > 0xFFFF:
        return False
    m.at = before.at
    found = write_by_shape(m, shape, &texts)
    m.at = end
    done = (
        found == end and m.written.size - start == SHAPE_OUT.size and texts <= shape.text
        and memcmp(m.written.data + start, SHAPE_OUT.data, SHAPE_OUT.size) == 0
    )
    m.written.size = start
    shape.text -= texts
    return done


cdef bint sketch_value(Machine* m, Sketch* sketch, const Node* node, int depth) noexcept nogil:
    """Add a value to a shape: a step, or the JSON of a container with the steps in it."""
    cdef Box* box
    if node.kind == TEXT:
        return add_step(sketch, TEXT_STEP, node.value.text)
    if node.kind == INT:
        return add_step(sketch, NUMBER_STEP, NULL)
    if node.kind == FLOAT:
        return add_step(sketch, REAL_STEP, NULL)
    if node.kind == NONE:
        return put_literal(sketch.json, b"null")
    if node.kind == BOOL:
        return put_literal(sketch.json, b"true" if node.value.integer else b"false")
    if node.kind < LIST or node.kind >= SYMBOL or depth > SHAPE_DEPTH:
        return node.kind == OBJECT and sketch_object(m, sketch, m.memory.boxes + node.value.box)
    box = m.memory.boxes + node.value.box
    if node.kind == DICT:
        return sketch_mapping(m, sketch, &box.flat, depth)
    return node.kind != SET and sketch_sequence(m, sketch, &box.items, depth)


cdef bint sketch_sequence(Machine* m, Sketch* sketch, Chain* items, int depth) noexcept nogil:
    cdef Walk walk
    cdef Node* node
    cdef bint is_first = True
    if not put_byte(sketch.json, 91):
        return False
    start_walk(&m.memory, items, &walk)
    node = step(&m.memory, &walk)
    # Pairs may be names and values, of which the values decide whether they are secrets (holds_secret_pair).
    if node != NULL and (node.kind == LIST or node.kind == TUPLE):
        return False
    while node != NULL:
        if not is_first and not put_byte(sketch.json, 44):
            return False
        is_first = False
        if not sketch_value(m, sketch, node, depth + 1):
            return False
        node = step(&m.memory, &walk)
    return put_byte(sketch.json, 93)


cdef bint sketch_mapping(Machine* m, Sketch* sketch, Chain* flat, int depth) noexcept nogil:
    cdef Walk walk
    cdef Node* key
    cdef Node* keys[COMPARED]
    cdef size_t count = 0
    cdef bint has_value = False, has_name = False
    if not put_byte(sketch.json, 123):
        return False
    start_walk(&m.memory, flat, &walk)
    key = step(&m.memory, &walk)
    while key != NULL:
        if count == COMPARED or key.kind != TEXT or key.look != PLAIN or is_secret(m.secrets, key) != 0:
            return False
        has_value = has_value or is_value_key(key.value.text, key.size)
        has_name = has_name or is_name_key(key.value.text, key.size)
        keys[count] = key
        count += 1
        if not put_name(sketch.json, key, count > 1) or not sketch_value(m, sketch, step(&m.memory, &walk), depth + 1):
            return False
        key = step(&m.memory, &walk)
    return are_distinct(m, keys, count) and not (has_value and has_name) and put_byte(sketch.json, 125)


cdef bint sketch_object(Machine* m, Sketch* sketch, Box* box) noexcept nogil:
    cdef Node* given[2]
    cdef size_t count = arguments(m, &box.args, given, 2)
    cdef int known
    if box.module.kind != SYMBOL:
        return False
    known = m.memory.boxes[box.module.value.box].known
    if known == UNIVERSAL_ID and box.state.kind == DICT:
        count = arguments(m, &m.memory.boxes[box.state.value.box].flat, given, 2)
        if count != 2 or m.memory.boxes[box.state.value.box].flat.count != 2:
            return False
        return given[1].kind == BIG and not given[1].look and add_step(sketch, UUID_STEP, given[1].value.text)
    if count != 1 or not is_bare(box):
        return False
    if known == DECIMAL:
        return given[0].kind == TEXT and add_step(sketch, DECIMAL_STEP, given[0].value.text)
    if known != DATETIME or known_callee(m, given[0]) != ENCODE:
        return False
    count = arguments(m, &m.memory.boxes[given[0].value.box].args, given, 2)
    return count == 2 and given[0].kind == TEXT and add_step(sketch, DATETIME_STEP, given[0].value.text)


cdef bint add_step(Sketch* sketch, int kind, const uint8_t* text) noexcept nogil:
    """Add a value to a shape: the text at `text`, or the next number if that is NULL."""
    cdef Shape* shape = sketch.shape
    cdef Step* step = &shape.steps[shape.count]
    cdef size_t start
    cdef uint8_t opcode
    if shape.count == SHAPE_STEPS or not find_part(sketch, text):
        return False
    opcode = sketch.data[sketch.at]
    if (kind == REAL_STEP) != (opcode == 0x47) or (kind == UUID_STEP and opcode != 0x4C):
        return False
    if kind == NUMBER_STEP and (opcode == 0x4C or opcode == 0x49):
        kind = LINE_STEP
    elif kind == NUMBER_STEP and opcode == 0x8A:  # LONG1
        kind = LONG_STEP
    elif opcode == 0x8C:  # SHORT_BINUNICODE
        if kind != TEXT_STEP:
            return False
        kind = SHORT_STEP
    start = sketch.at + (kind != NUMBER_STEP)
    if not keep_octets(sketch, start):
        return False
    step.fixed = <uint32_t> (start - sketch.fixed)
    step.kind = kind
    step.slot = 0
    shape.json_sizes[shape.count] = <uint32_t> (sketch.json.size - sketch.json_used)
    sketch.json_used = sketch.json.size
    shape.count += 1
    sketch.at += part_size(sketch.data + sketch.at, sketch.end - sketch.at)
    sketch.fixed = sketch.at
    sketch.before = 0
    return True


cdef bint end_sketch(Sketch* sketch) noexcept nogil:
    """Add what follows the last value of a shape."""
    cdef Shape* shape = sketch.shape
    # No text begins there.
    if find_part(sketch, sketch.data) or sketch.at != sketch.end or not keep_octets(sketch, sketch.end):
        return False
    if sketch.json.size > SHAPE_JSON:
        return False
    shape.rest = <uint32_t> (sketch.end - sketch.fixed)
    shape.json_rest = <uint32_t> (sketch.json.size - sketch.json_used)
    memcpy(shape.json, sketch.json.data, sketch.json.size)
    shape.needed = settle_needs(shape.steps, shape.count, shape.rest)
    return True


cdef bint keep_octets(Sketch* sketch, size_t end) noexcept nogil:
    """Keep the octets between the last value and `end`, which do not differ."""
    cdef size_t size = end - sketch.fixed
    if sketch.used + size > SHAPE_BYTES:
        return False
    memcpy(sketch.shape.octets + sketch.used, sketch.data + sketch.fixed, size)
    sketch.used += size
    return True


cdef bint find_part(Sketch* sketch, const uint8_t* text) noexcept nogil:
    """Pass over opcodes up to the one with the text or the digits at `text`, or the next number if that is NULL.

    Return whether there is one, and no number before it that belongs to no step.
    """
    cdef uint8_t opcode
    cdef size_t size
    cdef const uint8_t* part
    while sketch.at < sketch.end:
        part = sketch.data + sketch.at
        size = part_size(part, sketch.end - sketch.at)
        if not size:
            return False
        opcode = part[0]
        if opcode == 0x71:  # BINPUT
            if part[1] != sketch.memo:
                return False
            sketch.is_fixed[part[1]] = sketch.before == 0x58 or sketch.before == 0x8C or sketch.before == 0x63
            sketch.memo += 1
        elif opcode == 0x68:  # BINGET
            if not sketch.memo_start <= part[1] < sketch.memo or not sketch.is_fixed[part[1]]:
                return False
        elif opcode == 0x58:  # BINUNICODE
            if part + 5 == text:
                return True
        elif opcode == 0x8C:  # SHORT_BINUNICODE
            if part + 2 == text:
                return True
        elif (
            NUMBER_BYTES[opcode] or opcode == 0x47 or opcode == 0x4C or opcode == 0x8A
            or (opcode == 0x49 and not is_bool_line(part, size))
        ):
            return text == NULL or part + 1 == text
        sketch.before = opcode
        sketch.at += size
    return False


cdef inline bint is_bool_line(const uint8_t* part, size_t size) noexcept nogil:
    """Tell whether an INT is False or True, as `I00` and `I01`. `I0` and `I007` are numbers."""
    return size == 4 and part[1] == 48 and (part[2] == 48 or part[2] == 49)


cdef inline size_t part_size(const uint8_t* part, size_t left) noexcept nogil:
    """Return the octets of an opcode with its argument; 0 if they are not there, or it is none that a shape may have."""
    cdef size_t size = PART_BYTES[part[0]]
    cdef uint32_t length
    cdef const uint8_t* end
    cdef int lines = 2 if part[0] == 0x63 else 1
    if size:
        return size if size <= left else 0
    if part[0] == 0x58:  # BINUNICODE
        if left < 5:
            return 0
        memcpy(&length, part + 1, 4)
        return 5 + <size_t> length if length <= left - 5 else 0
    if part[0] == 0x8C or part[0] == 0x8A:  # SHORT_BINUNICODE, LONG1
        return 2 + <size_t> part[1] if left >= 2 and part[1] <= left - 2 else 0
    if part[0] != 0x4C and part[0] != 0x49 and part[0] != 0x63:  # LONG, INT, GLOBAL
        return 0
    size = 1
    while lines:
        end = <const uint8_t*> memchr(part + size, 10, left - size)
        if end == NULL:
            return 0
        size = end - part + 1
        lines -= 1
    return size
