# Writes the standard library's most frequent types as their usual text: known.py and known_times.py in C.
#
# Owns the types that are read here. An object with other arguments is left to Python.

cdef inline bint is_bare(const Box* box) noexcept nogil:
    return not (box.has_kwargs or box.has_state or box.items.count or box.flat.count)


cdef inline int known_callee(Machine* m, const Node* node) noexcept nogil:
    """Return the callable of an object's call: a number of Known, or UNKNOWN."""
    cdef Box* box
    if node.kind != OBJECT:
        return UNKNOWN
    box = m.memory.boxes + node.value.box
    return m.memory.boxes[box.module.value.box].known if box.module.kind == SYMBOL else UNKNOWN


cdef size_t arguments(Machine* m, Chain* chain, Node** given, size_t most) noexcept nogil:
    """Fill `given` with at most `most` nodes of a chain; return the length of the chain."""
    cdef Walk walk
    cdef size_t index
    start_walk(&m.memory, chain, &walk)
    for index in range(most):
        given[index] = step(&m.memory, &walk)
        if given[index] == NULL:
            return index
    return most


cdef bint put_known(Machine* m, Out* out, Box* box, Box* callee, int depth) noexcept nogil:
    cdef Node* given[4]
    cdef size_t count = box.args.count
    cdef int known = callee.known
    m.nodes_left -= 8
    arguments(m, &box.args, given, 4)
    if known == SEQUENCE or known == MAPPING or known == DEFAULT_MAPPING:
        return put_collection(m, out, box, known, given, depth)
    if known == EXCEPTION:
        return put_exception(m, out, box, callee)
    if known == UNIVERSAL_ID:
        return put_uuid(m, out, box)
    if not is_bare(box):
        return False
    m.text_left -= 200
    if known == ENCODE:
        return put_encoded(m, out, box)
    if known == OCTET_STRING:
        if count == 0:
            return put_literal(out, b'""')
        if count == 2:
            return put_encoded(m, out, box)
        if count != 1:
            return False
        if known_callee(m, given[0]) == ENCODE:
            return put_encoded(m, out, m.memory.boxes + given[0].value.box)
        if given[0].kind != BYTES:
            return False
        m.text_left -= 4 * given[0].size
        return put_octets(out, given[0].value.text, given[0].size)
    if known == DECIMAL:
        return count == 1 and put_decimal(out, given[0])
    if known == PATH:
        return put_joined(m, out, box)
    if known == TIMEDELTA:
        return put_timedelta(m, out, box)
    if known == DATETIME and (count == 1 or count == 2):
        return put_datetime(m, out, given[0], given[1] if count == 2 else NULL)
    if known == DATE and count == 1:
        return put_date(m, out, given[0])
    if known == TIME and count == 1:
        return put_time(m, out, given[0])
    return False


cdef bint put_collection(Machine* m, Out* out, Box* box, int known, Node** given, int depth) noexcept nogil:
    cdef Chain* first = NULL
    cdef Box* source
    if box.has_kwargs or box.has_state:
        return False
    if box.args.count and known != DEFAULT_MAPPING:
        if given[0].kind < LIST:
            return False
        source = m.memory.boxes + given[0].value.box
        if known == SEQUENCE and (given[0].kind == LIST or given[0].kind == TUPLE):
            first = &source.items
        elif known == MAPPING and given[0].kind == DICT:
            m.nodes_left -= source.flat.count
            first = &source.flat
        else:
            return False
    if known == SEQUENCE:
        if box.flat.count:
            return False
        if first == NULL:
            return put_sequence(m, out, &box.items, NULL, depth)
        return put_sequence(m, out, first, &box.items, depth)
    if box.items.count:
        return False
    if first == NULL:
        return put_mapping(m, out, &box.flat, NULL, depth, False)
    return put_mapping(m, out, first, &box.flat, depth, False)


