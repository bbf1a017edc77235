# Recognizes parts of a record that came before, octet for octet: the attributes of a line of code, or of a thread.
#
# Owns the values and the JSON of these parts, which are called stretches. A service logs from few places and threads,
# so half of a record's keys have values that were read before. A stretch is measured by its lengths and compared as a
# whole with earlier ones; then its JSON is copied. It is used only if it is equal to the last octet, memo numbers
# included, and kept only if it refers to nothing outside itself. Its values are neither on the stack nor in the memo: a
# record that refers to them later is read again, key by key.
#
# A fleet has more places than fit the processor's caches, and waiting for a stretch takes longer than reading it. So
# while there are many, each is read by its layout: the part between the values is the same in all records of one
# service, and is compared at once. A stretch that comes for the first time is read so, too.

cdef enum:
    NO_GROUP = 0
    SITE = 1                 # the place in the code; its fields stand on both sides of the message in a line
    ORIGIN = 2               # the thread and process
    STRETCHES = 2048
    STRETCH_WAYS = 4         # places for one value of the hash
    MOST_CREDIT = 4
    STRETCH_SEEN_ONCE = 4096
    STRETCH_BYTES = 448      # bytes of a frame
    STRETCH_JSON = 528       # a stretch has 1,280 bytes in all
    STRETCH_PAIRS = 12
    UNFIT = 64               # after a record had to be read twice, so many of its site are read key by key

cdef enum:
    SITE_SLOTS = (
        1 << ARGS | 1 << LEVELNAME | 1 << LEVELNO | 1 << PATHNAME | 1 << FILENAME | 1 << MODULE | 1 << EXC_INFO
        | 1 << EXC_TEXT | 1 << STACK_INFO | 1 << LINENO | 1 << FUNCNAME
    )
    # A stretch has all of these; the other attributes of a site have no value.
    SITE_STORED = 1 << LEVELNAME | 1 << LEVELNO | 1 << PATHNAME | 1 << FILENAME | 1 << MODULE | 1 << LINENO | 1 << FUNCNAME
    ORIGIN_SLOTS = 1 << PROCESS | 1 << PROCESSNAME | 1 << THREAD | 1 << THREADNAME

cdef enum:
    NO_STEP = 0
    TEXT_STEP = 1            # BINUNICODE
    NUMBER_STEP = 2          # BININT1, BININT2 and BININT
    OCTETS_STEP = 3          # SHORT_BINSTRING
    LINE_STEP = 4            # LONG, and INT of Python 2
    SHORT_STEP = 5           # SHORT_BINUNICODE
    LONG_STEP = 6            # LONG1, which has a length of one octet, as the kinds before and OCTETS_STEP
    LAYOUTS = 8              # for each group; they differ by the service's Python, and by what came before and is shared
    UNFIT_LAYOUT = 8

cdef struct Step:
    # A part of a layout: octets that do not differ, and a value.
    uint32_t fixed           # number of the octets; but for numbers, the last one is the value's opcode
    uint32_t needed          # octets that must be there behind the value: the next step's and the beginning of its value
    int32_t kind
    int32_t slot             # of the value

cdef struct Layout:
    # The measure of a stretch: its steps, and octets that do not differ behind them.
    uint32_t first           # number of its first key; 0: the place is empty
    uint32_t last            # number of its last key
    uint32_t count           # number of steps
    uint32_t needed          # octets that must be there before the first value is read
    uint32_t rest            # number of octets behind the last value
    Step[STRETCH_PAIRS] steps
    uint8_t[STRETCH_BYTES] octets  # that do not differ, end to end
    bint is_direct           # whether read_by_layout can read it: each field that is stored has a value of its own
    uint32_t memo_start      # the memo's size before it
    uint32_t memo_count      # values that it puts into the memo
    uint32_t pairs
    uint32_t cost            # of its keys in the budget on text
    uint32_t unfit           # number of records that it is not used for

