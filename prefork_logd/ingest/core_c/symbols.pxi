# Holds the values of a pickle as plain structures: symbols.py in C.
#
# Owns the memory of one record at a time: the next record uses it again, and the memory of a large record is freed.
# Containers refer to runs of nodes by index, never by address, because the arrays move when they grow.

cdef enum Kind:
    UNSET = 0
    NONE
    BOOL
    INT        # 64 bits, signed
    BIG        # a larger integer; `text` has its decimal digits, or with `look` its little-endian bytes
    FLOAT
    TEXT       # str: UTF-8, lone surrogates allowed
    OCTETS     # a Python 2 str
    BYTES
    LIST       # from here on `box` is an index of Box
    TUPLE
    DICT
    SET
    SYMBOL
    OBJECT
    WRITTEN    # JSON that is written already (shapes.pxi)

ctypedef union Value:
    int64_t integer
    double real
    const uint8_t* text
    uint32_t box

cdef struct Node:
    uint8_t kind
    uint8_t look      # of TEXT and OCTETS: the result of look_at; of BYTES: whether it is a bytearray
    uint16_t tag      # of a record's key: its number in the tree of keys (flat.pxi); else 0
    uint32_t size     # octets at `text`
    Value value

cdef extern from *:
    """
    /* A node is written and copied as two words. Written in smaller pieces, it could not be read back from the
       processor's store buffer, which made up a third of a record's time; one 16-byte copy could not be either. */
    static inline void write_words(void *to, uint64_t head, uint64_t value) {
        __asm__("" : "+r"(head), "+r"(value));
        memcpy(to, &head, 8);
        memcpy((char *)to + 8, &value, 8);
    }

    static inline void copy_words(void *to, const void *from) {
        uint64_t head, value;
        memcpy(&head, from, 8);
        memcpy(&value, (const char *)from + 8, 8);
        write_words(to, head, value);
    }

    /* For less than some hundred octets: compilers make `rep stos` of memset(), which takes long to begin. */
    static inline void clear_words(void *to, size_t count) {
        const octets16_t zeros = {0};
        char *at = to;
        for (; count >= 8; count -= 8, at += 64) {
            __asm__("" : "+r"(at));
            memcpy(at, &zeros, 16);
            memcpy(at + 16, &zeros, 16);
            memcpy(at + 32, &zeros, 16);
            memcpy(at + 48, &zeros, 16);
        }
        for (; count >= 2; count -= 2, at += 16) {
            __asm__("" : "+r"(at));
            memcpy(at, &zeros, 16);
        }
        if (count)
            memset(at, 0, 8);
    }
    """
    void write_words(void*, uint64_t, uint64_t) noexcept nogil
    void copy_words(void*, const void*) noexcept nogil
    void clear_words(void*, size_t) noexcept nogil


cdef inline void set_node(Node* node, uint8_t kind, uint8_t look, uint32_t size, uint64_t value) noexcept nogil:
    write_words(node, kind | <uint64_t> look << 8 | <uint64_t> size << 32, value)

cdef struct Run:
    uint32_t start    # in the arena
    uint32_t count
    uint32_t next     # index of the next run, 0 for none

cdef struct Chain:
    uint32_t first    # index of its first run, 0 for none
    uint32_t last
    uint32_t count    # number of nodes in all runs

cdef struct Box:
    uint8_t kind
    bint open         # whether it is being written now: meeting it again is then a cycle
    bint hashable     # whether a TUPLE is hashable, and whether a SET is frozen
    bint has_state
    bint has_kwargs
    bint is_unfolded  # whether it is a DICT whose members are the record's own attributes
    int known         # of a SYMBOL: its number in the table of known names, 0 for none; of an OBJECT: its base
    Node module       # of a SYMBOL, as its name; of an OBJECT its callee, kwargs and state
    Node name
    Node state
    Chain args
    Chain items
    Chain flat

cdef struct Memory:
    Node* stack
    size_t stack_room
    Node* memo
    size_t memo_room
    size_t memo_end   # highest index in use, plus one; later places belong to earlier records
    size_t memo_count
    Node* arena
    size_t arena_room
    size_t arena_size
    Run* runs         # number 0 stands for none
    size_t runs_room
    size_t runs_size
    Box* boxes
    size_t boxes_room
    size_t boxes_size
    void** texts      # decoded texts, which the frame does not contain as they are
    size_t texts_room
    size_t texts_size

cdef enum:
    KEPT = 8192       # items of each array that are kept for the next record


cdef bint enlarge(void** array, size_t* room, size_t least, size_t item) noexcept nogil:
    cdef size_t more = room[0] * 2 if room[0] else 64
    cdef void* moved
    while more < least:
        more *= 2
    moved = realloc(array[0], more * item)
    if moved == NULL:
        return False
    array[0] = moved
    room[0] = more
    return True


cdef void shrink(void** array, size_t* room, size_t item) noexcept nogil:
    cdef void* moved
    if room[0] > KEPT:
        moved = realloc(array[0], KEPT * item)
        if moved != NULL:
            array[0] = moved
            room[0] = KEPT


