# Runs the pickle machine: machine.py and opcodes.py in C.
#
# Owns the effect of every opcode on stack and memo. Every length is compared with the size of the frame before it is
# used. Nothing is rejected here: for a malformed frame, or one above a budget, the functions return False, and the
# Python machine decides.

cdef struct Machine:
    const uint8_t* data
    size_t size
    size_t at
    size_t top               # number of nodes on the stack
    size_t base              # height of the stack at the topmost mark
    size_t* marks
    size_t marks_size
    long containers_left
    long lines_left
    size_t protocol_frame_end
    int64_t empty_tuple      # its index among the boxes, -1 before there is one
    long nodes_left          # of the budget on the result
    long text_left
    size_t output_end        # largest size of the buffer that is written to now
    Secrets* secrets
    void* redactor           # a records.redaction.Redactor, for values made by Python; NULL: none
    bint redacted            # whether a secret of the present record was replaced
    long opcodes             # done already, when the machine takes over from the flat reader
    long copies_left         # nodes that values made by Python may still copy (by_python.pxi)
    size_t made_by_python    # number of values that Python has made, in all records so far
    bint is_left             # whether the record is left to Python, for a value that only Python can make
    bint is_lost             # whether an opcode failed halfway: the frame is then left to Python
    Memory memory
    Out written              # JSON of values that were not built (shapes.pxi)

cdef enum:
    MAX_OPCODES = 66_000
    MAX_CONTAINERS = 20_000
    MAX_MEMO = 100_000
    MAX_INTEGER_BYTES = 1_700
    MAX_NAME = 256
    MAX_DEPTH = 200
    MAX_NODES = 26_000
    NODES_ALWAYS = 256
    NODES_PER_TWO_BYTES = 4
    MAX_LINES = 30_000
    OUTPUT_PER_BYTE = 6
    REPEATED_PER_BYTE = 10
    REPEATED_BYTES = 1 << 19
    OUTPUT_ALWAYS = 4_096
    MAX_MARKS = MAX_DEPTH + 1