cdef struct Stretch:
    # The parts that a line of JSON needs stand first, in a row.
    uint32_t size            # octets in a frame
    uint32_t first           # numbers of its keys (flat.pxi)
    uint32_t last
    uint32_t memo_start      # the memo's size before and behind it
    uint32_t memo_end
    uint32_t pairs
    uint32_t cost            # its part of the budget on text
    uint32_t before          # octets of its JSON before the message
    uint32_t json_size
    uint32_t unfit           # number of records that it is not used for
    int32_t group
    uint32_t epoch           # of its latest use
    uint32_t has_level
    uint32_t searched        # number of the Secrets that found no form in its texts
    Node level
    uint8_t[STRETCH_BYTES + STRETCH_JSON] octets   # of the frame, and behind them its JSON
    Node[STRETCH_PAIRS] nodes  # its values; texts refer to offsets in the stretch
    int[STRETCH_PAIRS] slots

cdef Stretch[STRETCHES] STRETCH
cdef uint64_t[STRETCHES] STRETCH_HASH           # hash of each stretch; 0: the place is empty
cdef uint8_t[STRETCHES] STRETCH_CREDIT          # how many new ones each outlasts: apart, so that a look takes no fetch
cdef uint64_t[STRETCH_SEEN_ONCE] STRETCH_SEEN   # hashes that came once: a stretch is kept when it comes again
cdef uint32_t stretch_turn = 0
cdef uint64_t stretches_used = 0
cdef uint64_t layouts_used = 0
cdef Layout[3][LAYOUTS] LAYOUT
cdef uint32_t[3] layout_turn
cdef uint8_t[256] NUMBER_BYTES
cdef uint32_t[256] NUMBER_BITS
NUMBER_BYTES[0x4A], NUMBER_BYTES[0x4B], NUMBER_BYTES[0x4D] = 5, 2, 3
NUMBER_BITS[0x4A], NUMBER_BITS[0x4B], NUMBER_BITS[0x4D] = 0xFFFFFFFF, 0xFF, 0xFFFF
cdef Stretch* latest_origin = NULL  # most records of a connection are of one thread

cdef enum:
    EPOCH = 2048             # sites
    CACHED_STRETCHES = 256   # different ones of a group in an epoch: more are many
    EPOCHS_OF_MANY = 31      # before stretches are counted again

cdef struct Census:
    # Whether a group has many different stretches.
    bint are_many            # in the epoch in which they were last counted
    uint32_t met             # so far, in the present epoch
    uint32_t epochs_left     # before they are counted again

cdef Census[3] CENSUS        # of each group
cdef uint32_t epoch = 1
cdef uint32_t sites_left = EPOCH    # before the epoch ends
cdef Out STRETCH_ROOM
STRETCH_ROOM.data = NULL
STRETCH_ROOM.size = STRETCH_ROOM.room = 0


cdef inline uint32_t group_of(int slot) noexcept nogil:
    """Return the group of an attribute."""
    if slot < 0:
        return NO_GROUP
    return SITE if SITE_SLOTS & (1 << slot) else ORIGIN if ORIGIN_SLOTS & (1 << slot) else NO_GROUP


cdef void forget_stretches() noexcept nogil:
    """Forget all stretches: from now on the numbers of keys mean other keys."""
    global latest_origin
    latest_origin = NULL
    expect_stretches(False)
    memset(STRETCH_HASH, 0, sizeof(STRETCH_HASH))
    memset(LAYOUT, 0, sizeof(LAYOUT))
    memset(layout_turn, 0, sizeof(layout_turn))
    memset(SHAPE, 0, sizeof(SHAPE))
    memset(SHAPES_UNUSED, 0, sizeof(SHAPES_UNUSED))


cdef void expect_stretches(bint many) noexcept nogil:
    """Begin an epoch behind one with many stretches of each group, or with a few."""
    global sites_left, epoch
    cdef int group
    sites_left = EPOCH
    epoch += 1
    for group in range(SITE, ORIGIN + 1):
        CENSUS[group].are_many = many
        CENSUS[group].met = 0
        CENSUS[group].epochs_left = EPOCHS_OF_MANY


