# Writes rows in the binary form of PostgreSQL's COPY, from the fields of a line (cut.pxi).
#
# Owns the binary form, and a cache of values that many lines share. stores/postgresql/copy_rows.py is the specification and makes the same row of the same line,
# octet for octet. Python gets each line that the columns cannot reproduce, and each line in another form.

cdef enum:
    SLOTS = 8192            # places of a cache; a miss costs a few microseconds
    MOST_KEY = 1024         # bytes; Python packs the values of longer keys each time
    MOST_NAME = 256         # bytes; Python decides about longer names, which may not fit their column
    MOST_USED = 262144      # bytes of rows after which no further row is added to a result
    ROOM = 192              # bytes of a row for headers, lengths and NULLs, besides its line and the packed values

# The values that many lines share, in the order of the columns.
_SITE_FIELDS = (NAME, LEVELNO, LEVELNAME, PATHNAME, FILENAME, MODULE, LINENO, FUNC_NAME, MSG)
_ORIGIN_FIELDS = (PROCESS, PROCESS_NAME, THREAD, THREAD_NAME, TASK_NAME, PEER, HOST, SERVICE, ENVIRONMENT, VERSION, PEER_NAME)

cdef extern from *:
    """
    #include <math.h>

    static inline uint8_t *put_word(uint8_t *to, uint32_t word) {
        word = __builtin_bswap32(word);
        memcpy(to, &word, 4);
        return to + 4;
    }

    static inline uint8_t *put_long(uint8_t *to, uint64_t word) {
        to = put_word(to, 8);
        word = __builtin_bswap64(word);
        memcpy(to, &word, 8);
        return to + 8;
    }

    static inline uint8_t *put_double(uint8_t *to, double value) {
        uint64_t word;
        memcpy(&word, &value, 8);
        return put_long(to, word);
    }

    /* Microseconds since 2000-01-01; half to even, as Python's round(). */
    static inline int64_t since_2000(double seconds) {
        return (int64_t) nearbyint(seconds * 1e6) - 946684800000000LL;
    }

    /* Whether there is an escape of NUL, or one that may be of a surrogate. */
    static inline int has_foreign_escape(const uint8_t *at, const uint8_t *end) {
        while (end - at >= 3 && (at = memmem(at, end - at, "\\\\u", 2)) != NULL && end - at >= 3) {
            if ((at[2] | 32) == 'd' || (end - at >= 6 && memcmp(at + 2, "0000", 4) == 0))
                return 1;
            at += 2;
        }
        return 0;
    }

    /* The contents of a valid object, as bits: 1 for a number that jsonb may spell in another way, 2 for characters
       beyond ASCII. */
    static inline int peculiar(const uint8_t *at, const uint8_t *end) {
        int found = 0, seen;
        for (; at < end; at++) {
            switch (*at) {
            case '"':
                at = end_of_text(at + 1, end, &seen);
                if (at == NULL)
                    return 3;
                found |= seen & 2;
                break;
            case '-':
                found |= at[1] == '0';
                break;
            case 'e':
            case 'E':
                found |= (uint8_t) (at[-1] - '0') < 10;
            }
        }
        return found;
    }
    """
    uint8_t* put_word(uint8_t*, uint32_t) noexcept nogil
    uint8_t* put_long(uint8_t*, uint64_t) noexcept nogil
    uint8_t* put_double(uint8_t*, double) noexcept nogil
    int64_t since_2000(double) noexcept nogil
    bint has_foreign_escape(const uint8_t*, const uint8_t*) noexcept nogil
    int peculiar(const uint8_t*, const uint8_t*) noexcept nogil


cdef struct Slot:
    uint64_t hash
    PyObject* key           # bytes; NULL: the place is empty
    PyObject* packed        # bytes


cdef inline uint64_t hash_piece(const Piece* piece, uint64_t value) noexcept nogil:
    """Hash eight octets at a time. Keys that are chosen to collide only miss the cache."""
    cdef size_t at = 0
    cdef uint64_t word
    while at + 8 <= piece.size:
        memcpy(&word, piece.data + at, 8)
        value = (value ^ word) * 0x9E3779B97F4A7C15ULL
        value ^= value >> 29
        at += 8
    if at < piece.size:
        word = piece.size
        memcpy(&word, piece.data + at, piece.size - at)
        value = (value ^ word) * 0x9E3779B97F4A7C15ULL
        value ^= value >> 29
    return value


