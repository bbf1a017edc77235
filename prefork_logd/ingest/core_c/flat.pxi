# Reads the usual record, one dict of names and scalars, without building the dict.
#
# nested.pxi and shapes.pxi read the containers and objects among the further attributes.
#
# Owns a tree of recent sequences of keys. A service's records have the same keys in the same order, so each key is
# found by a comparison with the earlier key at its position, opcode and length included. A path to a node has no key
# twice. The machine (machine.pxi) reads other records: it continues from any point, as stack and memo are always in the
# state in which it would have left them.

cdef enum:
    FLAT_PAIRS = 64          # pairs of one record; the machine reads further ones
    FLAT_MEMO = 258          # room in the memo: BINPUT has numbers of one octet
    FLAT_OPCODES = 4 * FLAT_PAIRS + 8   # most opcodes that are read here
    FLAT_KEY_BYTES = 40      # opcode, length and text
    FLAT_SIBLINGS = 16
    FLAT_MISSES = 4096       # keys without room, after which the tree begins anew

cdef struct FlatKey:
    uint8_t[48] octets       # opcode, length and text
    uint32_t size            # bytes of all three
    uint32_t head            # bytes of the first two
    uint64_t word            # of the node of its text (set_node)
    int slot                 # number of LogRecord's attribute (find_slot)
    uint32_t kinds           # of a usual value: a bit for each Kind
    bint begins              # whether it is the first key of its group
    uint32_t group           # group of attributes whose values repeat (repeats.pxi)
    uint32_t depth           # number of keys up to this one, at most FLAT_PAIRS
    uint32_t parent          # 0: the root, whose own parent it is
    uint32_t child           # 0: none
    uint32_t sibling

cdef FlatKey FLAT[FLAT_KEYS]
cdef uint32_t flat_keys = 1  # number 0 is the root
cdef uint32_t flat_misses = 0


cdef void forget_keys() noexcept nogil:
    """Begin the tree anew."""
    global flat_keys, flat_misses, tree_number
    tree_number += 1
    flat_misses = FLAT[0].child = 0
    flat_keys = 1
    forget_stretches()


cdef inline uint32_t next_key(uint32_t before, const uint8_t* data, size_t left) noexcept nogil:
    """Return the known key that `data` begins with, among the followers of the key `before`; 0 for none."""
    cdef uint32_t key = FLAT[before].child
    while key:
        if FLAT[key].size <= left and same_run(FLAT[key].octets, data, FLAT[key].size):
            return key
        key = FLAT[key].sibling
    return 0


cdef uint32_t learn_key(uint32_t before, const uint8_t* data, size_t left) noexcept nogil:
    """Add the key that `data` begins with as a follower of `before`; return its number, 0 if it cannot be added."""
    global flat_keys, flat_misses
    cdef size_t head, size
    cdef uint32_t length = 0, other, siblings = 0
    cdef FlatKey* key
    cdef Node node
    if left < 5:
        return 0
    if data[0] == 0x58:  # BINUNICODE
        memcpy(&length, data + 1, 4)
        head = 5
    elif data[0] == 0x55 or data[0] == 0x8C:  # SHORT_BINSTRING, SHORT_BINUNICODE
        length = data[1]
        head = 2
    else:
        return 0
    size = head + <size_t> length
    if length == 0 or size > FLAT_KEY_BYTES or size > left or look_at(data + head, length) != PLAIN:
        return 0
    other = before
    while other:
        key = FLAT + other
        if key.size - key.head == length and same_octets(key.octets + key.head, data + head, length):
            return 0
        other = key.parent
    other = FLAT[before].child
    while other:
        siblings += 1
        other = FLAT[other].sibling
    if FLAT[before].depth == FLAT_PAIRS:
        return 0
    if flat_keys == FLAT_KEYS or siblings == FLAT_SIBLINGS:
        flat_misses += 1
        if flat_misses == FLAT_MISSES:
            forget_keys()
        return 0
    key = FLAT + flat_keys
    memcpy(key.octets, data, size)
    key.size = <uint32_t> size
    key.head = <uint32_t> head
    set_node(&node, OCTETS if data[0] == 0x55 else TEXT, PLAIN, length, <uint64_t> <size_t> (data + head))
    node.tag = <uint16_t> flat_keys
    memcpy(&key.word, &node, 8)
    key.slot = find_slot(&node)
    key.group = group_of(key.slot)
    key.begins = key.group and key.group != FLAT[before].group
    key.kinds = usual_kinds(key.slot)
    key.depth = FLAT[before].depth + 1
    key.parent = before
    key.child = 0
    key.sibling = FLAT[before].child
    FLAT[before].child = flat_keys
    flat_keys += 1
    return flat_keys - 1


