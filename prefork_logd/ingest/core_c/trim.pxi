# Makes a smaller pickle of one that is too large: inputs/pickles/outline.py and trim.py in C.
#
# Owns the same as those two, with the same tables. Memory grows with the height of the stack and the number of
# attributes, which are bounded by the bytes of the frame, and is freed at the end.

cdef enum:
    HOLE_END = -100       # result of `next_opcode`: the frame ends at its hole
    NO_MEMORY = -101
    BROKEN_TRUNCATED = -1
    BROKEN_MALFORMED = -2
    BROKEN_UNSAFE = -3
    BROKEN_TRAILING = -4
    KIND_COUNTED = 16
    KIND_LINE = 32
    KIND_FORBIDDEN = 64
    EFFECT_PUSH = 0
    EFFECT_GET
    EFFECT_PUT
    EFFECT_MARK
    EFFECT_POP
    EFFECT_POP_MARK
    EFFECT_DUP
    EFFECT_COLLECT
    EFFECT_FILL
    EFFECT_PUT_ONE
    EFFECT_MAKE
    EFFECT_CALL
    EFFECT_BUILD
    EFFECT_CALL_MARKED
    EFFECT_PROTO
    EFFECT_FRAME
    EFFECT_STOP
    OP_CUT = 0xF0
    OP_REST = 0xF1
    OP_CUT_TEXT = 0xF2
    TRIM_INDEXES = 1 << 20
    SHORT_TEXT = 255
    OWN_SIZES = 16
    OWN_OF_A_SIZE = 8

cdef uint8_t[256] OPERAND_KINDS
cdef uint8_t[256] EFFECT_OF
cdef uint8_t[256] TAKES_OF
cdef uint8_t[256] WEIGHT_OF
cdef uint8_t[256] IS_KEY
cdef const char* OWN[OWN_SIZES][OWN_OF_A_SIZE]
cdef int[OWN_SIZES] OWN_COUNT
_OWN_TEXTS = sorted(trim_module.OWN_NAMES)


def _fill_outline():
    for code in range(256):
        OPERAND_KINDS[code] = outline.OPERANDS[code]
        EFFECT_OF[code] = outline.EFFECTS[code]
        TAKES_OF[code] = outline.TAKES[code]
        WEIGHT_OF[code] = outline.WEIGHTS[code]
        IS_KEY[code] = code in outline.TEXTS + outline.REFERENCES
    assert (outline.Effect.PUSH, outline.Effect.STOP) == (EFFECT_PUSH, EFFECT_STOP)
    for name in _OWN_TEXTS:
        OWN[len(name)][OWN_COUNT[len(name)]] = name
        OWN_COUNT[len(name)] += 1


_fill_outline()

cdef int MOST_LINE = outline.MAX_INTEGER_LINE
cdef int LINE_SQUARE_SHIFT = outline.LINE_SHIFT
cdef int64_t TRIM_HEAVY = trim_module.HEAVY
cdef int64_t TRIM_WORK = trim_module.WORK
cdef int64_t TRIM_GAP_WORK = trim_module.GAP_WORK
cdef int64_t TRIM_LEAST_SHARE = trim_module.LEAST_SHARE
cdef size_t TRIM_MARKS = trim_module.MOST_MARKS


cdef struct Place:
    uint32_t at
    uint32_t cost

cdef struct Attribute:
    uint32_t key
    uint32_t value
    uint32_t end
    uint32_t cost
    int64_t share

cdef struct Level:
    uint32_t real
    uint32_t skipped
    uint64_t rest
    uint8_t filled
    uint8_t kind
    bint is_written

cdef struct Trimmer:
    const uint8_t* data
    size_t size
    size_t hole
    uint64_t hole_bytes
    size_t start
    size_t end
    bint crosses
    Place* starts             # begin of each value on the stack
    size_t starts_room
    size_t height
    Place* marks
    size_t marks_room
    uint32_t* bases           # one more than there are marks
    size_t bases_room
    size_t marks_size
    Attribute* pairs
    size_t pairs_room
    size_t pairs_size
    int64_t opcodes
    Out out
    Level* levels
    size_t levels_room
    size_t levels_size
    uint32_t* memo            # by index: 0 unset, 1 skipped, 2 written, else the offset of a text plus 3
    size_t text_at
    size_t text_end
    size_t memo_count
    bint skims
    bint may_put
    bint ends_open
    int64_t left
    int64_t gap_left
    size_t index
    int phase
    size_t boundary           # offset at which the next key or value begins, or the present value ends
    uint64_t dropped
    size_t wanted


