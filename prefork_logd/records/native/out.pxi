# A growing buffer of our own: what lines are written into, and what decoded text is kept in.
#
# Owns the one place where room is made. Every writer asks `reserve` first and then writes no more than it asked for.

cdef struct Out:
    uint8_t* data
    size_t size
    size_t room


cdef bint grow(Out* out, size_t more) noexcept nogil:
    """Make room for `more` bytes; return whether there is."""
    cdef size_t room = out.room * 2 if out.room else 4096
    cdef uint8_t* data
    if more > (<size_t> 1 << 40):
        return False
    while room - out.size < more:
        room *= 2
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
    if size:  # of nothing, both may be null, which memcpy may not be given
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