cdef uint32_t usual_kinds(int slot) noexcept nogil:
    """Return the kinds of usual values that fit a field, as bits."""
    if slot == ARGS or slot == EXC_INFO:
        return 1 << NONE
    if 0 <= slot < STORED:
        return 1 << NONE | (1 << INT if (1 << slot) & INTEGERS else 1 << TEXT)
    return 1 << NONE | 1 << INT | 1 << FLOAT | 1 << TEXT


cdef inline bint memoize_if_asked(Machine* m) noexcept nogil:
    """Do a BINPUT or LONG_BINPUT, if one follows the text."""
    cdef uint32_t index
    if m.at + 1 < m.size and m.data[m.at] == 0x71:
        if not memoize(m, m.data[m.at + 1]):
            return False
        m.at += 2
    elif m.at + 4 < m.size and m.data[m.at] == 0x72:
        memcpy(&index, m.data + m.at + 1, 4)
        if not memoize(m, index):
            return False
        m.at += 5
    return True


cdef inline bint push_scalar(Machine* m) noexcept nogil:
    """Do one opcode that makes a scalar; do nothing for another one."""
    cdef const uint8_t* start
    cdef size_t size, at = m.at
    cdef uint64_t number
    cdef uint32_t length
    cdef uint8_t opcode
    if at >= m.size:
        return False
    opcode = m.data[at]
    m.at += 1
    if opcode == 0x58:  # BINUNICODE
        if m.size - m.at >= 4:
            memcpy(&length, m.data + m.at, 4)
            start = m.data + at + 5
            if length <= m.size - m.at - 4:
                m.at += 4 + <size_t> length
                if push_text(m, start, length):
                    return True
    elif opcode == 0x4E:  # NONE
        return push_node(m, NONE, 0, 0, 0)
    elif opcode == 0x47:  # BINFLOAT
        if take_number(m, 8, &number):
            return push_node(m, FLOAT, 0, 0, __builtin_bswap64(number))
    elif opcode == 0x4B:  # BININT1
        if at + 1 < m.size:
            m.at += 1
            return push_integer(m, m.data[at + 1])
    elif opcode == 0x4D:  # BININT2
        if take_number(m, 2, &number):
            return push_integer(m, number)
    elif opcode == 0x4A:  # BININT
        if take_number(m, 4, &number):
            return push_integer(m, <int32_t> <uint32_t> number)
    elif opcode == 0x4C or opcode == 0x49:  # LONG; INT, which is True and False, too, in protocols 0 and 1
        if push_number_line(m, opcode == 0x49):
            return True
    elif opcode == 0x8A:  # LONG1
        if push_long(m, 1):
            return True
    elif opcode == 0x8C:  # SHORT_BINUNICODE
        if take_counted(m, 1, &start, &size) and push_text(m, start, size):
            return True
    elif opcode == 0x55:  # SHORT_BINSTRING
        if take_counted(m, 1, &start, &size) and push_octets(m, start, size):
            return True
    elif opcode == 0x68:  # BINGET
        if at + 1 < m.size and recall(m, m.data[at + 1]):
            m.at += 1
            return True
    elif opcode == 0x88 or opcode == 0x89:  # NEWTRUE, NEWFALSE
        return push_node(m, BOOL, 0, 0, opcode == 0x88)
    m.at = at
    return False