cdef const uint8_t* decoded(Machine* m, const Box* box, size_t* size) noexcept nogil:
    """Return the octets of `_codecs.encode(text, "latin1")`, or NULL."""
    cdef Node* given[2]
    cdef uint8_t* room
    cdef size_t at = 0
    cdef uint8_t octet
    cdef const uint8_t* text
    cdef Chain chain = box.args
    if box.args.count != 2 or not is_bare(box):
        return NULL
    arguments(m, &chain, given, 2)
    if given[0].kind != TEXT or not is_text(given[1]):
        return NULL
    if not (says(given[1], b"latin1") or says(given[1], b"latin-1")):
        return NULL
    text = given[0].value.text
    room = keep_text(&m.memory, given[0].size)
    if room == NULL:
        return NULL
    size[0] = 0
    while at < given[0].size:
        octet = text[at]
        at += 1
        if octet >= 0x80:
            # U+0080 to U+00FF take two octets: the first has the two highest bits of the number.
            if octet > 0xC3 or at == given[0].size:
                return NULL
            octet = (octet & 3) << 6 | (text[at] & 0x3F)
            at += 1
        room[size[0]] = octet
        size[0] += 1
    return room


cdef bint put_encoded(Machine* m, Out* out, const Box* box) noexcept nogil:
    cdef size_t size
    cdef const uint8_t* octets = decoded(m, box, &size)
    if octets == NULL:
        return False
    m.text_left -= 6 * size
    return put_octets(out, octets, size)


cdef bint put_decimal(Out* out, const Node* node) noexcept nogil:
    """Write the text of a finite Decimal; Python writes infinities and NaN."""
    return is_text(node) and is_decimal(node.value.text, node.size) and put_string(out, node.value.text, node.size, PLAIN, False)


cdef bint is_decimal(const uint8_t* text, size_t size) noexcept nogil:
    """Tell whether a text is the usual one of a finite Decimal."""
    cdef size_t at = 0, digits = 0
    if size > 200:
        return False
    if at < size and (text[at] == 43 or text[at] == 45):
        at += 1
    while at < size and 48 <= text[at] <= 57:
        at += 1
        digits += 1
    if at < size and text[at] == 46:
        at += 1
        while at < size and 48 <= text[at] <= 57:
            at += 1
            digits += 1
    if not digits:
        return False
    if at < size and (text[at] | 32) == 101:
        at += 1
        if at < size and (text[at] == 43 or text[at] == 45):
            at += 1
        if at == size:
            return False
        while at < size and 48 <= text[at] <= 57:
            at += 1
    return at == size


cdef bint read_128_bits(const uint8_t* digits, size_t size, uint8_t* octets) noexcept nogil:
    """Read the decimal digits of protocols 0 and 1 as a little-endian number of at most 16 octets."""
    cdef uint128_t number = 0, most = ~(<uint128_t> 0)
    cdef uint64_t part = 0, power = 1
    cdef uint32_t index, digit
    if size > 39:
        return False
    for index in range(size):
        digit = digits[index] - 48  # a minus sign wraps to a large number
        if digit > 9:
            return False
        if index == 19 or index == 38:
            # 19 digits fit in 64 bits, which are multiplied faster.
            number = number * power + part
            part, power = 0, 1
        part = part * 10 + digit
        power *= 10
    # Numbers of 38 digits fit in any case. A 39th digit is alone in its part.
    if size == 39 and number > (most - part) // 10:
        return False
    number = number * power + part
    memcpy(octets, &number, 16)
    return True


cdef bint put_uuid(Machine* m, Out* out, Box* box) noexcept nogil:
    cdef Walk walk
    cdef Node* key
    cdef Node* value
    cdef Chain* flat
    cdef uint8_t[16] octets
    cdef uint8_t* to
    if box.args.count or box.has_kwargs or box.items.count or box.flat.count or not box.has_state:
        return False
    if box.state.kind != DICT:
        return False
    flat = &m.memory.boxes[box.state.value.box].flat
    if flat.count > 8:
        return False
    start_walk(&m.memory, flat, &walk)
    key = step(&m.memory, &walk)
    while key != NULL:
        value = step(&m.memory, &walk)
        if is_text(key) and says(key, b"int"):
            break
        key = step(&m.memory, &walk)
    if key == NULL:
        return False
    memset(octets, 0, 16)
    if value.kind == INT and value.value.integer >= 0:
        memcpy(octets, &value.value.integer, 8)
    elif value.kind == BIG and value.look and value.size <= 17:
        if value.size == 17 and value.value.text[16]:
            return False
        if value.size < 17 and value.value.text[value.size - 1] & 0x80:
            return False
        memcpy(octets, value.value.text, value.size if value.size < 16 else 16)
    elif value.kind != BIG or value.look or not read_128_bits(value.value.text, value.size, octets):
        return False
    m.text_left -= 36
    if not reserve(out, 38):
        return False
    to = out.data + out.size
    to[0] = 34
    spell_uuid(to + 1, octets)[0] = 34
    out.size += 38
    return True