cdef void forget(Memory* memory) noexcept nogil:
    """Prepare for the next record."""
    cdef size_t index
    for index in range(memory.texts_size):
        free(memory.texts[index])
    memory.memo_end = memory.memo_count = memory.arena_size = memory.boxes_size = memory.texts_size = 0
    memory.runs_size = 1
    if (
        memory.stack_room > KEPT or memory.memo_room > KEPT or memory.arena_room > KEPT
        or memory.runs_room > KEPT or memory.boxes_room > KEPT or memory.texts_room > KEPT
    ):
        shrink(<void**> &memory.stack, &memory.stack_room, sizeof(Node))
        shrink(<void**> &memory.memo, &memory.memo_room, sizeof(Node))
        shrink(<void**> &memory.arena, &memory.arena_room, sizeof(Node))
        shrink(<void**> &memory.runs, &memory.runs_room, sizeof(Run))
        shrink(<void**> &memory.boxes, &memory.boxes_room, sizeof(Box))
        shrink(<void**> &memory.texts, &memory.texts_room, sizeof(void*))


cdef void release(Memory* memory) noexcept nogil:
    forget(memory)
    free(memory.stack)
    free(memory.memo)
    free(memory.arena)
    free(memory.runs)
    free(memory.boxes)
    free(memory.texts)


cdef uint8_t* keep_text(Memory* memory, size_t size) noexcept nogil:
    """Return room for a text, which lasts as long as the record; NULL without memory."""
    cdef void* room
    if memory.texts_size == memory.texts_room:
        if not enlarge(<void**> &memory.texts, &memory.texts_room, memory.texts_size + 1, sizeof(void*)):
            return NULL
    room = malloc(size + 1)
    if room != NULL:
        memory.texts[memory.texts_size] = room
        memory.texts_size += 1
    return <uint8_t*> room


cdef bint extend(Memory* memory, Chain* chain, const Node* nodes, size_t count) noexcept nogil:
    """Append a copy of nodes to a chain."""
    cdef Run* run
    if count == 0:
        return True
    if memory.arena_room - memory.arena_size < count:
        if not enlarge(<void**> &memory.arena, &memory.arena_room, memory.arena_size + count, sizeof(Node)):
            return False
    memcpy(memory.arena + memory.arena_size, nodes, count * sizeof(Node))
    run = memory.runs + chain.last
    if chain.first and run.start + run.count == memory.arena_size:
        run.count += count
    else:
        if memory.runs_size >= memory.runs_room:
            if not enlarge(<void**> &memory.runs, &memory.runs_room, memory.runs_size + 1, sizeof(Run)):
                return False
        run = memory.runs + memory.runs_size
        run.start = memory.arena_size
        run.count = count
        run.next = 0
        if chain.first:
            memory.runs[chain.last].next = memory.runs_size
        else:
            chain.first = memory.runs_size
        chain.last = memory.runs_size
        memory.runs_size += 1
    memory.arena_size += count
    chain.count += count
    return True


cdef Box* new_box(Memory* memory, uint8_t kind) noexcept nogil:
    """Return a new container, which is the last of `boxes`; NULL without memory."""
    cdef Box* box
    if memory.boxes_size == memory.boxes_room:
        if not enlarge(<void**> &memory.boxes, &memory.boxes_room, memory.boxes_size + 1, sizeof(Box)):
            return NULL
    box = memory.boxes + memory.boxes_size
    clear_words(box, sizeof(Box) // 8)
    box.kind = kind
    memory.boxes_size += 1
    return box


cdef struct Walk:
    # A walk through a chain.
    uint32_t run
    uint32_t at
    uint32_t end


cdef inline void start_walk(Memory* memory, Chain* chain, Walk* walk) noexcept nogil:
    walk.run = chain.first
    walk.at = walk.end = 0
    if chain.first:
        walk.at = memory.runs[chain.first].start
        walk.end = walk.at + memory.runs[chain.first].count


cdef inline Node* step(Memory* memory, Walk* walk) noexcept nogil:
    """Return the next node of a chain, or NULL. Its address holds until something is appended to a chain."""
    while walk.at == walk.end:
        walk.run = memory.runs[walk.run].next if walk.run else 0
        if not walk.run:
            return NULL
        walk.at = memory.runs[walk.run].start
        walk.end = walk.at + memory.runs[walk.run].count
    walk.at += 1
    return memory.arena + walk.at - 1


cdef inline bint is_text(const Node* node) noexcept nogil:
    return node.kind == TEXT or node.kind == OCTETS


cdef inline bint same_text(const Node* one, const Node* other) noexcept nogil:
    return one.size == other.size and same_octets(one.value.text, other.value.text, one.size)


cdef inline bint is_hashable(Memory* memory, const Node* node) noexcept nogil:
    """Tell whether Python would accept the value as a key (symbols.is_hashable)."""
    if node.kind < LIST:
        return not (node.kind == BYTES and node.look)
    if node.kind == TUPLE or node.kind == SET:
        return memory.boxes[node.value.box].hashable
    return node.kind == SYMBOL or node.kind == OBJECT


cdef inline bint is_private(const Node* key) noexcept nogil:
    """Tell whether an attribute's name begins with an underscore."""
    return is_text(key) and key.size and key.value.text[0] == 95