cdef uint32_t read_usual_pairs(
    Machine* m, Fields* fields, uint32_t before, size_t stop, uint32_t* next, bint key_by_key
) noexcept nogil:
    """Read known keys and usual values, each with the BINPUT that numbers it next; return the last key.

    Ends at the offset `stop` or a little before, before a part that may be copied (repeats.pxi), and before everything
    that is not usual; `next` is then the key that comes, if it is known. Nearly all pairs are read here, so the state
    stays in registers. Stack and memo have room for them: no key has more than FLAT_PAIRS before it.
    """
    cdef const FlatKey* key = FLAT + before
    cdef const FlatKey* other
    cdef const uint8_t* at = m.data + m.at
    cdef const uint8_t* end = m.data + stop
    cdef Node* name = m.memory.stack + m.top
    cdef Node* memo = m.memory.memo + m.memory.memo_end
    cdef Node** extra = fields.extras + fields.extras_count
    cdef const uint8_t* value_at
    cdef uint64_t word, real
    cdef uint32_t length, put = 0x71 | <uint32_t> m.memory.memo_end << 8   # the next BINPUT
    cdef uint32_t is_put, nones = 0
    cdef int32_t integer
    cdef uint16_t two_octets
    cdef uint8_t opcode
    cdef int look
    while True:
        other = FLAT + key.child
        while other != FLAT:
            # A BINPUT, the shortest value and the octet behind it are read without another look at the frame's end.
            if end - at >= <ptrdiff_t> (other.size + 5) and same_run(other.octets, at, other.size):
                break
            other = FLAT + other.sibling
        if other == FLAT:
            break
        if other.begins and not key_by_key:
            break
        value_at = at + other.size
        memcpy(&two_octets, value_at, 2)
        is_put = two_octets == put
        value_at += 2 * is_put
        opcode = value_at[0]
        if opcode == 0x58 or opcode == 0x8C:  # BINUNICODE, SHORT_BINUNICODE
            if end - value_at < 8:
                break
            memcpy(&length, value_at + 1, 4)
            value_at += 5
            if opcode == 0x8C:
                length &= 0xFF
                value_at -= 3
            if length > <size_t> (end - value_at) - 3:
                break
            look = look_within(value_at, length, end - value_at)
            if look & INVALID:
                break
            word = TEXT | <uint64_t> look << 8 | <uint64_t> length << 32
            real = <uint64_t> <size_t> value_at
            value_at += length
            memcpy(&two_octets, value_at, 2)
            # The key's number comes first. A value with a number whose key has none is not usual.
            if is_put and two_octets == put + 256:  # BINPUT
                write_words(memo + 1, word, real)
                is_put += 256
                value_at += 2
        elif opcode == 0x4E:  # NONE
            word, real = NONE, 0
            value_at += 1
            nones |= <uint32_t> 1 << (other.slot & 31)
        elif opcode == 0x47:  # BINFLOAT
            if end - value_at < 10:
                break
            memcpy(&real, value_at + 1, 8)
            word, real = FLOAT, __builtin_bswap64(real)
            value_at += 9
        elif opcode == 0x4B:  # BININT1
            word, real = INT, value_at[1]
            value_at += 2
        elif opcode == 0x4D:  # BININT2
            if end - value_at < 4:
                break
            memcpy(&two_octets, value_at + 1, 2)
            word, real = INT, two_octets
            value_at += 3
        elif opcode == 0x4A:  # BININT
            if end - value_at < 6:
                break
            memcpy(&integer, value_at + 1, 4)
            word, real = INT, <uint64_t> <int64_t> integer
            value_at += 5
        else:
            break
        # A number that is memoized, a second BINPUT, and a value that does not fit are not usual.
        if <uint8_t> (value_at[0] - 0x71) <= 1 or not other.kinds >> (word & 15) & 1:
            break
        write_words(name + 1, word, real)
        real = <uint64_t> <size_t> (at + other.head)
        write_words(name, other.word, real)
        write_words(memo, other.word, real)
        at = value_at
        if other.slot < 0:
            extra[0] = name
            extra[1] = name + 1
            extra += 2
        else:
            fields.slot[other.slot] = name + 1
        is_put = (is_put & 1) + (is_put >> 8)
        memo += is_put
        put += is_put << 8
        key = other
        name += 2
    # Keys count twice, and texts once: this is more, and within the bound of a frame in which each stands once.
    m.text_left -= 2 * <long> (at - m.data - m.at)
    m.at = at - m.data
    m.top = name - m.memory.stack
    m.memory.memo_count += <size_t> (memo - m.memory.memo) - m.memory.memo_end
    m.memory.memo_end = memo - m.memory.memo
    fields.extras_count = extra - fields.extras
    fields.nones |= nones
    next[0] = <uint32_t> (other - FLAT)
    return <uint32_t> (key - FLAT)