cdef uint8_t* spell_uuid(uint8_t* to, const uint8_t* octets) noexcept nogil:
    """Write the text of a UUID, of which the lowest octet comes first; return its end."""
    cdef int index
    for index in range(16):
        if index == 4 or index == 6 or index == 8 or index == 10:
            to[0] = 45
            to += 1
        to[0] = HEX[octets[15 - index] >> 4]
        to[1] = HEX[octets[15 - index] & 15]
        to += 2
    return to


cdef bint put_exception(Machine* m, Out* out, Box* box, Box* callee) noexcept nogil:
    """Write the repr() of an exception whose arguments are simple."""
    cdef Walk walk
    cdef Node* node
    cdef bint first = True
    if not is_bare(box) or not put_byte(out, 34) or not put_path(m, out, callee) or not put_byte(out, 40):
        return False
    m.nodes_left -= 8
    start_walk(&m.memory, &box.args, &walk)
    node = step(&m.memory, &walk)
    while node != NULL:
        m.nodes_left -= 4
        if not first and not put(out, <const uint8_t*> b", ", 2):
            return False
        first = False
        if is_text(node):
            if node.look != PLAIN or memchr(node.value.text, 39, node.size) != NULL:
                return False
            m.text_left -= 2 * node.size + 4
            if not put_byte(out, 39) or not put(out, node.value.text, node.size) or not put_byte(out, 39):
                return False
        elif node.kind == INT:
            m.text_left -= 40
            if not put_integer(out, node.value.integer):
                return False
        elif node.kind == NONE:
            m.text_left -= 8
            if not put_literal(out, b"None"):
                return False
        else:
            return False
        node = step(&m.memory, &walk)
    return m.nodes_left >= 0 and put(out, <const uint8_t*> b')"', 2)


cdef bint put_joined(Machine* m, Out* out, Box* box) noexcept nogil:
    """Write a path's parts, joined as posixpath.join does."""
    cdef Walk walk
    cdef Node* node
    cdef size_t start
    if box.args.count == 0:
        return put_literal(out, b'"."')
    if box.args.count > 100 or not put_byte(out, 34):
        return False
    m.nodes_left -= 3 * <long> box.args.count
    start = out.size
    start_walk(&m.memory, &box.args, &walk)
    node = step(&m.memory, &walk)
    while node != NULL:
        if not is_text(node) or node.look != PLAIN or out.size - start + node.size > 16_384:
            return False
        m.text_left -= node.size + 1
        if node.size and node.value.text[0] == 47:
            out.size = start
        elif out.size > start and out.data[out.size - 1] != 47 and not put_byte(out, 47):
            return False
        if not put(out, node.value.text, node.size):
            return False
        node = step(&m.memory, &walk)
    return put_byte(out, 34)


cdef const uint8_t* stamp(Machine* m, const Node* node, size_t length) noexcept nogil:
    """Return the packed fields of a datetime, date or time, or NULL."""
    cdef size_t size
    cdef const uint8_t* octets
    if known_callee(m, node) == ENCODE:
        octets = decoded(m, m.memory.boxes + node.value.box, &size)
        return octets if octets != NULL and size == length else NULL
    if (node.kind == OCTETS or (node.kind == BYTES and not node.look)) and node.size == length:
        return node.value.text
    return NULL


cdef inline uint8_t* two(uint8_t* to, unsigned int number) noexcept nogil:
    memcpy(to, &PAIRS[2 * (number % 100)], 2)
    return to + 2