cdef void end_epoch() noexcept nogil:
    """Decide of each group whether it has many stretches. What is read by its layout is not counted."""
    global sites_left, epoch
    cdef int group
    cdef Census* census
    sites_left = EPOCH
    epoch += 1
    for group in range(SITE, ORIGIN + 1):
        census = CENSUS + group
        if census.are_many:
            census.epochs_left -= 1
            census.are_many = census.epochs_left != 0
        elif census.met >= CACHED_STRETCHES:
            census.are_many = True
            census.epochs_left = EPOCHS_OF_MANY
        census.met = 0


cdef inline void count_stretch(Stretch* stretch) noexcept nogil:
    """Count a stretch that is used, if it is the first time in this epoch."""
    if stretch.epoch != epoch:
        stretch.epoch = epoch
        CENSUS[stretch.group].met += 1


cdef inline size_t read_step(const uint8_t* data, size_t at, size_t size, int kind) noexcept nogil:
    """Return the end of a value of this kind, which is at `at`, behind its opcode; 0 if it cannot be one.

    A number begins with its opcode.
    """
    cdef uint32_t length
    cdef const uint8_t* end
    if at + 4 > size:
        return 0
    if kind == TEXT_STEP:
        memcpy(&length, data + at, 4)
        if length > STRETCH_BYTES:
            return 0
        at += 4 + <size_t> length
    elif kind == NUMBER_STEP:
        at += NUMBER_BYTES[data[at]]
    elif kind != LINE_STEP:
        at += 1 + <size_t> data[at]
    elif size - at >= 32:
        length = newline16(data + at)
        if length == 16:
            length += newline16(data + at + 16)
        if length >= 24:
            return 0
        at += length + 1
    else:
        length = 24 if size - at > 24 else <uint32_t> (size - at)
        end = <const uint8_t*> memchr(data + at, 10, length)
        if end == NULL:
            return 0
        at = end - data + 1
    return at


cdef inline bint follow_layout(
    const uint8_t* data, size_t from_at, size_t frame_size, const Layout* layout, size_t* size, uint64_t* hash
) noexcept nogil:
    """Set the length and the hash of the stretch at `from_at`, if it has this layout; return whether it may."""
    cdef const uint8_t* start = data + from_at
    cdef const uint8_t* at = start
    cdef const uint8_t* end = data + frame_size
    cdef const Step* step = &layout.steps[0]
    cdef const Step* last = step + layout.count
    cdef uint64_t mixed = layout.first
    cdef uint32_t length
    cdef size_t place
    if end - at < <ptrdiff_t> layout.needed:
        return False
    while step < last:
        at += step.fixed
        if step.kind == TEXT_STEP:
            memcpy(&length, at, 4)
            if length > STRETCH_BYTES:
                return False
            at += 4 + <size_t> length
        elif step.kind == NUMBER_STEP:
            at += NUMBER_BYTES[at[0]]
        elif step.kind != LINE_STEP:
            at += 1 + <size_t> at[0]
        else:
            place = read_step(data, at - data, frame_size, step.kind)
            if place == 0:
                return False
            at = data + place
        if end - at < <ptrdiff_t> step.needed:
            return False
        # There are so many octets before: the shortest of these keys has four letters.
        mixed = ((mixed << 29 | mixed >> 35) ^ load8(at - 8)) * 0x9E3779B97F4A7C15ULL
        step += 1
    at += layout.rest
    if at - start > STRETCH_BYTES:
        return False
    size[0] = at - start
    hash[0] = (mixed ^ mixed >> 32) | 1
    return True


cdef inline bint may_fit(int slot, uint8_t opcode) noexcept nogil:
    """Tell whether a value with this opcode may fit its field, and read_by_layout reads it."""
    cdef bint is_text = opcode == 0x58 or opcode == 0x8C or opcode == 0x55
    return is_text == ((1 << slot & INTEGERS) == 0)


