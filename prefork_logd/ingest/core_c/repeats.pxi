# Recognizes parts of a record that came before, octet for octet: the attributes of a line of code, or of a thread.
#
# Owns the values and the JSON of these parts, which are called stretches. A service logs from few places and threads,
# so half of a record's keys have values that were read before. A stretch is measured by its lengths and compared as a
# whole with earlier ones; then its JSON is copied. It is used only if it is equal to the last octet, memo numbers
# included, and kept only if it refers to nothing outside itself. Its values are neither on the stack nor in the memo: a
# record that refers to them later is read again, key by key.
#
# A fleet has more places than there is room. A stretch that is not kept is read by its layout: what stands between the
# values is the same in all records of one service, and is compared at once.
#
# The stretches of a fleet fill the processor's nearer caches, and waiting for one took as long as reading it. So they are
# foreseen: while a record is written, those of the next one are measured, looked up and fetched.

cdef enum:
    NO_GROUP = 0
    SITE = 1                 # the place in the code; its fields stand on both sides of the message in a line
    ORIGIN = 2               # the thread and process
    STRETCHES = 4096
    STRETCH_WAYS = 4         # places for one value of the hash
    MOST_CREDIT = 4
    STRETCH_SEEN_ONCE = 8192
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
    COUNTED_STEP = 3         # a length of one octet: SHORT_BINSTRING and LONG1
    LINE_STEP = 4            # LONG
    LAYOUTS = 8              # for each group; they differ by the service's Python, and by what came before and is shared
    UNFIT_LAYOUT = 8

cdef struct Layout:
    # The measure of a stretch: a number of octets, a value of a kind, a number of octets, ... and the last octets.
    uint32_t first           # number of its first key; 0: the place is empty
    uint32_t last            # number of its last key
    uint32_t count           # number of values whose length may differ
    uint32_t[STRETCH_PAIRS + 1] fixed
    uint32_t[STRETCH_PAIRS + 1] needed   # octets that must be there before each of the above is passed over
    int[STRETCH_PAIRS] steps
    int[STRETCH_PAIRS] slots # of the values whose length may differ
    uint8_t[STRETCH_BYTES] octets  # that do not differ, end to end
    bint is_direct           # whether take_layout can read it: the other values are None
    uint32_t memo_start      # the memo's size before it
    uint32_t memo_count      # values that it puts into the memo
    uint32_t pairs
    uint32_t cost            # of its keys in the budget on text
    uint32_t unfit           # number of records that it is not used for

cdef struct Stretch:
    # The parts that a line of JSON needs stand first, in a row: fetching a stretch into the processor's caches costs
    # more than reading it.
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
cdef uint64_t foreseen_used = 0
cdef Layout[3][LAYOUTS] LAYOUT
cdef uint32_t[3] layout_turn
cdef uint8_t[256] NUMBER_BYTES
NUMBER_BYTES[0x4A], NUMBER_BYTES[0x4B], NUMBER_BYTES[0x4D] = 5, 2, 3
cdef Stretch* latest_origin = NULL  # most records of a connection are of one thread

cdef struct Foreseen:
    # A stretch of the next frame.
    const uint8_t* at        # where it begins; NULL: there is none
    Layout* layout           # of the latest stretch of its group; NULL: there is none
    Stretch* stretch         # that is kept under its hash; NULL: there is none
    size_t size
    uint64_t hash

cdef struct Route:
    # Where the stretches of a frame stand: behind a text, a number of octets and another text, and behind each other.
    uint32_t head            # octets before the first text; 0: not known
    uint32_t middle          # from the first text to the second one
    uint32_t tail            # from the second one to the site
    uint32_t gap             # from the site to the origin; 0: not known, or the origin is mostly the latest one

cdef enum:
    MOST_GAP = 1024
    EPOCH = 2048             # uses of sites
    CACHED_STRETCHES = 384