cdef bint read_free_key(Machine* m, Fields* fields, uint32_t before, uint32_t* met, Node* name, int* slot) noexcept nogil:
    """Read a key that has no room in the tree; return whether it is new in this record.

    `met` is the set of LogRecord's attributes so far. For the first such key it is 0, and `before` is the key before.
    """
    cdef size_t head, index, left = m.size - m.at
    cdef uint32_t length = 0
    cdef const uint8_t* data = m.data + m.at
    if left < 5:
        return False
    if data[0] == 0x58:  # BINUNICODE
        memcpy(&length, data + 1, 4)
        head = 5
    elif data[0] == 0x55 or data[0] == 0x8C:  # SHORT_BINSTRING, SHORT_BINUNICODE
        length = data[1]
        head = 2
    else:
        return False
    if length == 0 or length > left - head or look_at(data + head, length) != PLAIN:
        return False
    set_node(name, OCTETS if data[0] == 0x55 else TEXT, PLAIN, length, <uint64_t> <size_t> (data + head))
    while before:
        if FLAT[before].slot >= 0:
            met[0] |= 1 << FLAT[before].slot
        before = FLAT[before].parent
    slot[0] = find_slot(name)
    if slot[0] >= 0:
        if met[0] & (1 << slot[0]):
            return False
        met[0] |= 1 << slot[0]
    else:
        for index in range(0, fields.extras_count, 2):
            if same_text(fields.extras[index], name):
                return False
    # Not before: the machine continues at a key that is not new.
    m.at += head + length
    return True