cdef uint8_t* spell_date(uint8_t* to, const uint8_t* fields) noexcept nogil:
    """Write year (two octets), month and day; return the end, or NULL for an invalid date."""
    cdef unsigned int year = fields[0] * 256 + fields[1], month = fields[2] & 127, day = fields[3]
    cdef unsigned int days = 31
    if month == 4 or month == 6 or month == 9 or month == 11:
        days = 30
    elif month == 2:
        days = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= days):
        return NULL
    to = two(two(to, year // 100), year % 100)
    to[0] = 45
    to = two(to + 1, month)
    to[0] = 45
    return two(to + 1, day)


cdef uint8_t* spell_time(uint8_t* to, const uint8_t* fields) noexcept nogil:
    """Write hour, minute, second and microsecond (three octets); return the end, or NULL for an invalid time."""
    cdef unsigned int microsecond = fields[3] << 16 | fields[4] << 8 | fields[5]
    if fields[0] > 23 or fields[1] > 59 or fields[2] > 59 or microsecond > 999_999:
        return NULL
    to = two(to, fields[0])
    to[0] = 58
    to = two(to + 1, fields[1])
    to[0] = 58
    to = two(to + 1, fields[2])
    if microsecond:
        to[0] = 46
        to = two(two(two(to + 1, microsecond // 10_000), microsecond // 100 % 100), microsecond % 100)
    return to


cdef uint8_t* spell_stamp(uint8_t* to, const uint8_t* fields) noexcept nogil:
    """Write a datetime without its zone; return the end, or NULL for an invalid one."""
    to = spell_date(to, fields)
    if to == NULL:
        return NULL
    to[0] = 84
    return spell_time(to + 1, fields + 4)


cdef bint duration(Machine* m, Box* box, int64_t* microseconds) noexcept nogil:
    """Return the microseconds of a timedelta below 2**53 of them, so that its seconds are exact as a float."""
    cdef Node* given[3]
    cdef int64_t[3] parts
    cdef size_t index, count = box.args.count
    if not is_bare(box) or count > 3:
        return False
    arguments(m, &box.args, given, 3)
    for index in range(3):
        parts[index] = 0
        if index < count:
            if given[index].kind != INT or not -1_000_000_000 < given[index].value.integer < 1_000_000_000:
                return False
            parts[index] = given[index].value.integer
    if not -100_000 < parts[0] < 100_000:
        return False
    microseconds[0] = (parts[0] * 86_400 + parts[1]) * 1_000_000 + parts[2]
    return -(<int64_t> 1 << 53) < microseconds[0] < <int64_t> 1 << 53


cdef bint put_timedelta(Machine* m, Out* out, Box* box) noexcept nogil:
    cdef int64_t microseconds
    return duration(m, box, &microseconds) and put_float(out, microseconds / 1e6, True)


cdef bint put_datetime(Machine* m, Out* out, const Node* node, const Node* zone) noexcept nogil:
    cdef uint8_t* to
    cdef const uint8_t* fields = stamp(m, node, 10)
    cdef Box* box
    cdef Node* given[2]
    cdef int64_t offset
    cdef int known
    if fields == NULL or not reserve(out, 64):
        return False
    to = out.data + out.size
    to[0] = 34
    to = spell_stamp(to + 1, fields)
    if to == NULL:
        return False
    if zone != NULL:
        known = known_callee(m, zone)
        # Python reads the database of named zones.
        if known != TIMEZONE:
            return False
        box = m.memory.boxes + zone.value.box
        if arguments(m, &box.args, given, 2) == 0 or known_callee(m, given[0]) != TIMEDELTA:
            return False
        if not duration(m, m.memory.boxes + given[0].value.box, &offset):
            return False
        if not -86_400_000_000LL < offset < 86_400_000_000LL or offset % 60_000_000 != 0:
            return False
        to[0] = 45 if offset < 0 else 43
        offset = (-offset if offset < 0 else offset) // 60_000_000
        to = two(to + 1, offset // 60)
        to[0] = 58
        to = two(to + 1, offset % 60)
    to[0] = 34
    out.size = to + 1 - out.data
    return True


cdef bint put_date(Machine* m, Out* out, const Node* node) noexcept nogil:
    cdef uint8_t* to
    cdef const uint8_t* fields = stamp(m, node, 4)
    if fields == NULL or fields[2] > 12 or not reserve(out, 16):
        return False
    to = out.data + out.size
    to[0] = 34
    to = spell_date(to + 1, fields)
    if to == NULL:
        return False
    to[0] = 34
    out.size = to + 1 - out.data
    return True


cdef bint put_time(Machine* m, Out* out, const Node* node) noexcept nogil:
    cdef uint8_t* to
    cdef uint8_t[6] fields
    cdef const uint8_t* given = stamp(m, node, 6)
    if given == NULL or not reserve(out, 24):
        return False
    memcpy(fields, given, 6)
    fields[0] &= 127
    to = out.data + out.size
    to[0] = 34
    to = spell_time(to + 1, fields)
    if to == NULL:
        return False
    to[0] = 34
    out.size = to + 1 - out.data
    return True