cdef object find(Slot* slots, uint64_t value, const Piece* one, const Piece* other):
    """Return the cached bytes of a key, which is two pieces of a line, or None."""
    cdef Slot* slot = slots + (value >> 20 & (SLOTS - 1))
    cdef const char* key
    if slot.key == NULL or slot.hash != value or <size_t> PyBytes_GET_SIZE(<object> slot.key) != one.size + other.size:
        return None
    key = PyBytes_AS_STRING(<object> slot.key)
    if (one.size and memcmp(key, one.data, one.size)) or (other.size and memcmp(key + one.size, other.data, other.size)):
        return None
    return <object> slot.packed


cdef int keep(Slot* slots, uint64_t value, const Piece* one, const Piece* other, object packed) except -1:
    cdef Slot* slot = slots + (value >> 20 & (SLOTS - 1))
    cdef bytes key
    if one.size + other.size > MOST_KEY:
        return 0
    key = PyBytes_FromStringAndSize(<const char*> one.data, one.size) if one.size else b""
    if other.size:
        key += PyBytes_FromStringAndSize(<const char*> other.data, other.size)
    Py_XDECREF(slot.key)
    Py_XDECREF(slot.packed)
    Py_INCREF(key)
    Py_INCREF(packed)
    slot.hash = value
    slot.key = <PyObject*> key
    slot.packed = <PyObject*> packed
    return 0


cdef void forget(Slot* slots):
    cdef int index
    if slots == NULL:
        return
    for index in range(SLOTS):
        Py_XDECREF(slots[index].key)
        Py_XDECREF(slots[index].packed)
    memset(slots, 0, SLOTS * sizeof(Slot))


cdef class Copier:
    """Makes rows for COPY. `site` and `origin` return the bytes of a tuple of values in a row."""

    cdef object site
    cdef object origin
    cdef Slot* sites
    cdef Slot* origins
    cdef uint8_t* made
    cdef size_t room

    def __cinit__(self, site, origin):
        self.site = site
        self.origin = origin
        self.made = NULL
        self.room = 0
        self.sites = <Slot*> calloc(SLOTS, sizeof(Slot))
        self.origins = <Slot*> calloc(SLOTS, sizeof(Slot))
        if self.sites == NULL or self.origins == NULL:
            raise MemoryError

    def __dealloc__(self):
        forget(self.sites)
        forget(self.origins)
        free(self.sites)
        free(self.origins)
        free(self.made)

    def copy(
        self, bytes lines not None, Py_ssize_t start, Py_ssize_t most, int64_t number, int day, int part,
        double low, double high,
    ):
        """Return (rows, their number, the offset of the line after them), for at most `most` lines from `start` on.

        It ends before a line that Python has to read or that was not received between `low` and `high`, and once the
        rows have MOST_USED bytes. `number` is the number of the first record; `day` counts from 2000-01-01.
        """
        cdef const uint8_t* first = <const uint8_t*> PyBytes_AS_STRING(lines)
        cdef const uint8_t* at = first + start
        cdef const uint8_t* end = first + PyBytes_GET_SIZE(lines)
        cdef const uint8_t* stop
        cdef size_t used = 0
        cdef Py_ssize_t size, count = 0
        cdef Cut cut
        if start < 0 or at > end:
            raise ValueError("no line begins there")
        while count < most and at < end and used < MOST_USED:
            stop = <const uint8_t*> memchr(at, 10, end - at)
            if stop == NULL:
                raise ValueError("the last line has no end")
            stop += 1
            if not cut_line(at, stop - at, &cut) or not low <= cut.received < high or has_foreign_escape(at, stop):
                break
            size = self._put(&cut, stop - at, used, number + count, day, part)
            if size == 0:
                break
            used += size
            count += 1
            at = stop
        return PyBytes_FromStringAndSize(<const char*> self.made, used) if used else b"", count, at - first

    cdef Py_ssize_t _put(self, Cut* cut, size_t length, size_t used, int64_t number, int day, int part) except -1:
        """Write a row behind `used` bytes; return its size, or 0 if Python has to read the line."""
        cdef uint8_t* begin
        cdef uint8_t* to
        cdef int odd = 0, field
        cdef Piece* piece
        if cut.field[NAME].size > MOST_NAME:
            return 0
        for field in range(EXTRA, EXCEPTION + 1):
            piece = &cut.field[field]
            if piece.data != NULL:
                odd = peculiar(piece.data, piece.data + piece.size)
                if odd & 1 or (odd & 2 and not is_utf8(piece.data, piece.size)):
                    return 0
        cdef uint64_t site_hash = hash_piece(&cut.tail, hash_piece(&cut.head, cut.head.size + 1))
        cdef uint64_t origin_hash = hash_piece(&cut.whence, hash_piece(&cut.who, cut.who.size + 1))
        cdef object site = find(self.sites, site_hash, &cut.head, &cut.tail)
        cdef object origin = find(self.origins, origin_hash, &cut.who, &cut.whence)
        if site is None:
            site = _packed(cut, _SITE_FIELDS, self.site)
            if site is None:
                return 0
            keep(self.sites, site_hash, &cut.head, &cut.tail, site)
        if origin is None:
            origin = _packed(cut, _ORIGIN_FIELDS, self.origin)
            if origin is None:
                return 0
            keep(self.origins, origin_hash, &cut.who, &cut.whence, origin)
        self._make_room(used + ROOM + length + PyBytes_GET_SIZE(site) + PyBytes_GET_SIZE(origin))
        to = begin = self.made + used
        to[0] = 0
        to[1] = 33
        to = put_word(put_word(put_word(put_word(to + 2, 4), day), 4), part)
        to = put_long(put_long(to, number), since_2000(cut.created))
        to = put_double(put_double(to, cut.created), cut.received)
        to = put_octets(put_octets(to, site), origin)
        to = put_text(to, &cut.field[MESSAGE])
        if to != NULL:
            to = put_text(to, &cut.field[EXC_TEXT])
        if to != NULL:
            to = put_text(to, &cut.field[STACK_INFO])
        if to == NULL:
            return 0
        for field in range(EXTRA, EXCEPTION + 1):
            to = put_json(to, &cut.field[field])
        to = put_word(to, <uint32_t> -1)
        return to - begin

    cdef int _make_room(self, size_t size) except -1:
        cdef uint8_t* more
        if size > self.room:
            size += size // 2
            more = <uint8_t*> realloc(self.made, size)
            if more == NULL:
                raise MemoryError
            self.made = more
            self.room = size
        return 0