cdef bint read_flat(Machine* m, Fields* fields, bint key_by_key) noexcept nogil:
    """Read a frame from its beginning; return whether it is a flat record whose values fit their fields.

    If not, the machine continues from here. But if `fields` has a stretch that was copied and not read, the frame must
    begin anew, with `key_by_key`.
    """
    global sites_left
    cdef uint32_t key = 0, after, first = 0, met = 0
    cdef bint is_lost = False
    cdef size_t pairs = 0, stretch_start = 0, stretch_end = 0, stretch_memo = 0, stop = 0
    cdef uint64_t stretch_hash = 0
    cdef long stretch_budget = 0
    cdef Stretch* stretch
    cdef Layout* layout
    cdef bint is_new
    cdef int slot
    cdef const uint8_t* data = m.data
    cdef size_t size = m.size
    cdef uint64_t frame_bytes
    cdef Node* name
    cdef Node* value
    cdef Node* stack
    fields.site = fields.origin = NULL
    fields.unfit = NULL
    fields.plain_groups = 0
    m.opcodes = FLAT_OPCODES
    if m.memory.stack_room < 2 * FLAT_PAIRS + 2:
        # The array must not move below: `fields` points into it.
        if not enlarge(<void**> &m.memory.stack, &m.memory.stack_room, 2 * FLAT_PAIRS + 2, sizeof(Node)):
            return False
    if m.memory.memo_room < FLAT_MEMO:
        if not enlarge(<void**> &m.memory.memo, &m.memory.memo_room, FLAT_MEMO, sizeof(Node)):
            return False
    if size < 8:
        return False
    if data[0] == 0x80 and data[1] <= 5:  # PROTO
        m.at = 2
    if data[m.at] == 0x95:  # FRAME
        if size < m.at + 16:
            return False
        memcpy(&frame_bytes, data + m.at + 1, 8)
        if frame_bytes > size - m.at - 9:
            return False
        m.at += 9
        m.protocol_frame_end = m.at + frame_bytes
    if data[m.at] != 0x7D:  # EMPTY_DICT
        return False
    m.at += 1
    if not push_box(m, DICT) or not memoize_if_asked(m) or data[m.at] != 0x28:  # MARK
        return False
    m.at += 1
    m.marks[0] = 0
    m.marks_size = 1
    m.base = 1
    begin_fields(fields)
    m.text_left = output_for(size)
    while m.at < size and data[m.at] != 0x75:  # SETITEMS
        if data[m.at] == 0x73:  # SETITEM
            if not join_member(m, fields):
                return False
            pairs -= 1
            if not is_lost:
                key = FLAT[key].parent
            continue
        if fields.has_containers and join_item(m, fields):
            continue
        if m.is_lost:
            return False
        after = 0
        if not is_lost:
            stop = stretch_end if stretch_end > m.at else size
            key = read_usual_pairs(m, fields, key, stop, &after, key_by_key)
            pairs = FLAT[key].depth
            if stretch_end and m.at >= stretch_end:
                if m.at == stretch_end and FLAT[key].group == FLAT[first].group:
                    keep_stretch(
                        m, fields, first, key, stretch_start, stretch_memo, stretch_hash, stretch_budget - m.text_left
                    )
                stretch_end = 0
                continue
            if m.at >= size or data[m.at] == 0x75:
                break
            if data[m.at] == 0x73:
                continue
            if not after:
                after = next_key(key, data + m.at, size - m.at)
            if not after:
                after = learn_key(key, data + m.at, size - m.at)
        name = m.memory.stack + m.top
        if not after:
            if pairs == FLAT_PAIRS or not read_free_key(m, fields, key, &met, name, &slot):
                return False
            is_lost = True
            key = 0
        else:
            if FLAT[after].group and FLAT[after].group != FLAT[key].group and not key_by_key:
                if FLAT[after].group == SITE:
                    sites_left -= 1
                    if sites_left == 0:
                        end_epoch()
                if CENSUS[FLAT[after].group].are_many:
                    layout = read_by_any_layout(m, fields, after)
                    if layout != NULL:
                        key = layout.last
                        continue
                    learn_new_layout(m, after)
                else:
                    stretch = find_stretch(m, after, &stretch_hash, &layout, &stop)
                    if stretch == NULL:
                        is_new = layout != NULL and not (is_worth_keeping(stretch_hash) and find_room(stretch_hash))
                        if is_new and takes(m, layout) and read_by_layout(m, fields, layout):
                            key = layout.last
                            continue
                        first = after
                        stretch_start, stretch_memo, stretch_budget = m.at, m.memory.memo_end, m.text_left
                        stretch_end = 0 if is_new else stop if layout != NULL else expect_stretch(m, after, &stretch_hash)
                    elif stretch.unfit:
                        stretch.unfit -= 1
                        key_by_key = True
                    else:
                        take_stretch(m, fields, stretch)
                        key = stretch.last
                        continue
            key = after
            slot = FLAT[key].slot
            write_words(name, FLAT[key].word, <uint64_t> <size_t> (data + m.at + FLAT[key].head))
            m.at += FLAT[key].size
        m.top += 1
        if not memoize_if_asked(m):
            return False
        stack = m.memory.stack
        if push_scalar(m):
            if not memoize_if_asked(m) or is_record(m):
                return False
        elif not read_further(m, fields, 0 if slot >= 0 or is_lost or key_by_key else key) or m.memory.stack != stack:
            return False
        value = m.memory.stack + m.top - 1
        if value.kind >= LIST:
            if slot >= 0:
                return False
            fields.has_containers = True
        pairs += 1
        m.text_left -= 2 * name.size
        if slot < 0:
            fields.extras[fields.extras_count] = name
            fields.extras[fields.extras_count + 1] = value
            fields.extras_count += 2
            continue
        fields.slot[slot] = value
        if (slot == ARGS or slot == EXC_INFO) and value.kind != NONE:
            return False
        if slot < STORED and not is_fit(slot, value):
            return False
        if value.kind == NONE:
            fields.nones |= 1 << slot
        if is_text(value):
            m.text_left -= value.size
        elif value.kind == BIG or value.kind == BYTES:
            return False
        if stretch_end and m.at >= stretch_end:
            if m.at == stretch_end and FLAT[key].group == FLAT[first].group:
                keep_stretch(
                    m, fields, first, key, stretch_start, stretch_memo, stretch_hash, stretch_budget - m.text_left
                )
            stretch_end = 0
    if not is_lost:
        pairs = FLAT[key].depth
    # SETITEMS and STOP. The machine reads a dict with more than one SETITEMS.
    if not pairs or m.at + 2 != size or data[m.at + 1] != 0x2E:
        return False
    m.nodes_left = nodes_for(size) - 2 * <long> pairs
    return m.text_left >= 0 and settle_fitting(fields)