cdef int next_opcode(Trimmer* t, size_t at) noexcept nogil:
    """Read the opcode at an offset; return it, HOLE_END, or the reason why the frame is not a pickle."""
    cdef int opcode, kind, lines
    cdef uint64_t length = 0
    cdef size_t end
    cdef const uint8_t* found
    t.crosses = False
    if t.hole_bytes and at == t.hole:
        return HOLE_END
    if at >= t.size:
        return BROKEN_TRUNCATED
    opcode = t.data[at]
    kind = OPERAND_KINDS[opcode]
    t.start = end = at + 1
    if kind < KIND_COUNTED:
        end += kind
    elif kind < KIND_LINE:
        kind -= KIND_COUNTED
        t.start = at + 1 + kind
        if t.start > t.size:
            length = 0
        else:
            memcpy(&length, t.data + at + 1, kind)
        if length > <uint64_t> 1 << 40:
            length = <uint64_t> 1 << 40
        end = t.start + length
        if (
            t.hole_bytes and at < t.hole < end and t.start <= t.hole
            and (opcode == 0x58 or opcode == 0x54 or opcode == 0x55 or opcode == 0x8C or opcode == 0x8D)
            and end - t.hole >= t.hole_bytes and end - t.hole_bytes <= t.size
        ):
            end -= t.hole_bytes
            t.crosses = True
    elif kind < KIND_FORBIDDEN:
        for lines in range(kind - KIND_LINE + 1):
            found = <const uint8_t*> memchr(t.data + end, 10, t.size - end) if end < t.size else NULL
            if found == NULL:
                end = t.size + 1
                break
            end = found - t.data + 1
    else:
        return BROKEN_UNSAFE if kind == KIND_FORBIDDEN else BROKEN_MALFORMED
    if t.hole_bytes and at < t.hole < end and not t.crosses:
        return HOLE_END
    if end > t.size:
        return BROKEN_TRUNCATED
    t.end = end
    return opcode


cdef inline int simple_opcode(Trimmer* t, size_t at) noexcept nogil:
    """Do the same, faster, for opcodes of fixed length in a frame without a hole."""
    cdef int opcode, kind
    if t.hole_bytes or at >= t.size:
        return next_opcode(t, at)
    opcode = t.data[at]
    kind = OPERAND_KINDS[opcode]
    if kind >= KIND_COUNTED:
        return next_opcode(t, at)
    t.crosses = False
    t.start = at + 1
    t.end = at + 1 + kind
    return opcode if t.end <= t.size else BROKEN_TRUNCATED


cdef inline uint32_t cost_of(Trimmer* t, int opcode) noexcept nogil:
    cdef size_t length
    if opcode == 0x49 or opcode == 0x4C:
        length = t.end - t.start - 1
        if length <= <size_t> MOST_LINE:
            return WEIGHT_OF[opcode] + <uint32_t> (length * length >> LINE_SQUARE_SHIFT)
    return WEIGHT_OF[opcode]


cdef inline bint push_place(Trimmer* t, Place place) noexcept nogil:
    """Push a value. Values above the second mark are only counted, so their offsets are not kept."""
    if t.marks_size > 1:
        t.height += 1
        return True
    if t.height == t.starts_room and not enlarge(<void**> &t.starts, &t.starts_room, t.height + 1, sizeof(Place)):
        return False
    t.starts[t.height] = place
    t.height += 1
    return True


cdef bint add_pairs(Trimmer* t, size_t first, size_t stop, Place end) noexcept nogil:
    """Add the pairs of keys and values that are on the stack from `first` on."""
    cdef Attribute* pair
    cdef Place after
    while first + 1 < stop:
        if t.pairs_size == t.pairs_room and not enlarge(
            <void**> &t.pairs, &t.pairs_room, t.pairs_size + 1, sizeof(Attribute)
        ):
            return False
        pair = t.pairs + t.pairs_size
        t.pairs_size += 1
        after = t.starts[first + 2] if first + 2 < stop else end
        pair.key = t.starts[first].at
        pair.value = t.starts[first + 1].at
        pair.end = after.at
        pair.cost = after.cost - t.starts[first].cost
        first += 2
    return True