cdef object _packed(Cut* cut, tuple fields, pack):
    """Return what `pack` makes of the values of fields, or None if Python has to read the line."""
    cdef list values = []
    cdef int field
    cdef Piece* piece
    cdef Py_ssize_t size
    for field in fields:
        piece = &cut.field[field]
        if piece.data == NULL:
            values.append(None)
        elif field in (LEVELNO, LINENO, PROCESS, THREAD):
            values.append(integer_of(piece))
        else:
            text = bytearray(piece.size)
            size = unescape(piece, <uint8_t*> PyByteArray_AS_STRING(text))
            if size < 0:
                return None
            try:
                values.append(PyUnicode_DecodeUTF8(PyByteArray_AS_STRING(text), size, NULL))
            except UnicodeDecodeError:
                return None
    return pack(tuple(values))


cdef inline uint8_t* put_octets(uint8_t* to, object octets):
    memcpy(to, PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))
    return to + PyBytes_GET_SIZE(octets)


cdef inline uint8_t* put_text(uint8_t* to, const Piece* piece):
    """Write a text, or a database NULL for a missing one; return its end, or a null pointer for invalid UTF-8."""
    cdef Py_ssize_t size = piece.size
    if piece.data == NULL:
        return put_word(to, <uint32_t> -1)
    if piece.plain:
        memcpy(to + 4, piece.data, size)
    else:
        size = unescape(piece, to + 4)
        if size < 0 or not is_utf8(to + 4, size):
            return NULL
    put_word(to, size)
    return to + 4 + size


cdef inline uint8_t* put_json(uint8_t* to, const Piece* piece):
    """Write an object or a list for jsonb, or a database NULL for a missing one; return its end."""
    if piece.data == NULL:
        return put_word(to, <uint32_t> -1)
    to = put_word(to, piece.size + 1)
    to[0] = 1  # version of jsonb's binary form (jsonb_recv in PostgreSQL's sources)
    memcpy(to + 1, piece.data, piece.size)
    return to + 1 + piece.size


cdef inline bint is_utf8(const uint8_t* data, size_t size):
    try:
        PyUnicode_DecodeUTF8(<const char*> data, size, NULL)
    except UnicodeDecodeError:
        return False
    return True