cdef bint learn_layout(Machine* m, uint32_t key, Layout* layout) noexcept nogil:
    """Find the layout of the stretch that begins here with `key`; return whether it can be kept."""
    cdef const uint8_t* data = m.data
    cdef size_t at = m.at, fixed, start, used = 0
    cdef size_t memo = m.memory.memo_end
    cdef uint32_t group = FLAT[key].group
    cdef int kind
    cdef uint32_t stored = 0
    cdef uint8_t opcode
    cdef Step* step = layout.steps
    layout.first = layout.last = key
    layout.count = layout.pairs = layout.cost = layout.unfit = 0
    layout.is_direct = True
    layout.memo_start = <uint32_t> memo
    fixed = at
    while True:
        layout.pairs += 1
        layout.cost += 2 * (FLAT[key].size - FLAT[key].head)
        at += FLAT[key].size
        if at + 4 > m.size:
            return False
        if data[at] == 0x71:  # BINPUT
            if data[at + 1] != memo:
                return False
            memo += 1
            at += 2
        start = at
        if at + 4 > m.size:
            return False
        opcode = data[at]
        kind = NO_STEP
        if opcode == 0x58:  # BINUNICODE
            kind = TEXT_STEP
        elif opcode == 0x4E:  # NONE
            at += 1
        elif NUMBER_BYTES[opcode]:
            kind = NUMBER_STEP
        elif opcode == 0x4C or opcode == 0x49:  # LONG, INT
            kind = LINE_STEP
        elif opcode == 0x55:  # SHORT_BINSTRING
            kind = OCTETS_STEP
        elif opcode == 0x8C:  # SHORT_BINUNICODE
            kind = SHORT_STEP
        elif opcode == 0x8A:  # LONG1
            kind = LONG_STEP
        elif opcode == 0x68 and data[at + 1] >= m.memory.memo_end:  # BINGET, of something in this stretch
            layout.is_direct = False
            at += 2
        else:
            return False
        if kind != NO_STEP:
            start += kind != NUMBER_STEP
            if layout.count == STRETCH_PAIRS or start - m.at > STRETCH_BYTES:
                return False
            step.fixed = <uint32_t> (start - fixed)
            step.kind = kind
            step.slot = FLAT[key].slot
            memcpy(layout.octets + used, data + fixed, step.fixed)
            used += step.fixed
            step += 1
            layout.count += 1
            stored |= 1 << FLAT[key].slot
            layout.is_direct = layout.is_direct and may_fit(FLAT[key].slot, opcode)
            at = fixed = read_step(data, start, m.size, kind)
            if at == 0:
                return False
        # A BINPUT may follow, and `layout.octets` has room for it, too.
        if at + 2 > m.size or at + 2 - m.at > STRETCH_BYTES:
            return False
        if data[at] == 0x71:
            if data[at + 1] != memo:
                return False
            memo += 1
            at += 2
        key = next_key(key, data + at, m.size - at)
        if not key or FLAT[key].group != group:
            break
        layout.last = key
    layout.rest = <uint32_t> (at - fixed)
    memcpy(layout.octets + used, data + fixed, layout.rest)
    layout.needed = settle_needs(layout.steps, layout.count, layout.rest)
    layout.memo_count = <uint32_t> memo - layout.memo_start
    layout.is_direct = layout.is_direct and stored == (SITE_STORED if group == SITE else ORIGIN_SLOTS)
    return layout.count > 0 and memo <= 256


cdef uint32_t settle_needs(Step* steps, uint32_t count, uint32_t rest) noexcept nogil:
    """Set the numbers of octets that must be there, so that no look at what follows is needed before it is read.

    Return the number that the first step needs; `rest` octets are behind the last one.
    """
    cdef uint32_t needed = rest + 2
    cdef uint32_t index = count
    while index:
        index -= 1
        steps[index].needed = needed
        # The length of a text; or a number's opcode and octet, and SETITEMS and STOP.
        needed = steps[index].fixed + 4
    return needed