cdef Foreseen[3] FORESEEN    # of each group
cdef uint32_t epoch = 1
cdef uint32_t sites_left = EPOCH    # uses of sites before the epoch ends
cdef uint32_t stretches_met = 0     # different ones that were used in the present epoch
cdef bint are_many = False          # in the epoch before: a few stay in the processor's caches, so foreseeing saves nothing
cdef Route route
cdef const uint8_t* site_end = NULL   # in the present frame
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
    memset(FORESEEN, 0, sizeof(FORESEEN))
    memset(&route, 0, sizeof(route))


cdef void expect_stretches(bint many) noexcept nogil:
    """Begin an epoch behind one with many stretches, or with a few."""
    global are_many, stretches_met, sites_left, epoch
    are_many = many
    stretches_met = 0
    sites_left = EPOCH
    epoch += 1


cdef inline void count_stretch(Stretch* stretch) noexcept nogil:
    """Count a stretch that is used, if it is the first time in this epoch."""
    global stretches_met
    if stretch.epoch != epoch:
        stretch.epoch = epoch
        stretches_met += 1


cdef inline void begin_stretches() noexcept nogil:
    """Prepare for other data: what was foreseen lay in the data before."""
    global site_end
    FORESEEN[SITE].at = FORESEEN[ORIGIN].at = site_end = NULL


cdef inline size_t read_step(const uint8_t* data, size_t at, size_t size, int step) noexcept nogil:
    """Return the end of the value at `at`, which is taken for one of the step's kind; 0 if it cannot be one."""
    cdef uint32_t length
    cdef const uint8_t* end
    if at + 5 > size:
        return 0
    if step == TEXT_STEP:
        memcpy(&length, data + at + 1, 4)
        if length > STRETCH_BYTES:
            return 0
        at += 5 + <size_t> length
    elif step == NUMBER_STEP:
        at += NUMBER_BYTES[data[at]]
    elif step == COUNTED_STEP:
        at += 2 + <size_t> data[at + 1]
    elif step == LINE_STEP and size - at >= 32:
        length = newline16(data + at)
        if length == 16:
            length += newline16(data + at + 16)
        if length >= 24:
            return 0
        at += length + 1
    elif step == LINE_STEP:
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
    cdef uint64_t mixed = layout.first
    cdef uint32_t index, length
    cdef size_t place
    cdef int step
    if end - at < <ptrdiff_t> layout.needed[0]:
        return False
    for index in range(layout.count):
        at += layout.fixed[index]
        step = layout.steps[index]
        if step == TEXT_STEP:
            memcpy(&length, at + 1, 4)
            if length > STRETCH_BYTES:
                return False
            at += 5 + <size_t> length
        elif step == NUMBER_STEP:
            at += NUMBER_BYTES[at[0]]
        elif step == COUNTED_STEP:
            at += 2 + <size_t> at[1]
        else:
            place = read_step(data, at - data, frame_size, step)
            if place == 0:
                return False
            at = data + place
        if end - at < <ptrdiff_t> layout.needed[index + 1]:
            return False
        # There are so many octets before: the shortest of these keys has four letters.
        mixed = ((mixed << 29 | mixed >> 35) ^ load8(at - 8)) * 0x9E3779B97F4A7C15ULL
    at += layout.fixed[layout.count]
    if at - start > STRETCH_BYTES:
        return False
    size[0] = at - start
    hash[0] = (mixed ^ mixed >> 32) | 1
    return True


cdef inline bint may_fit(int slot, int step) noexcept nogil:
    """Tell whether a value of this step may fit its field."""
    return step > NUMBER_STEP or (step == NUMBER_STEP) == ((1 << slot & INTEGERS) != 0)