cdef bint add_open(Trimmer* t, Place end) noexcept nogil:
    """Add the pairs of a record that ends in the middle; the last value may be unfinished."""
    cdef size_t stop, last = 1
    if t.marks_size == 0 or t.bases[1] != 1:
        return True
    stop = t.bases[2] if t.marks_size > 1 else t.height
    if t.marks_size > 1 and stop % 2 == 0:
        t.height = stop
        t.marks_size = 1
        if not push_place(t, t.marks[1]):
            return False
        stop += 1
    while last < stop and IS_KEY[t.data[t.starts[last].at]]:
        last += 2
    if last > 1 + (stop - 1) // 2 * 2:
        last = 1 + (stop - 1) // 2 * 2
    return add_pairs(t, 1, last, end)


cdef int find_attributes(Trimmer* t) noexcept nogil:
    """Find the attributes of the frame's record (outline.outline); return 0, or the reason why that failed."""
    cdef size_t at = 0, height, base
    cdef int opcode, effect
    cdef Place here, first
    cdef uint32_t cost = 0
    first.at = first.cost = 0
    if not enlarge(<void**> &t.bases, &t.bases_room, 16, sizeof(uint32_t)):
        return NO_MEMORY
    t.bases[0] = 0
    while True:
        opcode = simple_opcode(t, at)
        here.at = <uint32_t> at
        here.cost = cost
        if opcode == HOLE_END:
            return 0 if add_open(t, here) else NO_MEMORY
        if opcode < 0:
            return opcode
        effect = EFFECT_OF[opcode]
        if effect == EFFECT_STOP:
            return 0 if t.end == t.size else BROKEN_TRAILING
        t.opcodes += WEIGHT_OF[opcode]
        cost += cost_of(t, opcode)
        base = t.bases[t.marks_size]
        if effect == EFFECT_POP and t.height == base:
            effect = EFFECT_POP_MARK
        if effect == EFFECT_PUSH or effect == EFFECT_GET or effect == EFFECT_DUP:
            if not push_place(t, here):
                return NO_MEMORY
        elif effect == EFFECT_MARK:
            if t.marks_size == t.marks_room and not enlarge(
                <void**> &t.marks, &t.marks_room, t.marks_size + 1, sizeof(Place)
            ):
                return NO_MEMORY
            if t.marks_size + 2 > t.bases_room and not enlarge(
                <void**> &t.bases, &t.bases_room, t.marks_size + 2, sizeof(uint32_t)
            ):
                return NO_MEMORY
            t.marks[t.marks_size] = here
            t.marks_size += 1
            t.bases[t.marks_size] = <uint32_t> t.height
        elif effect == EFFECT_POP:
            t.height -= 1
        elif effect == EFFECT_POP_MARK or effect == EFFECT_COLLECT or effect == EFFECT_FILL or effect == EFFECT_CALL_MARKED:
            if t.marks_size == 0:
                return BROKEN_MALFORMED
            height = base
            t.marks_size -= 1
            first = t.marks[t.marks_size]
            if effect == EFFECT_FILL and height == t.bases[t.marks_size]:
                return BROKEN_MALFORMED
            if t.marks_size == 0 and ((height == 1 and opcode == 0x75) or (height == 0 and opcode == 0x64)):
                if not add_pairs(t, height, t.height, here):
                    return NO_MEMORY
            t.height = height
            if (effect == EFFECT_COLLECT or effect == EFFECT_CALL_MARKED) and not push_place(t, first):
                return NO_MEMORY
        elif effect == EFFECT_PUT_ONE or effect == EFFECT_BUILD or effect == EFFECT_MAKE or effect == EFFECT_CALL:
            if t.height < base + TAKES_OF[opcode] + (effect == EFFECT_PUT_ONE or effect == EFFECT_BUILD):
                return BROKEN_MALFORMED
            height = t.height - TAKES_OF[opcode]
            if t.marks_size < 2:
                first = t.starts[height]
            if t.marks_size == 0 and height == 1 and opcode == 0x73:
                if not add_pairs(t, 1, t.height, here):
                    return NO_MEMORY
            t.height = height
            if (effect == EFFECT_MAKE or effect == EFFECT_CALL) and not push_place(t, first):
                return NO_MEMORY
        at = t.end