cdef inline bint same_layout(const Layout* one, const Layout* other) noexcept nogil:
    cdef size_t index
    cdef size_t size = one.rest
    if one.first != other.first or one.count != other.count or one.rest != other.rest:
        return False
    if one.memo_start != other.memo_start or memcmp(one.steps, other.steps, one.count * sizeof(Step)):
        return False
    for index in range(one.count):
        size += one.steps[index].fixed
    return memcmp(one.octets, other.octets, size) == 0


cdef inline bint takes(Machine* m, Layout* layout) noexcept nogil:
    """Tell whether a stretch with this layout may be read by it; a record that had to be read twice forbids some."""
    if layout.unfit:
        layout.unfit -= 1
        return False
    return layout.is_direct and layout.memo_start + layout.memo_count <= m.memory.memo_room


cdef inline Layout* read_by_any_layout(Machine* m, Fields* fields, uint32_t key) noexcept nogil:
    """Read the stretch that begins with `key` by a known layout, which is returned; NULL if none fits."""
    cdef int index
    cdef Layout* layout
    for index in range(LAYOUTS):
        layout = LAYOUT[FLAT[key].group] + index
        if layout.first != key or layout.memo_start != m.memory.memo_end:
            continue
        if takes(m, layout) and read_by_layout(m, fields, layout):
            return layout
    return NULL


cdef bint read_by_layout(Machine* m, Fields* fields, Layout* layout) noexcept nogil:
    """Read the values of a stretch that may have this layout; return whether it has.

    Its keys are compared, and neither they nor its values are put into the memo. If it has not, nothing has changed but
    fields that are read again.
    """
    global layouts_used
    cdef const uint8_t* at = m.data + m.at
    cdef const uint8_t* end = m.data + m.size
    cdef const uint8_t* octets = layout.octets
    cdef const Step* step = &layout.steps[0]
    cdef const Step* last = step + layout.count
    cdef Node* node = m.memory.stack + m.top
    cdef uint32_t size, number
    cdef uint64_t word, value = 0
    cdef bint is_plain = True
    cdef int look
    cdef long cost = layout.cost, lines = 0
    if end - at < <ptrdiff_t> layout.needed:
        return False
    while step < last:
        size = step.fixed
        if not same_run(at, octets, size):
            return False
        at += size
        octets += size
        # There are four octets at least (`needed`).
        memcpy(&number, at, 4)
        if step.kind == TEXT_STEP or step.kind == SHORT_STEP or step.kind == OCTETS_STEP:
            word = OCTETS if step.kind == OCTETS_STEP else TEXT
            size = number
            at += 4
            if step.kind != TEXT_STEP:
                size = number & 0xFF
                at -= 3
            if end - at < <ptrdiff_t> (<uint64_t> size + step.needed):
                return False
            if not size or end - at < <ptrdiff_t> (<uint64_t> size + SLACK) or not is_plain_run(at, size):
                is_plain = False
                look = look_at(at, size)
                if look & INVALID:
                    return False
                word |= <uint64_t> look << 8
            word |= <uint64_t> size << 32
            value = <uint64_t> <size_t> at
            at += size
            cost += size
        elif step.kind == NUMBER_STEP:
            word = INT
            size = NUMBER_BYTES[at[0]]
            value = <uint64_t> <int64_t> number_at(at, end)
            at += size
            if not size or end - at < <ptrdiff_t> step.needed:
                return False
        elif step.kind == LONG_STEP:
            word = INT
            size = number & 0xFF
            if not 1 <= size <= 8 or end - at < 9 or end - at < <ptrdiff_t> (1 + size + step.needed):
                return False
            value = <uint64_t> signed_octets(at + 1, size)
            at += 1 + size
        else:
            word = INT
            # I00 and I01 are no numbers.
            if end - at < NUMBER_LINE or (at[0] == 48 and (octets - 1)[0] == 0x49):
                return False
            size = <uint32_t> read_number_line(at, &value)
            at += size
            lines += 1
            if not size or end - at < <ptrdiff_t> step.needed:
                return False
        write_words(node, word, value)
        fields.slot[step.slot] = node
        node += 1
        step += 1
    size = layout.rest
    if not same_run(at, octets, size) or m.lines_left < lines:
        return False
    m.at = at + size - m.data
    m.top = node - m.memory.stack
    m.text_left -= cost
    m.lines_left -= lines
    fields.unfit = &layout.unfit
    if is_plain:
        fields.plain_groups |= 1 << FLAT[layout.first].group
    layouts_used += 1
    pass_memo(m, layout.memo_count)
    return True