cdef bint learn_layout(Machine* m, uint32_t key, Layout* layout) noexcept nogil:
    """Find the layout of the stretch that begins here with `key`; return whether it can be kept."""
    cdef const uint8_t* data = m.data
    cdef size_t at = m.at, fixed, start, used = 0
    cdef size_t memo = m.memory.memo_end
    cdef uint32_t group = FLAT[key].group
    cdef int step
    cdef uint32_t index
    cdef uint8_t opcode
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
        step = NO_STEP
        if opcode == 0x58:  # BINUNICODE
            step = TEXT_STEP
        elif opcode == 0x4E:  # NONE
            at += 1
        elif NUMBER_BYTES[opcode]:
            step = NUMBER_STEP
        elif opcode == 0x4C:  # LONG
            step = LINE_STEP
        elif opcode == 0x8A or opcode == 0x55:  # LONG1, SHORT_BINSTRING
            step = COUNTED_STEP
        elif opcode == 0x68 and data[at + 1] >= m.memory.memo_end:  # BINGET, of something in this stretch
            layout.is_direct = False
            at += 2
        else:
            return False
        if step != NO_STEP:
            if layout.count == STRETCH_PAIRS or start - m.at > STRETCH_BYTES:
                return False
            layout.fixed[layout.count] = <uint32_t> (start - fixed)
            layout.steps[layout.count] = step
            layout.slots[layout.count] = FLAT[key].slot
            memcpy(layout.octets + used, data + fixed, start - fixed)
            used += start - fixed
            layout.count += 1
            if FLAT[key].slot >= STORED or not may_fit(FLAT[key].slot, step):
                layout.is_direct = False
            at = fixed = read_step(data, at, m.size, step)
            if at == 0:
                return False
        if at + 2 > m.size or at - m.at > STRETCH_BYTES:
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
    layout.fixed[layout.count] = <uint32_t> (at - fixed)
    for index in range(layout.count):
        layout.needed[index] = layout.fixed[index] + 5
    layout.needed[layout.count] = layout.fixed[layout.count] + 2
    memcpy(layout.octets + used, data + fixed, at - fixed)
    layout.memo_count = <uint32_t> memo - layout.memo_start
    return layout.count > 0 and memo <= 256


cdef inline bint same_layout(const Layout* one, const Layout* other) noexcept nogil:
    cdef size_t index
    cdef size_t size = 0
    if one.first != other.first or one.count != other.count:
        return False
    for index in range(one.count):
        if one.steps[index] != other.steps[index]:
            return False
    if one.memo_start != other.memo_start or memcmp(one.fixed, other.fixed, (one.count + 1) * sizeof(uint32_t)):
        return False
    for index in range(one.count):
        size += one.fixed[index]
    size += one.fixed[one.count]
    return memcmp(one.octets, other.octets, size) == 0


cdef bint take_layout(Machine* m, Fields* fields, Layout* layout) noexcept nogil:
    """Read the values of a stretch that has this layout in all its lengths (follow_layout); return whether it has.

    Its keys are compared, and neither they nor its values are put into the memo. If it has not, nothing has changed but
    fields that are read again.
    """
    global layouts_used, site_end
    cdef const uint8_t* at = m.data + m.at
    cdef const uint8_t* octets = layout.octets
    cdef Node* node = m.memory.stack + m.top
    cdef uint32_t index, length, size
    cdef int32_t integer
    cdef uint16_t short_integer
    cdef uint8_t opcode
    cdef int look, step
    cdef long cost = layout.cost, lines_left = m.lines_left
    cdef size_t start = m.at, top = m.top, end
    for index in range(layout.count):
        size = layout.fixed[index]
        if not same_run(at, octets, size):
            break
        at += size
        octets += size
        step = layout.steps[index]
        opcode = at[0]
        if step == TEXT_STEP:
            if opcode != 0x58:
                break
            memcpy(&length, at + 1, 4)
            at += 5
            look = look_at(at, length)
            if look & INVALID:
                break
            set_node(node, TEXT, look, length, <uint64_t> <size_t> at)
            cost += length
            at += length
        elif step == NUMBER_STEP:
            if opcode == 0x4B:  # BININT1
                set_node(node, INT, 0, 0, at[1])
            elif opcode == 0x4D:  # BININT2
                memcpy(&short_integer, at + 1, 2)
                set_node(node, INT, 0, 0, short_integer)
            elif opcode == 0x4A:  # BININT
                memcpy(&integer, at + 1, 4)
                set_node(node, INT, 0, 0, <uint64_t> <int64_t> integer)
            else:
                break
            at += NUMBER_BYTES[opcode]
        else:
            m.at = at - m.data
            m.top = node - m.memory.stack
            end = read_step(m.data, m.at, m.size, step)
            # Another opcode than the step's may end elsewhere, and what comes behind it was measured from there.
            if not push_scalar(m) or m.at != end or not is_fit(layout.slots[index], node):
                break
            at = m.data + m.at
            if is_text(node):
                cost += node.size
        fields.slot[layout.slots[index]] = node
        node += 1
    else:
        size = layout.fixed[layout.count]
        if same_run(at, octets, size):
            m.at = at + size - m.data
            m.top = node - m.memory.stack
            m.text_left -= cost
            fields.skipped = layout
            layouts_used += 1
            if FLAT[layout.first].group == SITE:
                site_end = m.data + m.at
            pass_memo(m, layout.memo_count)
            return True
    m.at = start
    m.top = top
    m.lines_left = lines_left
    return False


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


