# Provides a growing buffer, for lines and for decoded text.
#
# Owns the growth. A caller first reserves room with `reserve`, and then writes no more than that.
#
# The buffer may lie in blocks of memory that another process reads (`share`), so that lines need not be copied to it. A
# worker has one thread, so there are no locks.

cdef struct Out:
    uint8_t* data
    size_t size
    size_t room

cdef enum:
    BLOCK_BYTES = 589_824   # a little more than a worker sends at once
    MOST_BLOCKS = 1024

cdef uint8_t* SHARED = NULL
cdef size_t shared_bytes = 0
cdef uint8_t* FREE_BLOCKS[MOST_BLOCKS]
cdef size_t free_blocks = 0


cdef inline bint is_shared(const uint8_t* data) noexcept nogil:
    return SHARED != NULL and <size_t> SHARED <= <size_t> data < <size_t> SHARED + shared_bytes


cdef void give_block(uint8_t* data) noexcept nogil:
    global free_blocks
    FREE_BLOCKS[free_blocks] = data
    free_blocks += 1


cdef bint grow(Out* out, size_t more) noexcept nogil:
    """Make room for `more` bytes; return False without memory."""
    cdef size_t room = out.room * 2 if out.room else 4096
    cdef uint8_t* data
    if more > (<size_t> 1 << 40):
        return False
    while room - out.size < more:
        room *= 2
    if is_shared(out.data):
        data = <uint8_t*> malloc(room)
        if data == NULL:
            return False
        memcpy(data, out.data, out.size)
        give_block(out.data)
    else:
        data = <uint8_t*> realloc(out.data, room)
        if data == NULL:
            return False
    out.data = data
    out.room = room
    return True


cdef inline bint reserve(Out* out, size_t more) noexcept nogil:
    return out.room - out.size >= more or grow(out, more)


cdef inline bint put(Out* out, const uint8_t* data, size_t size) noexcept nogil:
    if not reserve(out, size):
        return False
    if size:  # memcpy(3) must not get a null pointer, which both are without bytes
        memcpy(out.data + out.size, data, size)
        out.size += size
    return True


cdef inline bint put_literal(Out* out, const char* text) noexcept nogil:
    return put(out, <const uint8_t*> text, strlen(text))


cdef inline bint put_byte(Out* out, uint8_t byte) noexcept nogil:
    if not reserve(out, 1):
        return False
    out.data[out.size] = byte
    out.size += 1
    return True
