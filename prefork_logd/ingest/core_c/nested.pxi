# Reads a dict, list or object among the attributes of a record that is otherwise flat.
#
# Owns the end of such a value. Each opcode is done as the machine does it (machine.pxi).

cdef bint[256] ENDS_MARK   # opcodes that remove the topmost mark, or may remove it
for _opcode in bytearray(b"uetldoi1\x90\x91"):
    ENDS_MARK[_opcode] = True


cdef inline bint is_record(Machine* m) noexcept nogil:
    """Tell whether the topmost node is the record itself: a cycle, as the record is filled at its end."""
    cdef Node* node = m.memory.stack + m.top - 1
    return node.kind == DICT and node.value.box == 0


cdef inline bint ends_value(uint8_t opcode) noexcept nogil:
    """Tell whether an opcode stands behind a whole value of the record: that of a text, or SETITEMS."""
    return opcode == 0x58 or opcode == 0x8C or opcode == 0x55 or opcode == 0x75


cdef bint read_value(Machine* m) noexcept nogil:
    """Do the opcodes that make one value, which is pushed above the record's mark.

    Return whether the value is complete and a key or the record's end comes next. If not, the machine can continue from
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