cdef int own_name(Trimmer* t, size_t at) noexcept nogil:
    """Return the number of LogRecord's attribute that the key at an offset names, -1 for others."""
    cdef uint64_t size = 0
    cdef size_t start
    cdef int index, width
    if t.data[at] == 0x58:
        width = 4
    elif t.data[at] == 0x55 or t.data[at] == 0x8C:
        width = 1
    else:
        return -1
    start = at + 1 + width
    if start > t.size:
        return -1
    memcpy(&size, t.data + at + 1, width)
    if size >= OWN_SIZES or size > t.size - start:
        return -1
    for index in range(OWN_COUNT[size]):
        if memcmp(OWN[size][index], t.data + start, size) == 0:
            return <int> size * OWN_OF_A_SIZE + index
    return -1


cdef void share_work(Trimmer* t) noexcept nogil:
    """Set the share of each attribute (trim._shares)."""
    cdef int64_t heavy = 0, light = 0, light_left, heavy_left, share = 0
    cdef bint[OWN_SIZES * OWN_OF_A_SIZE] seen
    cdef bint keeps
    cdef int name
    cdef size_t index
    cdef Attribute* pair
    memset(seen, 0, sizeof(seen))
    for index in range(t.pairs_size):
        if t.pairs[index].cost > TRIM_HEAVY:
            heavy += 1
        else:
            light += t.pairs[index].cost
    light_left = min(light, TRIM_WORK // 2 if heavy else TRIM_WORK)
    heavy_left = TRIM_WORK - light_left
    if heavy:
        share = max(TRIM_LEAST_SHARE, heavy_left // heavy)
    for index in range(t.pairs_size):
        pair = t.pairs + index
        name = own_name(t, pair.key)
        keeps = name >= 0 and not seen[name]
        if name >= 0:
            seen[name] = True
        if pair.cost > TRIM_HEAVY:
            keeps = keeps or heavy_left >= share
            if keeps:
                heavy_left -= share
            pair.share = share if keeps else -1
        else:
            keeps = keeps or light_left >= pair.cost
            if keeps:
                light_left -= pair.cost
            pair.share = <int64_t> pair.cost if keeps else -1


cdef inline Level* top_level(Trimmer* t) noexcept nogil:
    return t.levels + t.levels_size - 1


cdef bint push_level(Trimmer* t, bint is_written) noexcept nogil:
    if t.levels_size == t.levels_room and not enlarge(
        <void**> &t.levels, &t.levels_room, t.levels_size + 1, sizeof(Level)
    ):
        return False
    memset(t.levels + t.levels_size, 0, sizeof(Level))
    t.levels[t.levels_size].is_written = is_written
    t.levels_size += 1
    return True


cdef bint put_many(Trimmer* t, uint8_t octet, size_t count) noexcept nogil:
    while count:
        if not put_byte(&t.out, octet):
            return False
        count -= 1
    return True


cdef bint put_number4(Trimmer* t, uint8_t opcode, uint64_t number) noexcept nogil:
    """Write an opcode with an operand of four bytes."""
    cdef uint32_t operand = <uint32_t> min(number, <uint64_t> 0xFFFFFFFFU)
    return put_byte(&t.out, opcode) and put(&t.out, <const uint8_t*> &operand, 4)


cdef bint flush_rest(Trimmer* t) noexcept nogil:
    """Write the number of values that were left out of the topmost written container."""
    cdef Level* top = top_level(t)
    cdef uint64_t rest = top.rest
    if rest == 0:
        return True
    top.rest = 0
    if top.filled == 0x75 or top.filled == 0x73:
        return put_byte(&t.out, OP_CUT) and put_number4(t, OP_REST, rest) and put_byte(&t.out, 0x73)
    if top.filled == 0x90:
        return put_byte(&t.out, 0x28) and put_number4(t, OP_REST, rest) and put_byte(&t.out, 0x90)
    return put_number4(t, OP_REST, rest) and put_byte(&t.out, 0x61)


cdef void leave_out(Trimmer* t, uint8_t opcode, uint64_t count) noexcept nogil:
    """Count the values that `opcode` puts into the topmost container."""
    cdef Level* top = top_level(t)
    if top.skipped or count == 0:
        return
    if top.rest == 0:
        top.filled = opcode
    top.rest += count // 2 if opcode == 0x75 or opcode == 0x73 else count


cdef int settle_level(Trimmer* t) noexcept nogil:
    """Write the opcodes that are needed before the next value; return 0, or the reason why that failed."""
    cdef Level* top = top_level(t)
    if t.levels_size > 2 or (t.levels_size == 2 and t.levels[0].skipped):
        return BROKEN_MALFORMED
    if not top.is_written:
        if not put_byte(&t.out, 0x28):
            return NO_MEMORY
        top.is_written = True
    if top.skipped > 1:
        return BROKEN_MALFORMED
    if not flush_rest(t):
        return NO_MEMORY
    if top.skipped:
        if not put_byte(&t.out, OP_CUT):
            return NO_MEMORY
        top.real += 1
        top.skipped = top.kind = 0
    t.skims = False
    return 0


cdef int enter_attribute(Trimmer* t, size_t at) noexcept nogil:
    """Begin and end the attributes that begin and end at this offset; return 0, or the reason why that failed."""
    cdef Attribute* pair
    cdef int found
    while t.index < t.pairs_size:
        pair = t.pairs + t.index
        if t.phase == 0 and at == pair.key:
            t.phase = 1
            t.gap_left = t.left
            if pair.share >= 0:
                found = settle_level(t)
                if found:
                    return found
            t.left = pair.share
            t.skims = pair.share < 0
        elif t.phase == 1 and at == pair.value:
            t.phase = 2
            if pair.share >= 0:
                found = settle_level(t)
                if found:
                    return found
                t.skims = t.left < 0
                t.wanted = top_level(t).real + 1
        elif t.phase == 2 and at == pair.end:
            if pair.share < 0:
                t.dropped += 1
                if t.data[pair.end] != 0x73:
                    top_level(t).skipped = 0
            else:
                found = settle_level(t)
                if found:
                    return found
            t.left = t.gap_left
            t.skims = t.left < 0
            t.phase = 0
            t.index += 1
        else:
            t.boundary = pair.key if t.phase == 0 else pair.value if t.phase == 1 else pair.end
            return 0
    t.boundary = t.size
    return 0


cdef bint put_holed(Trimmer* t) noexcept nogil:
    """Write a text with a hole (trim.joined)."""
    cdef size_t head_end = t.hole, tail = t.hole, size
    cdef uint64_t missing
    cdef char[64] note
    while head_end > t.start and head_end < t.size and t.data[head_end - 1] & 0xC0 == 0x80:
        head_end -= 1
    if head_end > t.start and t.data[head_end - 1] >= 0xC0:
        head_end -= 1
    else:
        head_end = t.hole
    while tail < t.end and t.data[tail] & 0xC0 == 0x80:
        tail += 1
    missing = t.hole_bytes + (t.hole - head_end) + (tail - t.hole)
    snprintf(note, 64, b"... (%llu bytes cut) ...", <unsigned long long> missing)
    size = strlen(note)
    return (
        put_number4(t, OP_CUT_TEXT, head_end - t.start + size + (t.end - tail))
        and put(&t.out, t.data + t.start, head_end - t.start)
        and put(&t.out, <const uint8_t*> note, size)
        and put(&t.out, t.data + tail, t.end - tail)
    )


cdef inline bint copy_opcode(Trimmer* t, size_t at) noexcept nogil:
    return put(&t.out, t.data + at, t.end - at)


cdef bint read_index(Trimmer* t, int opcode, uint64_t* number) noexcept nogil:
    """Read the operand of an opcode of the memo."""
    cdef size_t at = t.start, end = t.end
    number[0] = 0
    if opcode == 0x67 or opcode == 0x70:
        if not 1 < end - at < 20:
            return False
        while at + 1 < end:
            if not 48 <= t.data[at] <= 57:
                return False
            number[0] = number[0] * 10 + t.data[at] - 48
            at += 1
        return True
    memcpy(number, t.data + at, end - at)
    return True


cdef inline void note_text(Trimmer* t, size_t at, int opcode) noexcept nogil:
    """Keep the latest short text that was left out."""
    if (
        t.end - t.start <= SHORT_TEXT and not t.crosses
        and (opcode == 0x58 or opcode == 0x54 or opcode == 0x55 or opcode == 0x56 or opcode == 0x8C or opcode == 0x8D)
    ):
        t.text_at = at
        t.text_end = t.end


cdef bint put_memo(Trimmer* t, uint64_t number) noexcept nogil:
    """Write the opcode that puts the topmost value into the memo."""
    if number < 256:
        return put_byte(&t.out, 0x71) and put_byte(&t.out, <uint8_t> number)
    return put_number4(t, 0x72, number)


cdef bint put_text_again(Trimmer* t, size_t at, uint64_t number) noexcept nogil:
    """Write a text that was left out before, and put it into the memo."""
    cdef size_t start = t.start, end = t.end
    cdef bint done
    next_opcode(t, at)
    done = put(&t.out, t.data + at, t.end - at) and put_memo(t, number)
    t.start = start
    t.end = end
    t.crosses = False
    t.memo[number] = 2
    return done


cdef int push_value(Trimmer* t, size_t at, int opcode, int effect) noexcept nogil:
    cdef Level* top = top_level(t)
    cdef uint32_t state = 2
    cdef uint64_t number = 0
    if effect == EFFECT_GET:
        if not read_index(t, opcode, &number):
            return BROKEN_MALFORMED
        if number < TRIM_INDEXES and t.memo[number] == 0:
            return BROKEN_MALFORMED
        state = t.memo[number] if number < TRIM_INDEXES else 1
    elif effect == EFFECT_DUP and top.real + top.skipped == 0:
        return BROKEN_MALFORMED
    if t.skims:
        top.skipped += 1
        note_text(t, at, opcode)
        return 0
    top.real += 1
    top.kind = opcode
    if state == 1:
        return 0 if put_byte(&t.out, OP_CUT) else NO_MEMORY
    if state > 2:
        return 0 if put_text_again(t, state - 3, number) else NO_MEMORY
    if t.crosses:
        return 0 if put_holed(t) else NO_MEMORY
    return 0 if copy_opcode(t, at) else NO_MEMORY


cdef int memoize_value(Trimmer* t, size_t at, int opcode) noexcept nogil:
    cdef Level* top = top_level(t)
    cdef uint64_t number = t.memo_count
    cdef bint writes
    if top.real + top.skipped == 0:
        return BROKEN_MALFORMED
    if opcode != 0x94 and not read_index(t, opcode, &number):
        return BROKEN_MALFORMED
    if number >= TRIM_INDEXES:
        return 0
    writes = top.skipped == 0 and (t.may_put or not t.skims)
    if t.memo[number] == 0:
        t.memo_count += 1
    t.memo[number] = 2 if writes else 3 + <uint32_t> t.text_at if at == t.text_end else 1
    t.may_put = False
    return 0 if not writes or put_memo(t, number) else NO_MEMORY


cdef int end_level(Trimmer* t, size_t at, int opcode, int effect) noexcept nogil:
    """Remove a mark and the values above it."""
    cdef Level level
    cdef Level* top
    cdef uint64_t left
    cdef bint makes = effect == EFFECT_COLLECT or effect == EFFECT_CALL_MARKED
    if effect != EFFECT_POP_MARK and not flush_rest(t):
        return NO_MEMORY
    level = top_level(t)[0]
    t.levels_size -= 1
    if t.levels_size == 0:
        return BROKEN_MALFORMED
    top = top_level(t)
    if effect == EFFECT_FILL and top.real + top.skipped == 0:
        return BROKEN_MALFORMED
    if not level.is_written:
        if makes:
            top.skipped += 1
        elif effect == EFFECT_FILL:
            leave_out(t, opcode, level.skipped)
        return 0
    if opcode == 0x6F and level.real == 0:
        effect = EFFECT_POP_MARK
        top.skipped += 1
    if effect == EFFECT_POP_MARK:
        return 0 if put_byte(&t.out, 0x31 if opcode != 0x30 else 0x30) else NO_MEMORY
    left = level.skipped
    if (opcode == 0x75 or opcode == 0x64) and level.real % 2 and left:
        if not put_byte(&t.out, OP_CUT):
            return NO_MEMORY
        left -= 1
    if opcode == 0x64:
        if left > 1 and not (put_byte(&t.out, OP_CUT) and put_number4(t, OP_REST, left // 2)):
            return NO_MEMORY
    elif makes and left and not put_number4(t, OP_REST, left):
        return NO_MEMORY
    if not copy_opcode(t, at):
        return NO_MEMORY
    if makes:
        top.real += 1
        top.kind = opcode
        t.may_put = True
    else:
        leave_out(t, opcode, left)
    return 0


cdef int combine_values(Trimmer* t, size_t at, int opcode, int effect) noexcept nogil:
    """Take the topmost values, and put one in their place, or put them into the value below."""
    cdef Level* top = top_level(t)
    cdef uint32_t count = TAKES_OF[opcode]
    cdef uint32_t skipped = min(top.skipped, count)
    cdef uint32_t real = count - skipped
    cdef bint puts = effect == EFFECT_PUT_ONE or effect == EFFECT_BUILD
    if top.real < real or top.real + top.skipped < count + puts:
        return BROKEN_MALFORMED
    top.skipped -= skipped
    if real and not flush_rest(t):
        return NO_MEMORY
    top.real -= real
    if puts and not real:
        if opcode == 0x73 and t.levels_size == 1 and top.real == 1:
            pass
        elif effect == EFFECT_PUT_ONE:
            leave_out(t, opcode, count)
        elif top.skipped == 0 and not (put_byte(&t.out, OP_CUT) and put_byte(&t.out, 0x62)):
            return NO_MEMORY
    elif (effect == EFFECT_CALL and skipped) or (opcode == 0x85 and t.skims and real) or not real:
        if not put_many(t, 0x30, real):
            return NO_MEMORY
        top.skipped += 1
    else:
        if not put_many(t, OP_CUT, skipped) or not copy_opcode(t, at):
            return NO_MEMORY
        top.kind = 0
        if not puts:
            top.real += 1
            t.may_put = True
    return 0


cdef int trim_opcode(Trimmer* t, size_t at, int opcode, int effect) noexcept nogil:
    """Do an opcode; return 0, or the reason why that failed."""
    cdef Level* top = top_level(t)
    if effect == EFFECT_PUSH or effect == EFFECT_GET or effect == EFFECT_DUP:
        return push_value(t, at, opcode, effect)
    if effect == EFFECT_PUT:
        return memoize_value(t, at, opcode)
    if effect == EFFECT_MARK:
        if t.levels_size > TRIM_MARKS:
            t.skims = True
        if not t.skims and not copy_opcode(t, at):
            return NO_MEMORY
        return 0 if push_level(t, not t.skims) else NO_MEMORY
    if effect == EFFECT_POP:
        if top.skipped:
            top.skipped -= 1
            return 0
        top.real -= 1
        top.rest = 0
        top.kind = 0
        return 0 if put_byte(&t.out, 0x30) else NO_MEMORY
    if effect == EFFECT_POP_MARK or effect == EFFECT_COLLECT or effect == EFFECT_FILL or effect == EFFECT_CALL_MARKED:
        return end_level(t, at, opcode, effect)
    if effect == EFFECT_PROTO:
        if at:
            return BROKEN_MALFORMED
        return 0 if copy_opcode(t, at) else NO_MEMORY
    if effect == EFFECT_FRAME:
        return 0
    return combine_values(t, at, opcode, effect)


cdef bint close_open(Trimmer* t) noexcept nogil:
    """End every container of a frame that ends at its hole."""
    cdef Level level
    cdef Level* top
    cdef size_t wanted
    while t.levels_size > 2:
        level = top_level(t)[0]
        t.levels_size -= 1
        top = top_level(t)
        if not level.is_written:
            continue
        if not put_byte(&t.out, OP_CUT):
            return False
        if top.kind == 0x7D:
            if (level.real % 2 == 0 and not put_byte(&t.out, OP_CUT)) or not put_byte(&t.out, 0x75):
                return False
        elif top.kind == 0x5D or top.kind == 0x8F:
            if not put_byte(&t.out, 0x65 if top.kind == 0x5D else 0x90):
                return False
        else:
            if not put_byte(&t.out, 0x74):
                return False
            top.real += 1
            top.kind = 0x74
    top = top_level(t)
    if t.levels_size == 2:
        if top.is_written:
            if not flush_rest(t):
                return False
            wanted = top.real // 2 * 2
            if t.phase == 2 and t.pairs[t.index].share >= 0:
                wanted = t.wanted
            if top.real > wanted and not put_many(t, 0x30, top.real - wanted):
                return False
            if wanted > top.real and not put_many(t, OP_CUT, wanted - top.real):
                return False
            if not put_byte(&t.out, 0x75):
                return False
        t.levels_size -= 1
    elif top.real > 1 and not put_many(t, 0x30, top.real - 1):
        return False
    top_level(t).real = 1
    t.ends_open = True
    return True


cdef bint end_record(Trimmer* t) noexcept nogil:
    """Write the number of attributes that were left out, and STOP."""
    cdef char[64] note
    cdef size_t size
    if t.levels_size == 1 and t.levels[0].real == 1:
        if t.ends_open:
            snprintf(note, 64, b"%llu bytes cut", <unsigned long long> t.hole_bytes)
            size = strlen(note)
            if not (
                put_byte(&t.out, OP_CUT) and put_number4(t, OP_CUT_TEXT, size)
                and put(&t.out, <const uint8_t*> note, size) and put_byte(&t.out, 0x73)
            ):
                return False
        elif t.dropped:
            if not (put_byte(&t.out, OP_CUT) and put_number4(t, OP_REST, t.dropped) and put_byte(&t.out, 0x73)):
                return False
    return put_byte(&t.out, 0x2E)


cdef int run_trimmer(Trimmer* t) noexcept nogil:
    """Write the smaller pickle; return 0, or the reason why that failed."""
    cdef size_t at = 0
    cdef int opcode, effect, found
    cdef Level* top
    share_work(t)
    t.boundary = t.pairs[0].key if t.pairs_size else t.size
    t.left = t.gap_left = TRIM_GAP_WORK
    t.memo = <uint32_t*> calloc(TRIM_INDEXES, sizeof(uint32_t))
    if t.memo == NULL or not push_level(t, True):
        return NO_MEMORY
    while True:
        opcode = simple_opcode(t, at)
        if opcode == HOLE_END:
            if not close_open(t):
                return NO_MEMORY
            break
        if opcode < 0:
            return opcode
        if at == t.boundary:
            found = enter_attribute(t, at)
            if found:
                return found
        effect = EFFECT_OF[opcode]
        if effect == EFFECT_STOP:
            break
        if t.skims and effect == EFFECT_PUSH:
            top_level(t).skipped += 1
            note_text(t, at, opcode)
            at = t.end
            continue
        if not t.skims:
            t.left -= cost_of(t, opcode)
            t.skims = t.left < 0
        top = top_level(t)
        if effect == EFFECT_POP and top.real == 0 and top.skipped == 0:
            effect = EFFECT_POP_MARK
        found = trim_opcode(t, at, opcode, effect)
        if found:
            return found
        at = t.end
    return 0 if end_record(t) else NO_MEMORY


def trim(bytes frame not None, int64_t limit, Py_ssize_t hole, uint64_t hole_bytes):
    """Return what trim.trim_in_python returns."""
    cdef Trimmer t
    cdef int found
    memset(&t, 0, sizeof(Trimmer))
    t.data = <const uint8_t*> <const char*> frame
    t.size = len(frame)
    t.hole = hole
    t.hole_bytes = hole_bytes
    if t.size > MOST_BYTES:
        raise ValueError("a frame that is too large")
    try:
        with nogil:
            found = find_attributes(&t)
        if found == 0 and hole_bytes == 0 and t.opcodes < limit:
            return 0
        if found == 0:
            with nogil:
                found = run_trimmer(&t)
        if found == NO_MEMORY:
            raise MemoryError
        return found if found else PyBytes_FromStringAndSize(<const char*> t.out.data, t.out.size)
    finally:
        free(t.starts)
        free(t.marks)
        free(t.bases)
        free(t.pairs)
        free(t.levels)
        free(t.memo)
        free(t.out.data)