cdef inline void fetch(const Stretch* stretch, size_t size) noexcept nogil:
    """Let the processor fetch a whole stretch at once; its part of a frame has `size` octets.

    Most have a usual length, and are fetched without a branch that depends on it.
    """
    cdef const uint8_t* at = <const uint8_t*> stretch
    cdef const uint8_t* end = stretch.octets + size + size
    cdef size_t line
    for line in range(5):
        __builtin_prefetch(at + 64 * line)
    if size > 144:
        for line in range(5, 9):
            __builtin_prefetch(at + 64 * line)
        at += 64 * 9
        if size > 288:
            while at < end:
                __builtin_prefetch(at)
                at += 64


cdef inline bint ends_here(Machine* m, const Layout* layout, size_t size) noexcept nogil:
    """Tell whether the record's end, or a known key of another group, follows a stretch of an assumed layout."""
    cdef size_t at = m.at + size
    cdef uint32_t key
    if m.data[at] == 0x75:  # SETITEMS
        return True
    key = next_key(layout.last, m.data + at, m.size - at)
    return key and FLAT[key].group != FLAT[layout.first].group


cdef inline Stretch* look_up(uint64_t hash, size_t size) noexcept nogil:
    """Return the stretch that is kept under a hash, and let it be fetched; NULL if there is none."""
    cdef size_t place = bucket_of(hash)
    cdef int way
    for way in range(STRETCH_WAYS):
        if STRETCH_HASH[place + way] == hash:
            fetch(STRETCH + place + way, size)
            return STRETCH + place + way
    return NULL


cdef inline void foresee_stretch(uint32_t group, const uint8_t* data, size_t at, size_t size) noexcept nogil:
    """Measure the stretch at `at`, if it has the layout of the latest one of its group, and let it be fetched."""
    cdef Foreseen* it = FORESEEN + group
    if it.layout != NULL and follow_layout(data, at, size, it.layout, &it.size, &it.hash):
        it.stretch = look_up(it.hash, it.size)
        it.at = data + at
        if it.stretch == NULL:
            __builtin_prefetch(seen_place(it.hash))


cdef void foresee(const uint8_t* data, size_t size) noexcept nogil:
    """Look at the next frame: its stretches are fetched while the present record is written.

    They are expected where those of the latest record were. Whether they are there is checked when that frame is read.
    """
    cdef size_t at = route.head
    cdef uint32_t length
    if not at or at > size:
        return
    memcpy(&length, data + at - 4, 4)
    at += length + <size_t> route.middle
    if at > size:
        return
    memcpy(&length, data + at - 4, 4)
    at += length + <size_t> route.tail
    if at > size:
        return
    foresee_stretch(SITE, data, at, size)
    if route.gap and FORESEEN[SITE].at == data + at:
        at += FORESEEN[SITE].size + route.gap
        if at < size:
            foresee_stretch(ORIGIN, data, at, size)


cdef void note_route(Machine* m, Fields* fields, Layout* layout) noexcept nogil:
    """Note where in a frame the stretch that begins here stands, for `foresee`."""
    cdef Node* name = fields.slot[NAME]
    cdef Node* message = fields.slot[MESSAGE]
    cdef ptrdiff_t head, middle, tail
    cdef uint32_t group = FLAT[layout.first].group
    FORESEEN[group].layout = layout
    if group == ORIGIN:
        head = m.data + m.at - site_end
        route.gap = <uint32_t> head if site_end != NULL and 0 < head <= <ptrdiff_t> m.at else 0
        return
    route.head = 0
    if name == NULL or message == NULL or name.kind != TEXT or message.kind != TEXT:
        return
    head = name.value.text - m.data
    middle = message.value.text - name.value.text - name.size
    tail = m.data + m.at - message.value.text - message.size
    if 4 <= head <= MOST_GAP and 4 <= middle <= MOST_GAP and 0 <= tail <= MOST_GAP:
        route.head, route.middle, route.tail = <uint32_t> head, <uint32_t> middle, <uint32_t> tail