cdef inline long nodes_for(size_t size) noexcept nogil:
    """Return the most values in the result of a frame (budget.Budget)."""
    return min(<long> MAX_NODES, <long> (NODES_ALWAYS + NODES_PER_TWO_BYTES * size // 2))


cdef inline size_t output_for(size_t size) noexcept nogil:
    """Return the most bytes in the line of a frame (budget.Budget)."""
    return OUTPUT_PER_BYTE * size + min(REPEATED_PER_BYTE * size, <size_t> REPEATED_BYTES) + OUTPUT_ALWAYS


cdef inline bint take(Machine* m, size_t count, const uint8_t** start) noexcept nogil:
    """Take the next `count` bytes of the frame, if it has them."""
    if count > m.size - m.at:
        return False
    start[0] = m.data + m.at
    m.at += count
    return True


cdef inline bint take_number(Machine* m, size_t width, uint64_t* number) noexcept nogil:
    """Take a little-endian number of up to eight bytes."""
    cdef const uint8_t* start
    if not take(m, width, &start):
        return False
    number[0] = 0
    memcpy(number, start, width)  # setup.py builds this on little-endian machines only
    return True


cdef inline bint take_counted(Machine* m, size_t width, const uint8_t** start, size_t* size) noexcept nogil:
    """Take a length of `width` bytes, and as many bytes."""
    cdef uint64_t count
    if not take_number(m, width, &count) or count > m.size - m.at:
        return False
    size[0] = count
    return take(m, count, start)


cdef bint take_line(Machine* m, size_t longest, const uint8_t** start, size_t* size) noexcept nogil:
    """Take the bytes up to the next newline, and the newline."""
    cdef size_t left = m.size - m.at
    cdef const uint8_t* end
    m.lines_left -= 1
    if m.lines_left < 0:
        return False
    if left > longest + 1:
        left = longest + 1
    end = <const uint8_t*> memchr(m.data + m.at, 10, left)
    if end == NULL:
        return False
    start[0] = m.data + m.at
    size[0] = end - start[0]
    m.at += size[0] + 1
    return True


cdef inline Node* push(Machine* m, uint8_t kind) noexcept nogil:
    """Return the new topmost node, or NULL."""
    cdef Node* node
    if m.top == m.memory.stack_room:
        if not enlarge(<void**> &m.memory.stack, &m.memory.stack_room, m.top + 1, sizeof(Node)):
            return NULL
    node = m.memory.stack + m.top
    node.kind = kind
    m.top += 1
    return node


cdef inline bint push_node(Machine* m, uint8_t kind, uint8_t look, uint32_t size, uint64_t value) noexcept nogil:
    if m.top == m.memory.stack_room:
        if not enlarge(<void**> &m.memory.stack, &m.memory.stack_room, m.top + 1, sizeof(Node)):
            return False
    set_node(m.memory.stack + m.top, kind, look, size, value)
    m.top += 1
    return True


cdef inline bint push_span(Machine* m, uint8_t kind, const uint8_t* data, size_t size) noexcept nogil:
    return push_node(m, kind, 0, <uint32_t> size, <uint64_t> <size_t> data)


cdef inline bint push_text(Machine* m, const uint8_t* data, size_t size) noexcept nogil:
    cdef int look = look_at(data, size)
    return not look & INVALID and push_node(m, TEXT, look, <uint32_t> size, <uint64_t> <size_t> data)


cdef inline bint push_octets(Machine* m, const uint8_t* data, size_t size) noexcept nogil:
    return push_node(m, OCTETS, look_at(data, size), <uint32_t> size, <uint64_t> <size_t> data)


cdef inline bint push_integer(Machine* m, int64_t value) noexcept nogil:
    return push_node(m, INT, 0, 0, <uint64_t> value)


cdef inline bint push_box(Machine* m, uint8_t kind) noexcept nogil:
    """Push a new container, which is the last of `boxes`."""
    m.containers_left -= 1
    if m.containers_left < 0 or new_box(&m.memory, kind) == NULL:
        return False
    return push_node(m, kind, 0, 0, m.memory.boxes_size - 1)


cdef inline Box* last_box(Machine* m) noexcept nogil:
    return m.memory.boxes + m.memory.boxes_size - 1


cdef inline bint has(Machine* m, size_t count) noexcept nogil:
    """Tell whether at least `count` values are above the topmost mark."""
    return m.top - m.base >= count


cdef inline bint pop_mark(Machine* m, size_t* first) noexcept nogil:
    """Remove the topmost mark. The values above it stay; `first` is the index of the lowest."""
    if m.marks_size == 0:
        return False
    m.marks_size -= 1
    first[0] = m.base
    m.base = m.marks[m.marks_size]
    return True


cdef inline bint memoize(Machine* m, uint64_t index) noexcept nogil:
    cdef Memory* memory = &m.memory
    if memory.memo_count >= MAX_MEMO or index > MAX_MEMO or not has(m, 1):
        return False
    if index == memory.memo_end and index < memory.memo_room:
        # pickle numbers its memo without gaps.
        memory.memo_end = index + 1
        memory.memo_count += 1
    elif not claim_memo(memory, index):
        return False
    copy_words(memory.memo + index, memory.stack + m.top - 1)
    return True


cdef bint claim_memo(Memory* memory, size_t index) noexcept nogil:
    """Extend the memo up to a place. Places between are marked as not in use."""
    if index >= memory.memo_room:
        if not enlarge(<void**> &memory.memo, &memory.memo_room, index + 1, sizeof(Node)):
            return False
    if index >= memory.memo_end:
        memset(memory.memo + memory.memo_end, 0, (index - memory.memo_end) * sizeof(Node))
        memory.memo_end = index + 1
        memory.memo_count += 1
    elif memory.memo[index].kind == UNSET:
        memory.memo_count += 1
    return True


cdef inline bint recall(Machine* m, uint64_t index) noexcept nogil:
    cdef Node* node
    if index >= m.memory.memo_end or m.memory.memo[index].kind == UNSET:
        return False
    node = push(m, NONE)
    if node == NULL:
        return False
    copy_words(node, m.memory.memo + index)
    return True


cdef bint push_digits(Machine* m, const uint8_t* data, size_t size) noexcept nogil:
    """Push an integer of any size by its decimal digits: converting them takes time by the square of their number."""
    cdef bint negative = data[0] == 45
    cdef uint64_t magnitude = 0
    cdef uint8_t* room
    cdef size_t index
    data += negative
    size -= negative
    while size > 1 and data[0] == 48:
        data += 1
        size -= 1
    if size <= 19:
        for index in range(size):
            magnitude = magnitude * 10 + data[index] - 48
        if magnitude < <uint64_t> 1 << 63 or (negative and magnitude == <uint64_t> 1 << 63):
            return push_integer(m, <int64_t> (0 - magnitude if negative else magnitude))
    if not negative:
        return push_span(m, BIG, data, size)
    room = keep_text(&m.memory, size + negative)
    if room == NULL:
        return False
    if negative:
        room[0] = 45
    memcpy(room + negative, data, size)
    return push_span(m, BIG, room, size + negative)


cdef bint push_long(Machine* m, size_t width) noexcept nogil:
    """Do LONG1 or LONG4."""
    cdef const uint8_t* start
    cdef size_t size, index
    cdef int64_t value
    if not take_counted(m, width, &start, &size) or size > MAX_INTEGER_BYTES:
        return False
    value = -1 if size and start[size - 1] & 0x80 else 0
    memcpy(&value, start, size if size < 8 else 8)
    for index in range(8, size):
        if start[index] != (0xFF if value < 0 else 0):
            if not push_span(m, BIG, start, size):
                return False
            m.memory.stack[m.top - 1].look = 1
            return True
    return push_integer(m, value)


cdef enum:
    NUMBER_LINE = 32         # octets that can be read by read_number_line


cdef inline size_t read_number_line(const uint8_t* data, uint64_t* value) noexcept nogil:
    """Set the value of a line of 1 to 16 digits, behind which an L may stand; return its octets, 0 for another line."""
    cdef size_t size = newline16(data)
    if size == 16:
        size += newline16(data + 16)
    if size == 0 or not read_digits(data, size - (data[size - 1] == 76), value):
        return 0
    return size + 1


cdef bint push_number_line(Machine* m, bint may_be_bool) noexcept nogil:
    """Do INT or LONG."""
    cdef int64_t value = 0
    cdef uint64_t magnitude = 0
    cdef const uint8_t* start = m.data + m.at
    cdef size_t size, index
    cdef Node* node
    if not may_be_bool and m.lines_left > 0 and m.size - m.at >= NUMBER_LINE:
        size = read_number_line(start, &magnitude)
        if size:
            m.lines_left -= 1
            m.at += size
            return push_integer(m, <int64_t> magnitude)
    if not take_line(m, <size_t> (MAX_INTEGER_BYTES * 2.41), &start, &size):
        return False
    m.lines_left -= size * size >> 15
    if m.lines_left < 0:
        return False
    if may_be_bool and size == 2 and start[0] == 48 and (start[1] == 48 or start[1] == 49):
        node = push(m, BOOL)
        if node == NULL:
            return False
        node.value.integer = start[1] == 49
        return True
    if size and start[size - 1] == 76:
        size -= 1
    if size == 0 or (size == 1 and start[0] == 45):
        return False
    for index in range(size):
        if not (48 <= start[index] <= 57 or (index == 0 and start[0] == 45)):
            return False
    if size > 18:
        return push_digits(m, start, size)
    for index in range(start[0] == 45, size):
        value = value * 10 + start[index] - 48
    return push_integer(m, -value if start[0] == 45 else value)


cdef bint push_float_line(Machine* m) noexcept nogil:
    """Do FLOAT: digits, a point, an exponent. Python reads the other forms of its grammar."""
    cdef const uint8_t* start
    cdef size_t size, index
    cdef char[65] text
    cdef double value
    cdef Node* node
    if not take_line(m, 64, &start, &size) or size == 0:
        return False
    for index in range(size):
        if not (48 <= start[index] <= 57 or start[index] == 46 or start[index] == 45
                or start[index] == 43 or start[index] == 101):
            return False
    memcpy(text, start, size)
    text[size] = 0
    with gil:
        try:
            value = PyOS_string_to_double(text, NULL, NULL)
        except (ValueError, OverflowError):
            return False
    if not isfinite(value):
        return False
    node = push(m, FLOAT)
    if node == NULL:
        return False
    node.value.real = value
    return True


cdef bint push_quoted(Machine* m) noexcept nogil:
    """Do STRING: a Python 2 str in the form of its repr()."""
    cdef const uint8_t* start
    cdef uint8_t* room
    cdef size_t size
    if not take_line(m, m.size, &start, &size) or size < 2:
        return False
    if (start[0] != 39 and start[0] != 34) or start[size - 1] != start[0]:
        return False
    start += 1
    size -= 2
    if memchr(start, 92, size) == NULL:
        return push_octets(m, start, size)
    room = keep_text(&m.memory, size)
    if room == NULL:
        return False
    return push_octets(m, room, unquoted(start, start + size, room))


cdef size_t unquoted(const uint8_t* start, const uint8_t* end, uint8_t* room) noexcept nogil:
    """Copy a quoted text without its escapes; return the number of octets."""
    cdef uint8_t* to = room
    cdef int high, low
    while start < end:
        if start[0] == 92 and end - start >= 2:
            if start[1] == 120 and end - start >= 4:
                high = digit_of(start[2])
                low = digit_of(start[3])
                if high >= 0 and low >= 0:
                    to[0] = high << 4 | low
                    to += 1
                    start += 4
                    continue
            elif ESCAPED[start[1]]:
                to[0] = ESCAPED[start[1]]
                to += 1
                start += 2
                continue
        to[0] = start[0]
        to += 1
        start += 1
    return to - room


cdef uint8_t[256] ESCAPED
for _escape, _octet in zip(b"\\'\"nrtabfv", b"\\'\"\n\r\t\a\b\f\v", strict=True):
    ESCAPED[_escape] = _octet


cdef inline int digit_of(uint8_t octet) noexcept nogil:
    if 48 <= octet <= 57:
        return octet - 48
    octet |= 32
    return octet - 87 if 97 <= octet <= 102 else -1


cdef bint push_raw_unicode(Machine* m) noexcept nogil:
    """Do UNICODE: Latin-1 with \\u escapes."""
    cdef const uint8_t* start
    cdef size_t size, length
    cdef uint8_t* room
    if not take_line(m, m.size, &start, &size):
        return False
    if memchr(start, 92, size) == NULL and not look_at(start, size) & (UNICODE | INVALID):
        return push_text(m, start, size)
    with gil:
        try:
            text = codecs.raw_unicode_escape_decode((<const char*> start)[:size])[0].encode("utf-8", "surrogatepass")
        except (ValueError, MemoryError):
            return False
        length = len(text)
        room = keep_text(&m.memory, length)
        if room == NULL:
            return False
        memcpy(room, <const char*> text, length)
    return push_text(m, room, length)


cdef bint put_pairs(Machine* m, Node* target, size_t first) noexcept nogil:
    """Do SETITEM or SETITEMS: put the values from `first` on into a dict, or into an object that is built as one."""
    cdef size_t index
    cdef Box* box
    if target.kind != DICT and target.kind != OBJECT:
        return False
    if (m.top - first) % 2:
        return False
    for index in range(first, m.top, 2):
        if not is_text(m.memory.stack + index) and not is_hashable(&m.memory, m.memory.stack + index):
            return False
    box = m.memory.boxes + target.value.box
    if not extend(&m.memory, &box.flat, m.memory.stack + first, m.top - first):
        return False
    m.top = first
    return True


cdef bint put_items(Machine* m, Node* target, size_t first, bint members) noexcept nogil:
    """Do APPEND or APPENDS, or with `members` ADDITEMS."""
    cdef size_t index
    cdef Box* box
    if target.kind != OBJECT and target.kind != (SET if members else LIST):
        return False
    box = m.memory.boxes + target.value.box
    if members:
        if target.kind == SET and box.hashable:
            return False
        for index in range(first, m.top):
            if not is_hashable(&m.memory, m.memory.stack + index):
                return False
    if not extend(&m.memory, &box.items, m.memory.stack + first, m.top - first):
        return False
    m.top = first
    return True


cdef bint make_tuple(Machine* m, size_t first) noexcept nogil:
    """Replace the values from `first` on by a tuple of them."""
    cdef Box* box
    cdef Node* node
    cdef size_t index
    cdef bint hashable = True
    m.containers_left -= 1
    box = new_box(&m.memory, TUPLE)
    if m.containers_left < 0 or box == NULL:
        return False
    for index in range(first, m.top):
        hashable = hashable and is_hashable(&m.memory, m.memory.stack + index)
    box.hashable = hashable
    if not extend(&m.memory, &box.items, m.memory.stack + first, m.top - first):
        return False
    m.top = first
    node = push(m, TUPLE)
    if node == NULL:
        return False
    node.value.box = m.memory.boxes_size - 1
    return True


cdef bint push_empty_tuple(Machine* m) noexcept nogil:
    """Push the record's one empty tuple, which is shared and not counted."""
    cdef Node* node
    if m.empty_tuple < 0:
        if new_box(&m.memory, TUPLE) == NULL:
            return False
        last_box(m).hashable = True
        m.empty_tuple = m.memory.boxes_size - 1
    node = push(m, TUPLE)
    if node == NULL:
        return False
    node.value.box = <uint32_t> m.empty_tuple
    return True


cdef bint rare(Machine* m, uint8_t opcode) noexcept nogil:
    """Do one of the less frequent opcodes; return whether that succeeded."""
    cdef uint64_t number
    cdef const uint8_t* start
    cdef size_t size, first = 0
    cdef Node* node
    if opcode == 0x4A:  # BININT
        if not take_number(m, 4, &number):
            return False
        return push_integer(m, <int32_t> <uint32_t> number)
    if opcode == 0x8A:  # LONG1
        return push_long(m, 1)
    if opcode == 0x8B:  # LONG4
        return push_long(m, 4)
    if opcode == 0x49:  # INT
        return push_number_line(m, True)
    if opcode == 0x4C:  # LONG
        return push_number_line(m, False)
    if opcode == 0x46:  # FLOAT
        return push_float_line(m)
    if opcode == 0x53:  # STRING
        return push_quoted(m)
    if opcode == 0x54:  # BINSTRING
        return take_counted(m, 4, &start, &size) and size <= 0x7FFFFFFF and push_octets(m, start, size)
    if opcode == 0x56:  # UNICODE
        return push_raw_unicode(m)
    if opcode == 0x8D:  # BINUNICODE8
        return take_counted(m, 8, &start, &size) and push_text(m, start, size)
    if opcode == 0x43:  # SHORT_BINBYTES
        return take_counted(m, 1, &start, &size) and push_span(m, BYTES, start, size)
    if opcode == 0x42:  # BINBYTES
        return take_counted(m, 4, &start, &size) and push_span(m, BYTES, start, size)
    if opcode == 0x8E:  # BINBYTES8
        return take_counted(m, 8, &start, &size) and push_span(m, BYTES, start, size)
    if opcode == 0x96:  # BYTEARRAY8
        if not take_counted(m, 8, &start, &size) or not push_span(m, BYTES, start, size):
            return False
        m.memory.stack[m.top - 1].look = 1
        return True
    if opcode == 0x5D:  # EMPTY_LIST
        return push_box(m, LIST)
    if opcode == 0x61:  # APPEND
        return has(m, 2) and put_items(m, m.memory.stack + m.top - 2, m.top - 1, False)
    if opcode == 0x65 or opcode == 0x90:  # APPENDS, ADDITEMS
        if not pop_mark(m, &first) or first == m.base:
            return False
        return put_items(m, m.memory.stack + first - 1, first, opcode == 0x90)
    if opcode == 0x6C or opcode == 0x91:  # LIST, FROZENSET
        if not pop_mark(m, &first):
            return False
        return gather(m, first, opcode == 0x91)
    if opcode == 0x29:  # EMPTY_TUPLE
        return push_empty_tuple(m)
    if opcode == 0x74:  # TUPLE
        return pop_mark(m, &first) and make_tuple(m, first)
    if opcode == 0x85:  # TUPLE1
        return has(m, 1) and make_tuple(m, m.top - 1)
    if opcode == 0x86:  # TUPLE2
        return has(m, 2) and make_tuple(m, m.top - 2)
    if opcode == 0x87:  # TUPLE3
        return has(m, 3) and make_tuple(m, m.top - 3)
    if opcode == 0x64:  # DICT
        return pop_mark(m, &first) and gather_pairs(m, first)
    if opcode == 0x73:  # SETITEM
        return has(m, 3) and put_pairs(m, m.memory.stack + m.top - 3, m.top - 2)
    if opcode == 0x8F:  # EMPTY_SET
        return push_box(m, SET)
    if opcode == 0x30:  # POP
        if has(m, 1):
            m.top -= 1
            return True
        return pop_mark(m, &first)
    if opcode == 0x31:  # POP_MARK
        if not pop_mark(m, &first):
            return False
        m.top = first
        return True
    if opcode == 0x32:  # DUP
        if not has(m, 1):
            return False
        node = push(m, NONE)
        if node == NULL:
            return False
        node[0] = m.memory.stack[m.top - 2]
        return True
    if opcode == 0x70 or opcode == 0x67:  # PUT, GET
        return take_index(m, &number) and (memoize(m, number) if opcode == 0x70 else recall(m, number))
    if opcode == 0x72:  # LONG_BINPUT
        return take_number(m, 4, &number) and memoize(m, number)
    if opcode == 0x6A:  # LONG_BINGET
        return take_number(m, 4, &number) and recall(m, number)
    if opcode == 0x80:  # PROTO
        return m.at == 1 and take_number(m, 1, &number) and number <= 5
    if opcode == 0x95:  # FRAME
        if m.at < m.protocol_frame_end or not take_number(m, 8, &number) or number > m.size - m.at:
            return False
        m.protocol_frame_end = m.at + number
        return True
    return rarest(m, opcode)


cdef bint take_index(Machine* m, uint64_t* number) noexcept nogil:
    """Take the memo index of PUT and GET."""
    cdef const uint8_t* start
    cdef size_t size, index
    if not take_line(m, 20, &start, &size) or not 0 < size < 10:
        return False
    number[0] = 0
    for index in range(size):
        if not 48 <= start[index] <= 57:
            return False
        number[0] = number[0] * 10 + start[index] - 48
    return True


cdef bint gather(Machine* m, size_t first, bint frozen) noexcept nogil:
    """Do LIST or FROZENSET: replace the values from `first` on by a container of them."""
    cdef size_t top, index
    cdef Node* node
    cdef Box* box
    m.containers_left -= 1
    box = new_box(&m.memory, SET if frozen else LIST)
    if m.containers_left < 0 or box == NULL:
        return False
    if frozen:
        for index in range(first, m.top):
            if not is_hashable(&m.memory, m.memory.stack + index):
                return False
    box.hashable = frozen
    if not extend(&m.memory, &box.items, m.memory.stack + first, m.top - first):
        return False
    m.top = first
    node = push(m, SET if frozen else LIST)
    if node == NULL:
        return False
    node.value.box = m.memory.boxes_size - 1
    return True


cdef bint gather_pairs(Machine* m, size_t first) noexcept nogil:
    """Do DICT."""
    cdef Node target
    cdef Node* node
    m.containers_left -= 1
    if m.containers_left < 0 or new_box(&m.memory, DICT) == NULL:
        return False
    target.kind = DICT
    target.value.box = m.memory.boxes_size - 1
    if not put_pairs(m, &target, first):
        return False
    node = push(m, DICT)
    if node == NULL:
        return False
    node[0] = target
    return True


cdef void begin_machine(Machine* m, const uint8_t* data, size_t size) noexcept nogil:
    """Prepare for a frame."""
    forget(&m.memory)
    m.data = data
    m.size = size
    m.at = m.top = m.base = m.marks_size = m.protocol_frame_end = m.written.size = 0
    m.containers_left = MAX_CONTAINERS
    m.lines_left = MAX_LINES
    m.empty_tuple = -1
    m.is_lost = m.is_left = False
    m.copies_left = nodes_for(size)


cdef uint8_t[256] OPCODE_COSTS
for _opcode, _cost in opcodes.COSTS.items():
    OPCODE_COSTS[_opcode] = _cost


cdef bint run_machine(Machine* m, long count) noexcept nogil:
    """Read the rest of a frame of which at most `count` opcodes were read already.

    Return whether it is a whole pickle. Its value is then the only node on the stack.
    """
    cdef const uint8_t* data = m.data
    cdef size_t size = m.size
    cdef uint8_t opcode
    cdef uint64_t number
    cdef const uint8_t* start
    cdef size_t length, first = 0
    while count < MAX_OPCODES:
        if m.at >= size:
            return False
        opcode = data[m.at]
        m.at += 1
        count += 1
        if opcode == 0x58:  # BINUNICODE
            if not take_counted(m, 4, &start, &length) or not push_text(m, start, length):
                return False
            if m.at + 1 < size and data[m.at] == 0x71 and count < MAX_OPCODES:
                # A BINPUT nearly always follows: doing it here saves a turn of the loop.
                if not memoize(m, data[m.at + 1]):
                    return False
                m.at += 2
                count += 1
        elif opcode == 0x8C:  # SHORT_BINUNICODE
            if not take_counted(m, 1, &start, &length) or not push_text(m, start, length):
                return False
            if m.at < size and data[m.at] == 0x94 and count < MAX_OPCODES:
                if not memoize(m, m.memory.memo_count):
                    return False
                m.at += 1
                count += 1
        elif opcode == 0x71:  # BINPUT
            if m.at >= size or not memoize(m, data[m.at]):
                return False
            m.at += 1
        elif opcode == 0x94:  # MEMOIZE
            if not memoize(m, m.memory.memo_count):
                return False
        elif opcode == 0x68:  # BINGET
            if m.at >= size or not recall(m, data[m.at]):
                return False
            m.at += 1
        elif opcode == 0x4E:  # NONE
            if not push_node(m, NONE, 0, 0, 0):
                return False
        elif opcode == 0x4B:  # BININT1
            if m.at >= size or not push_integer(m, data[m.at]):
                return False
            m.at += 1
        elif opcode == 0x4D:  # BININT2
            if not take_number(m, 2, &number) or not push_integer(m, number):
                return False
        elif opcode == 0x47:  # BINFLOAT
            if not take_number(m, 8, &number):
                return False
            number = __builtin_bswap64(number)
            if not push_node(m, FLOAT, 0, 0, number):
                return False
        elif opcode == 0x55:  # SHORT_BINSTRING
            if not take_counted(m, 1, &start, &length) or not push_octets(m, start, length):
                return False
        elif opcode == 0x88 or opcode == 0x89:  # NEWTRUE, NEWFALSE
            if not push_node(m, BOOL, 0, 0, opcode == 0x88):
                return False
        elif opcode == 0x28:  # MARK
            if m.marks_size > MAX_DEPTH:
                return False
            m.marks[m.marks_size] = m.base
            m.marks_size += 1
            m.base = m.top
        elif opcode == 0x75:  # SETITEMS
            if not pop_mark(m, &first) or first == m.base:
                return False
            if not put_pairs(m, m.memory.stack + first - 1, first):
                return False
        elif opcode == 0x7D:  # EMPTY_DICT
            if not push_box(m, DICT):
                return False
        elif opcode == 0x2E:  # STOP
            return m.marks_size == 0 and m.top == 1 and m.at == size
        elif not rare(m, opcode):
            return False
        count += OPCODE_COSTS[opcode]
    return False
