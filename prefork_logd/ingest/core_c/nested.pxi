# Reads a dict, list or object among the attributes of a record that is otherwise flat.
#
# Owns the end of such a value. Each opcode is done as the machine does it (machine.pxi). Of a dict or list with one
# member, only the opcode behind the member tells that it is none of the record's attributes: it joins the container then.

cdef bint[256] ENDS_MARK   # opcodes that remove the topmost mark, or may remove it
for _opcode in bytearray(b"uetldoi1\x90\x91"):
    ENDS_MARK[_opcode] = True


cdef inline bint is_record(Machine* m) noexcept nogil:
    """Tell whether the topmost node is the record itself: a cycle, as the record is filled at its end."""
    cdef Node* node = m.memory.stack + m.top - 1
    return node.kind == DICT and node.value.box == 0


cdef inline bint ends_value(uint8_t opcode) noexcept nogil:
    """Tell whether an opcode stands behind a whole value of the record: that of a text, SETITEMS or SETITEM."""
    return opcode == 0x58 or opcode == 0x8C or opcode == 0x55 or opcode == 0x75 or opcode == 0x73


cdef bint read_value(Machine* m) noexcept nogil:
    """Do the opcodes that make one value, which is pushed above the record's mark.

    Return whether the value is complete and a key, SETITEM or the record's end comes next. If not, the machine can continue from
    here, unless the frame `is_lost`.
    """
    cdef const uint8_t* data = m.data
    cdef size_t goal = m.top + 1, first = 0
    cdef uint8_t opcode
    cdef bint done
    while m.at < m.size and m.opcodes < MAX_OPCODES:
        opcode = data[m.at]
        if m.marks_size == 1:
            if m.top == goal and ends_value(opcode):
                # A class is mostly called. Without a mark its arguments would look like a key.
                if m.memory.stack[m.top - 1].kind != SYMBOL:
                    return True
            if ENDS_MARK[opcode]:
                return False
        elif opcode == 0x58 or opcode == 0x8C:  # BINUNICODE, SHORT_BINUNICODE
            # Most often a key or a value of a dict: nothing else has to be looked at.
            m.opcodes += 1
            if not push_scalar(m):
                m.is_lost = True
                return False
            if m.at + 1 < m.size and data[m.at] == 0x71 and m.opcodes < MAX_OPCODES:
                m.opcodes += 1
                m.at += 2
                if not memoize(m, data[m.at - 1]):
                    m.is_lost = True
                    return False
            continue
        m.opcodes += 1 + OPCODE_COSTS[opcode]
        if opcode == 0x71:  # BINPUT
            m.at += 2
            done = m.at <= m.size and memoize(m, data[m.at - 1])
        elif opcode == 0x28:  # MARK
            m.at += 1
            done = m.marks_size <= MAX_DEPTH
            if done:
                m.marks[m.marks_size] = m.base
                m.marks_size += 1
                m.base = m.top
        elif opcode == 0x75:  # SETITEMS
            m.at += 1
            done = pop_mark(m, &first) and first != m.base and put_pairs(m, m.memory.stack + first - 1, first)
        elif opcode == 0x7D:  # EMPTY_DICT
            m.at += 1
            done = push_box(m, DICT)
        else:
            done = push_scalar(m)
            if done:
                if opcode == 0x58 and m.at + 1 < m.size and data[m.at] == 0x71 and m.opcodes < MAX_OPCODES:
                    # A BINPUT nearly always follows: doing it here saves a turn of the loop.
                    m.opcodes += 1 + OPCODE_COSTS[0x71]
                    m.at += 2
                    done = memoize(m, data[m.at - 1])
            else:
                m.at += 1
                done = rare(m, opcode)
        if not done:
            # The opcode may have changed the stack already, and that is not undone.
            m.is_lost = True
            return False
        if (m.marks_size == 1 and m.top < goal) or (opcode != 0x7D and is_record(m)):
            return False
    return False


cdef inline bint is_open(Machine* m, const Node* node, uint8_t kind) noexcept nogil:
    """Tell whether a value is an empty container of this kind."""
    return node.kind == kind and m.memory.boxes[node.value.box].flat.count + m.memory.boxes[node.value.box].items.count == 0


cdef bint join_member(Machine* m, Fields* fields) noexcept nogil:
    """Do SETITEM: move the last attribute into the dict that is the value of the one before; return whether it can be."""
    cdef Node* name = m.memory.stack + m.top - 2
    cdef size_t count = fields.extras_count
    if count < 4 or fields.extras[count - 2] != name or fields.extras[count - 3] != name - 1:
        return False
    # A value that was written by its shape cannot be a member. The record is then read again, key by key.
    if not is_open(m, name - 1, DICT) or (name + 1).kind == WRITTEN or not put_pairs(m, name - 1, m.top - 2):
        return False
    m.at += 1
    # A key and a value, both with a number, and SETITEM.
    m.opcodes += 5 + OPCODE_COSTS[0x73]
    fields.extras_count -= 2
    return True


cdef bint join_item(Machine* m, Fields* fields) noexcept nogil:
    """Do a text and APPEND, if the last attribute is an empty list and APPEND follows the text that comes."""
    cdef size_t start = m.at, end
    cdef size_t top = m.top
    if not fields.extras_count or fields.extras[fields.extras_count - 1] != m.memory.stack + top - 1:
        return False
    if not is_open(m, m.memory.stack + top - 1, LIST):
        return False
    end = text_end(m.data, start, m.size)
    if not end:
        return False
    if end + 2 < m.size and m.data[end] == 0x71:  # BINPUT
        end += 2
    if end >= m.size or m.data[end] != 0x61:  # APPEND
        return False
    if not push_scalar(m) or not memoize_if_asked(m) or m.at != end or not put_items(m, m.memory.stack + top - 1, top, False):
        m.is_lost = True
        return False
    m.at += 1
    m.opcodes += 3 + OPCODE_COSTS[0x61]
    return True


cdef inline size_t text_end(const uint8_t* data, size_t at, size_t size) noexcept nogil:
    """Return the end of the text whose opcode is at `at`; 0 if there is none."""
    cdef uint32_t length
    if size - at < 6:
        return 0
    if data[at] == 0x58:  # BINUNICODE
        memcpy(&length, data + at + 1, 4)
        at += 5
    elif data[at] == 0x8C or data[at] == 0x55:  # SHORT_BINUNICODE, SHORT_BINSTRING
        length = data[at + 1]
        at += 2
    else:
        return 0
    return at + length if length <= size - at else 0