cdef Stretch* find_foreseen(Machine* m, uint32_t key, uint64_t* hash, Layout** fitting, size_t* stop) noexcept nogil:
    """Do as find_stretch does, with what was foreseen. It returns NULL and leaves `fitting` alone if that is not here."""
    global latest_origin, foreseen_used
    cdef uint32_t group = FLAT[key].group
    cdef Foreseen* it = FORESEEN + group
    if it.at != m.data + m.at or it.layout.first != key or it.layout.memo_start != m.memory.memo_end:
        return NULL
    if it.stretch == NULL:
        if ends_here(m, it.layout, it.size):
            hash[0] = it.hash
            fitting[0] = it.layout
            stop[0] = m.at + it.size
    elif comes_again(m, it.stretch, key):
        foreseen_used += 1
        if group == ORIGIN:
            latest_origin = it.stretch
            count_stretch(it.stretch)
        return it.stretch
    return NULL


cdef inline Stretch* find_stretch(
    Machine* m, Fields* fields, uint32_t key, uint64_t* hash, Layout** fitting, size_t* stop
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
    if are_many:
        stretch = find_foreseen(m, key, hash, fitting, stop)
        if stretch != NULL or fitting[0] != NULL:
            return stretch
    if group == ORIGIN and latest_origin != NULL and comes_again(m, latest_origin, key):
        route.gap = 0
        return latest_origin
    for index in range(LAYOUTS):
        layout = LAYOUT[group] + index
        if (
            layout.first != key or layout.memo_start != m.memory.memo_end
            or not follow_layout(m.data, m.at, m.size, layout, &size, &found)
        ):
            continue
        stretch = look_up(found, size)
        if stretch != NULL and comes_again(m, stretch, key):
            if group == ORIGIN:
                latest_origin = stretch
                count_stretch(stretch)
            if are_many:
                note_route(m, fields, layout)
            return stretch
        if ends_here(m, layout, size):
            hash[0] = found
            fitting[0] = layout
            stop[0] = m.at + size
            if are_many:
                note_route(m, fields, layout)
            return NULL
    return NULL


cdef inline size_t bucket_of(uint64_t hash) noexcept nogil:
    """Return the first of the places for a hash."""
    return hash >> 40 & (STRETCHES - STRETCH_WAYS)


cdef size_t expect_stretch(Machine* m, uint32_t key, uint64_t* hash) noexcept nogil:
    """Learn the layout of the stretch that begins here; return its end and set its hash, if it is worth keeping."""
    cdef Layout layout
    cdef uint32_t group = FLAT[key].group
    cdef int index
    cdef size_t size = 0
    cdef bint is_known = False
    if not learn_layout(m, key, &layout) or not follow_layout(m.data, m.at, m.size, &layout, &size, hash):
        return 0
    for index in range(LAYOUTS):
        is_known = is_known or same_layout(LAYOUT[group] + index, &layout)
    if not is_known:
        LAYOUT[group][layout_turn[group]] = layout
        FORESEEN[group].at = NULL  # it may have been measured by the layout that stood there
        layout_turn[group] = (layout_turn[group] + 1) % LAYOUTS
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
    global stretches_used, sites_left, site_end
    cdef size_t index
    cdef const uint8_t* start = m.data + m.at
    cdef Node* node
    stretches_used += 1
    STRETCH_CREDIT[stretch - STRETCH] = MOST_CREDIT
    if stretch.group == SITE:
        fields.site = stretch
        site_end = start + stretch.size
        sites_left -= 1
        if sites_left == 0:
            expect_stretches(stretches_met >= CACHED_STRETCHES)
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