cdef inline int32_t number_at(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Return the number of BININT, BININT1 or BININT2; 0 of another opcode. There are four octets at least."""
    cdef uint32_t number = 0
    if end - at > 4:
        memcpy(&number, at + 1, 4)
    else:
        memcpy(&number, at + 1, 3)  # BININT1 at the frame's end
    # Only BININT has a sign, and all bits.
    return <int32_t> (number & NUMBER_BITS[at[0]])


cdef inline int64_t signed_octets(const uint8_t* data, uint32_t size) noexcept nogil:
    """Return the number that LONG1 writes as 1 to 8 octets, the lowest first. Eight octets can be read."""
    cdef int unused = 64 - 8 * <int> size
    return <int64_t> (load8(data) << unused) >> unused


cdef inline void pass_memo(Machine* m, size_t count) noexcept nogil:
    """Use up memo numbers without values."""
    clear_words(m.memory.memo + m.memory.memo_end, 2 * count)
    m.memory.memo_end += count
    m.memory.memo_count += count


cdef inline bint comes_again(Machine* m, const Stretch* stretch, uint32_t key) noexcept nogil:
    """Tell whether a frame continues with this stretch, octet for octet, and the memo is in the same state."""
    return (
        stretch.first == key and stretch.memo_start == m.memory.memo_end and stretch.memo_end <= m.memory.memo_room
        and stretch.size <= m.size - m.at and memcmp(stretch.octets, m.data + m.at, stretch.size) == 0
    )


cdef inline bint ends_here(Machine* m, const Layout* layout, size_t size) noexcept nogil:
    """Tell whether the record's end, or a known key of another group, follows a stretch of an assumed layout."""
    cdef size_t at = m.at + size
    cdef uint32_t key
    if m.data[at] == 0x75:  # SETITEMS
        return True
    key = next_key(layout.last, m.data + at, m.size - at)
    return key and FLAT[key].group != FLAT[layout.first].group


cdef inline Stretch* look_up(uint64_t hash) noexcept nogil:
    """Return the stretch that is kept under a hash; NULL if there is none."""
    cdef size_t place = bucket_of(hash)
    cdef int way
    for way in range(STRETCH_WAYS):
        if STRETCH_HASH[place + way] == hash:
            return STRETCH + place + way
    return NULL


cdef inline Stretch* find_stretch(
    Machine* m, uint32_t key, uint64_t* hash, Layout** fitting, size_t* stop
) noexcept nogil:
    """Return the stretch that a frame continues with, if it is kept.

    Else return NULL, and set `fitting` to the layout that the frame seems to continue with, `hash` to the hash of what
    has it and `stop` to its end; without such a layout to NULL and 0.
    """
    global latest_origin
    cdef uint32_t group = FLAT[key].group
    cdef int index
    cdef Stretch* stretch
    cdef Layout* layout
    cdef size_t size = 0
    cdef uint64_t found = 0
    hash[0] = stop[0] = 0
    fitting[0] = NULL
    if group == ORIGIN and latest_origin != NULL and comes_again(m, latest_origin, key):
        return latest_origin
    for index in range(LAYOUTS):
        layout = LAYOUT[group] + index
        if (
            layout.first != key or layout.memo_start != m.memory.memo_end
            or not follow_layout(m.data, m.at, m.size, layout, &size, &found)
        ):
            continue
        stretch = look_up(found)
        if stretch != NULL and comes_again(m, stretch, key):
            if group == ORIGIN:
                latest_origin = stretch
                count_stretch(stretch)
            return stretch
        if ends_here(m, layout, size):
            hash[0] = found
            fitting[0] = layout
            stop[0] = m.at + size
            CENSUS[group].met += 1
            return NULL
    return NULL


cdef inline size_t bucket_of(uint64_t hash) noexcept nogil:
    """Return the first of the places for a hash."""
    return hash >> 40 & (STRETCHES - STRETCH_WAYS)


cdef Layout* learn_new_layout(Machine* m, uint32_t key) noexcept nogil:
    """Learn the layout of the stretch that begins here, unless it is known, and return it; NULL if it has none."""
    cdef Layout found
    cdef Layout* layout
    cdef uint32_t group = FLAT[key].group
    cdef int index
    if not learn_layout(m, key, &found):
        return NULL
    for index in range(LAYOUTS):
        layout = LAYOUT[group] + index
        if same_layout(layout, &found):
            return layout
    layout = LAYOUT[group] + layout_turn[group]
    layout[0] = found
    layout_turn[group] = (layout_turn[group] + 1) % LAYOUTS
    return layout


cdef size_t expect_stretch(Machine* m, uint32_t key, uint64_t* hash) noexcept nogil:
    """Learn the layout of the stretch that begins here; return its end and set its hash, if it is worth keeping."""
    cdef size_t size = 0
    cdef Layout* layout = learn_new_layout(m, key)
    if layout == NULL or not follow_layout(m.data, m.at, m.size, layout, &size, hash):
        return 0
    return m.at + size if is_worth_keeping(hash[0]) else 0


cdef inline uint64_t* seen_place(uint64_t hash) noexcept nogil:
    return STRETCH_SEEN + (hash >> 40 & (STRETCH_SEEN_ONCE - 1))


cdef inline bint is_worth_keeping(uint64_t hash) noexcept nogil:
    """Tell whether a stretch is known to have come before."""
    cdef uint64_t* seen = seen_place(hash)
    if seen[0] == hash:
        return True
    seen[0] = hash
    return False


cdef void take_stretch(Machine* m, Fields* fields, Stretch* stretch) noexcept nogil:
    """Pass over a stretch, and give `fields` the values that are needed."""
    global stretches_used
    cdef size_t index
    cdef const uint8_t* start = m.data + m.at
    cdef Node* node
    stretches_used += 1
    STRETCH_CREDIT[stretch - STRETCH] = MOST_CREDIT
    if stretch.group == SITE:
        fields.site = stretch
        count_stretch(stretch)
    else:
        fields.origin = stretch
    pass_memo(m, stretch.memo_end - stretch.memo_start)
    if not fields.wants_all:
        # The stretch has the JSON of the rest.
        if stretch.has_level:
            fields.slot[LEVELNO] = &stretch.level
    else:
        for index in range(stretch.pairs):
            node = m.memory.stack + m.top
            m.top += 1
            copy_words(node, stretch.nodes + index)
            if is_text(node):
                node.value.text = start + node.value.integer
            fields.slot[stretch.slots[index]] = node
            if node.kind == NONE:
                fields.nones |= 1 << stretch.slots[index]
    m.text_left -= <long> stretch.cost
    m.at += stretch.size


cdef void keep_stretch(
    Machine* m, Fields* fields, uint32_t first, uint32_t last, size_t start, size_t memo_start, uint64_t hash, long cost
) noexcept nogil:
    """Keep the octets from `start` to here, if they are a whole stretch of its group."""
    global stretch_turn
    cdef Stretch* stretch
    cdef Out* out = &STRETCH_ROOM
    cdef uint32_t key = last, met = 0, pairs = 0, group = FLAT[first].group, before = 0
    cdef size_t size = m.at - start, place
    cdef int slot
    cdef Node* value
    cdef Node[STRETCH_PAIRS] nodes
    cdef int[STRETCH_PAIRS] slots
    while True:
        slot = FLAT[key].slot
        value = fields.slot[slot]
        if pairs == STRETCH_PAIRS or value == NULL or value.kind > OCTETS or not is_fit(slot, value):
            return
        if not (1 << slot) & (SITE_STORED | ORIGIN_SLOTS) and value.kind != NONE:
            return
        met |= 1 << slot
        slots[pairs] = slot
        nodes[pairs] = value[0]
        if is_text(value):
            if not m.data + start <= value.value.text <= m.data + m.at:
                return
            nodes[pairs].value.integer = value.value.text - (m.data + start)
        pairs += 1
        if key == first:
            break
        key = FLAT[key].parent
    if group == SITE and met & SITE_STORED == SITE_STORED:
        out.size = 0
        if not put_slots(fields, out, LEVELNO, MESSAGE):
            return
        before = <uint32_t> out.size
        if not put_slots(fields, out, PATHNAME, PROCESS):
            return
    elif group == ORIGIN and met == ORIGIN_SLOTS:
        out.size = 0
        if not put_slots(fields, out, PROCESS, TASKNAME):
            return
    else:
        return
    if out.size > STRETCH_JSON or size > STRETCH_BYTES:
        return
    place = place_for(hash, fields)
    stretch = STRETCH + place
    memcpy(stretch.nodes, nodes, sizeof(nodes))
    memcpy(stretch.slots, slots, sizeof(slots))
    memcpy(stretch.octets, m.data + start, size)
    memcpy(stretch.octets + size, out.data, out.size)
    stretch.has_level = False
    for index in range(pairs):
        if slots[index] == LEVELNO:
            stretch.has_level = True
            stretch.level = nodes[index]
    stretch.group = group
    stretch.first = first
    stretch.last = last
    stretch.memo_start = <uint32_t> memo_start
    stretch.memo_end = <uint32_t> m.memory.memo_end
    stretch.pairs = pairs
    stretch.cost = <uint32_t> cost
    stretch.before = before
    stretch.json_size = <uint32_t> out.size
    stretch.unfit = stretch.epoch = stretch.searched = 0
    stretch.size = <uint32_t> size
    STRETCH_HASH[place] = hash
    STRETCH_CREDIT[place] = 0


cdef bint find_room(uint64_t hash) noexcept nogil:
    """Tell whether a stretch may take the place of another one; if not, one of these outlasts one stretch less."""
    global stretch_turn
    cdef size_t place, first = bucket_of(hash)
    for place in range(first, first + STRETCH_WAYS):
        if STRETCH_HASH[place] == 0 or STRETCH_CREDIT[place] == 0:
            return True
    stretch_turn += 1
    STRETCH_CREDIT[first + stretch_turn % STRETCH_WAYS] -= 1
    return False


cdef size_t place_for(uint64_t hash, const Fields* fields) noexcept nogil:
    """Return a place for a stretch: an empty one, or that of one without credit, but not of one of this record."""
    global stretch_turn
    cdef size_t place, first = bucket_of(hash)
    cdef int turn
    for place in range(first, first + STRETCH_WAYS):
        if (STRETCH_HASH[place] == 0 or STRETCH_HASH[place] == hash) and not is_in_use(place, fields):
            return place
    for turn in range(STRETCH_WAYS):
        stretch_turn += 1
        place = first + stretch_turn % STRETCH_WAYS
        if STRETCH_CREDIT[place] == 0 and not is_in_use(place, fields):
            return place
    while is_in_use(place, fields):
        stretch_turn += 1
        place = first + stretch_turn % STRETCH_WAYS
    return place


cdef inline bint is_in_use(size_t place, const Fields* fields) noexcept nogil:
    return STRETCH + place == fields.site or STRETCH + place == fields.origin
