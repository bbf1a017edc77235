# Checks a client's text, and writes it into a line.
#
# Owns UTF-8, and the characters that are always escaped in a line (render.UNSAFE). `look_at` reads the octets once, and
# its result tells the other functions how to write them. No function reads beyond its `size` octets.

cdef enum:
    PLAIN = 0      # printable ASCII without quotes and backslashes, which is copied
    ASCII = 1      # ASCII with characters to escape
    UNICODE = 2    # UTF-8, and lone surrogates as surrogatepass encodes them
    SURROGATES = 4 # with UNICODE: there are lone surrogates, which are not UTF-8 in a Python 2 str
    INVALID = 8    # not UTF-8

cdef enum:
    SLACK = 16     # octets behind a text that can be read, too: then reading it takes no branch on its length

cdef uint64_t HIGHS = 0x8080808080808080ULL
# 0: written as it is; 'u': \u00XX; 1: begins a UTF-8 sequence; else the letter behind a backslash.
cdef uint8_t[256] JSON_ESCAPES
cdef uint8_t[256] TEXT_ESCAPES  # the same for text: 'x', 'n' for a newline, a backslash
cdef const char* HEX = b"0123456789abcdef"


def _fill_escapes():
    for octet in range(256):
        special = octet < 32 or octet == 127
        JSON_ESCAPES[octet] = ord("u") if special else 1 if octet > 127 else 0
        TEXT_ESCAPES[octet] = ord("x") if special and octet != 9 else 1 if octet > 127 else 0
    for octet, letter in zip(b'"\\\b\t\n\f\r', b'"\\btnfr', strict=True):
        JSON_ESCAPES[octet] = letter
    TEXT_ESCAPES[ord("\n")] = ord("n")
    TEXT_ESCAPES[ord("\\")] = ord("\\")


_fill_escapes()


cdef extern from *:
    """
    typedef signed char octets16_t __attribute__((vector_size(16)));
    typedef unsigned char unsigned_octets16_t __attribute__((vector_size(16)));

    static inline octets16_t load16(const uint8_t *data) {
        octets16_t octets;
        memcpy(&octets, data, 16);
        return octets;
    }

    /* Mark the special octets. One more than a control character or DEL, which wraps, is below 33; those above 0x7f are
       negative here. */
    static inline octets16_t specials_in(octets16_t octets) {
        octets16_t next = (octets16_t)((unsigned_octets16_t)octets + 1);
        return (next < 33) | (octets == 34) | (octets == 92);
    }

    static inline octets16_t specials16(const uint8_t *data) {
        return specials_in(load16(data));
    }

    /* The same of two words of eight octets. */
    static inline octets16_t specials_of(uint64_t one, uint64_t other) {
        uint64_t words[2] = {one, other};
        octets16_t octets;
        memcpy(&octets, words, 16);
        return specials_in(octets);
    }

    static inline int any16(octets16_t marked) {
    #ifdef __SSE2__
        return __builtin_ia32_pmovmskb128((char __attribute__((vector_size(16)))) marked) != 0;
    #else
        uint64_t halves[2];
        memcpy(halves, &marked, 16);
        return (halves[0] | halves[1]) != 0;
    #endif
    }

    static inline int all16(octets16_t marked) {
    #ifdef __SSE2__
        return __builtin_ia32_pmovmskb128((char __attribute__((vector_size(16)))) marked) == 0xffff;
    #else
        uint64_t halves[2];
        memcpy(halves, &marked, 16);
        return (halves[0] & halves[1]) == UINT64_MAX;
    #endif
    }

    /* Return the number of octets before the first one that is marked; 16 if none is. */
    static inline unsigned int first16(octets16_t marked) {
    #ifdef __SSE2__
        return __builtin_ctz(__builtin_ia32_pmovmskb128((char __attribute__((vector_size(16)))) marked) | 1 << 16);
    #else
        uint64_t halves[2];
        memcpy(halves, &marked, 16);
        return halves[0] ? __builtin_ctzll(halves[0]) / 8 : halves[1] ? 8 + __builtin_ctzll(halves[1]) / 8 : 16;
    #endif
    }

    /* Return the number of octets before the first newline of 16; 16 if there is none. */
    static inline unsigned int newline16(const uint8_t *data) {
        return first16(load16(data) == 10);
    }

    /* Compare octets, most often 10 to 60. */
    static inline int same_run(const uint8_t *one, const uint8_t *other, size_t size) {
        if (size >= 16) {
            octets16_t same = (load16(one) == load16(other)) & (load16(one + size - 16) == load16(other + size - 16));
            for (; size > 32; size -= 16)
                same &= load16(one + size - 32) == load16(other + size - 32);
            return all16(same);
        }
        if (size >= 8) {
            uint64_t a, b, c, d;
            memcpy(&a, one, 8);
            memcpy(&b, other, 8);
            memcpy(&c, one + size - 8, 8);
            memcpy(&d, other + size - 8, 8);
            return ((a ^ b) | (c ^ d)) == 0;
        }
        while (size--)
            if (one[size] != other[size])
                return 0;
        return 1;
    }

    /* Tell whether octets are PLAIN. 16 more can be read behind them. */
    static inline int is_plain_run(const uint8_t *data, size_t size) {
        for (; size > 16; size -= 16, data += 16)
            if (any16(specials16(data)))
                return 0;
        return first16(specials16(data)) >= size;
    }

    /* Copy octets. 16 more can be read behind them, and written. */
    static inline void copy_run(uint8_t *to, const uint8_t *from, size_t size) {
        uint8_t *end = to + size;
        do {
            memcpy(to, from, 16);
            to += 16;
            from += 16;
        } while (to < end);
    }

    /* Copy octets. Most are texts of up to 64 octets, which take no call. */
    static inline void copy_octets(uint8_t *to, const uint8_t *from, size_t size) {
        if (size > 64) {
            memcpy(to, from, size);
        } else if (size >= 16) {
            octets16_t last = load16(from + size - 16);
            uint8_t *end = to + size - 16;
            for (; to < end; to += 16, from += 16)
                memcpy(to, from, 16);
            memcpy(end, &last, 16);
        } else if (size >= 8) {
            uint64_t first, last;
            memcpy(&first, from, 8);
            memcpy(&last, from + size - 8, 8);
            memcpy(to, &first, 8);
            memcpy(to + size - 8, &last, 8);
        } else if (size >= 4) {
            uint32_t first, last;
            memcpy(&first, from, 4);
            memcpy(&last, from + size - 4, 4);
            memcpy(to, &first, 4);
            memcpy(to + size - 4, &last, 4);
        } else if (size) {
            uint8_t middle = from[size >> 1], last = from[size - 1];
            to[0] = from[0];
            to[size >> 1] = middle;
            to[size - 1] = last;
        }
    }
    """
    ctypedef int octets16_t
    octets16_t specials16(const uint8_t*) noexcept nogil
    octets16_t specials_of(uint64_t, uint64_t) noexcept nogil
    bint any16(octets16_t) noexcept nogil
    unsigned int first16(octets16_t) noexcept nogil
    unsigned int newline16(const uint8_t*) noexcept nogil
    bint same_run(const uint8_t*, const uint8_t*, size_t) noexcept nogil
    bint is_plain_run(const uint8_t*, size_t) noexcept nogil
    void copy_run(uint8_t*, const uint8_t*, size_t) noexcept nogil
    void copy_octets(uint8_t*, const uint8_t*, size_t) noexcept nogil


cdef inline uint64_t load8(const uint8_t* data) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, data, 8)
    return word


cdef inline bint same_octets(const uint8_t* one, const uint8_t* other, size_t size) noexcept nogil:
    """Compare octets. Most are names of up to 16 octets, which take two words and no call."""
    cdef uint32_t a, b
    if size > 16:
        return memcmp(one, other, size) == 0
    if size >= 8:
        return ((load8(one) ^ load8(other)) | (load8(one + size - 8) ^ load8(other + size - 8))) == 0
    if size >= 4:
        memcpy(&a, one, 4)
        memcpy(&b, other, 4)
        if a != b:
            return False
        memcpy(&a, one + size - 4, 4)
        memcpy(&b, other + size - 4, 4)
        return a == b
    while size:
        size -= 1
        if one[size] != other[size]:
            return False
    return True


cdef inline size_t sequence_length(const uint8_t* data, size_t size, bint* surrogate) noexcept nogil:
    """Return the length of the UTF-8 sequence at `data`, which does not begin with ASCII; 0 if it is invalid."""
    cdef uint8_t first = data[0]
    surrogate[0] = False
    if first < 0xC2 or first > 0xF4 or size < 2 or data[1] & 0xC0 != 0x80:
        return 0
    if first < 0xE0:
        return 2
    if size < 3 or data[2] & 0xC0 != 0x80:
        return 0
    if first < 0xF0:
        if first == 0xE0 and data[1] < 0xA0:
            return 0
        surrogate[0] = first == 0xED and data[1] >= 0xA0
        return 3
    if size < 4 or data[3] & 0xC0 != 0x80:
        return 0
    if (first == 0xF0 and data[1] < 0x90) or (first == 0xF4 and data[1] > 0x8F):
        return 0
    return 4


cdef int look_closely(const uint8_t* data, size_t size) noexcept nogil:
    cdef size_t at = 0, length
    cdef int kind = ASCII
    cdef bint surrogate
    while at < size:
        if at + 8 <= size and not load8(data + at) & HIGHS:
            at += 8
        elif data[at] < 0x80:
            at += 1
        else:
            kind |= UNICODE
            length = sequence_length(data + at, size - at, &surrogate)
            if not length:
                return INVALID
            if surrogate:
                kind |= SURROGATES
            at += length
    return kind


cdef inline int look_at(const uint8_t* data, size_t size) noexcept nogil:
    """Classify octets: return PLAIN, a sum of ASCII, UNICODE and SURROGATES, or INVALID."""
    cdef size_t at = 0
    cdef uint32_t head, tail
    cdef octets16_t found
    if size >= 16:
        found = specials16(data + size - 16)
        while at + 16 < size:
            found |= specials16(data + at)
            at += 16
    elif size >= 8:
        found = specials_of(load8(data), load8(data + size - 8))
    elif size >= 4:
        memcpy(&head, data, 4)
        memcpy(&tail, data + size - 4, 4)
        found = specials_of(head | <uint64_t> tail << 32, head | <uint64_t> tail << 32)
    elif size:
        head = data[0] | <uint32_t> data[size >> 1] << 8 | <uint32_t> data[size - 1] << 16 | 0x61000000
        found = specials_of(head | <uint64_t> head << 32, head | <uint64_t> head << 32)
    else:
        return PLAIN
    return look_closely(data, size) if any16(found) else PLAIN


cdef inline int look_within(const uint8_t* data, size_t size, size_t left) noexcept nogil:
    """Do what `look_at` does; `left` octets can be read, and mostly some more than `size`."""
    if left < size + SLACK:
        return look_at(data, size)
    return PLAIN if is_plain_run(data, size) else look_closely(data, size)


cdef inline bint is_unsafe_sequence(const uint8_t* data, size_t length) noexcept nogil:
    """Tell whether a UTF-8 sequence is a character that is always escaped in a line."""
    cdef uint8_t first = data[0], second = data[1], third
    if length == 2:
        return (first == 0xC2 and second < 0xA0) or (first == 0xD8 and second == 0x9C)
    if length == 4:
        return False
    third = data[2]
    if first == 0xE2:
        if second == 0x80:
            return third == 0x8E or third == 0x8F or 0xA8 <= third <= 0xAE
        return second == 0x81 and 0xA6 <= third <= 0xA9
    if first == 0xEF:
        return second == 0xBB and third == 0xBF
    return first == 0xED and second >= 0xA0


cdef inline unsigned int code_point(const uint8_t* data, size_t length) noexcept nogil:
    if length == 2:
        return (data[0] & 0x1F) << 6 | (data[1] & 0x3F)
    return (data[0] & 0x0F) << 12 | (data[1] & 0x3F) << 6 | (data[2] & 0x3F)


cdef inline uint8_t* hex4(uint8_t* at, unsigned int number) noexcept nogil:
    """Write \\uXXXX; return its end."""
    at[0] = 92
    at[1] = 117
    at[2] = HEX[number >> 12 & 15]
    at[3] = HEX[number >> 8 & 15]
    at[4] = HEX[number >> 4 & 15]
    at[5] = HEX[number & 15]
    return at + 6


cdef bint put_escaped_json(Out* out, const uint8_t* data, size_t size, bint octets) noexcept nogil:
    """Write the inside of a JSON string. `octets`: it is a Python 2 str, in which lone surrogates are not UTF-8."""
    cdef size_t at = 0, length
    cdef unsigned int plain
    cdef uint8_t* to
    cdef uint8_t escape
    cdef bint surrogate
    if not reserve(out, 6 * size):
        return False
    to = out.data + out.size
    while at < size:
        if at + 16 <= size:
            memcpy(to, data + at, 16)
            plain = first16(specials16(data + at))
            to += plain
            at += plain
            if plain == 16:
                continue
        escape = JSON_ESCAPES[data[at]]
        if escape == 0:
            to[0] = data[at]
            to += 1
            at += 1
        elif escape == 1:
            length = sequence_length(data + at, size - at, &surrogate)
            if not length or (octets and surrogate):
                to = hex4(to, 0xDC00 | data[at])
                length = 1
            elif is_unsafe_sequence(data + at, length):
                to = hex4(to, code_point(data + at, length))
            else:
                memcpy(to, data + at, length)
                to += length
            at += length
        else:
            if escape == 117:
                to = hex4(to, data[at])
            else:
                to[0] = 92
                to[1] = escape
                to += 2
            at += 1
    out.size = to - out.data
    return True


cdef bint put_encoded_json(Out* out, const uint8_t* data, size_t size) noexcept nogil:
    """Write valid JSON, and escape the characters that a line never contains."""
    cdef size_t at = 0, length
    cdef unsigned int plain
    cdef uint8_t* to
    cdef bint surrogate
    if not reserve(out, 6 * size):
        return False
    to = out.data + out.size
    while at < size:
        if at + 16 <= size:
            memcpy(to, data + at, 16)
            plain = first16(specials16(data + at))
            to += plain
            at += plain
            if plain == 16:
                continue
        length = 1
        if data[at] == 127:
            to = hex4(to, 127)
        elif data[at] < 127:
            to[0] = data[at]
            to += 1
        else:
            length = sequence_length(data + at, size - at, &surrogate)
            if length and is_unsafe_sequence(data + at, length):
                to = hex4(to, code_point(data + at, length))
            else:
                length = length if length else 1
                memcpy(to, data + at, length)
                to += length
        at += length
    out.size = to - out.data
    return True


cdef inline bint put_inside(Out* out, const uint8_t* data, size_t size, int kind, bint octets) noexcept nogil:
    return put(out, data, size) if kind == PLAIN else put_escaped_json(out, data, size, octets)


cdef inline bint put_string(Out* out, const uint8_t* data, size_t size, int kind, bint octets) noexcept nogil:
    """Write a JSON string."""
    cdef uint8_t* to
    if kind == PLAIN:
        if not reserve(out, size + 2):
            return False
        to = out.data + out.size
        to[0] = 34
        copy_octets(to + 1, data, size)
        to[size + 1] = 34
        out.size += size + 2
        return True
    return put_byte(out, 34) and put_escaped_json(out, data, size, octets) and put_byte(out, 34)


cdef bint put_octets(Out* out, const uint8_t* data, size_t size) noexcept nogil:
    """Write octets as the inside of a bytes literal (pickles.values.Reader.octets), as a JSON string."""
    cdef uint8_t* to
    cdef uint8_t octet
    cdef size_t at
    if not reserve(out, 5 * size + 2):
        return False
    to = out.data + out.size
    to[0] = 34
    to += 1
    for at in range(size):
        octet = data[at]
        if 32 <= octet < 127 and octet != 92 and octet != 34:
            to[0] = octet
            to += 1
            continue
        to[0] = 92
        if octet == 34:
            to[1] = 34
            to += 2
            continue
        to[1] = 92
        to += 2
        if octet == 92:
            to[0] = 92
            to[1] = 92
            to += 2
        elif octet == 9 or octet == 10 or octet == 13:
            to[0] = 116 if octet == 9 else 110 if octet == 10 else 114
            to += 1
        else:
            to[0] = 120
            to[1] = HEX[octet >> 4]
            to[2] = HEX[octet & 15]
            to += 3
    to[0] = 34
    out.size = to + 1 - out.data
    return True


cdef bint put_text(Out* out, const uint8_t* data, size_t size, int kind, bint octets) noexcept nogil:
    """Write text for a text output, with escapes that `render.unescape` reads, and a tab after each newline."""
    cdef size_t at = 0, length
    cdef unsigned int plain
    cdef uint8_t* to
    cdef uint8_t escape
    cdef unsigned int character
    cdef bint surrogate
    if kind == PLAIN:
        return put(out, data, size)
    if not reserve(out, 6 * size):
        return False
    to = out.data + out.size
    while at < size:
        if at + 16 <= size:
            memcpy(to, data + at, 16)
            plain = first16(specials16(data + at))
            to += plain
            at += plain
            if plain == 16:
                continue
        escape = TEXT_ESCAPES[data[at]]
        if escape == 1:
            length = sequence_length(data + at, size - at, &surrogate)
            if not length or (octets and surrogate):
                to = hex4(to, 0xDC00 | data[at])
                length = 1
            elif is_unsafe_sequence(data + at, length):
                character = code_point(data + at, length)
                if character < 0x100:
                    to = hex2(to, character)
                else:
                    to = hex4(to, character)
            else:
                memcpy(to, data + at, length)
                to += length
            at += length
            continue
        if escape == 0:
            to[0] = data[at]
            to += 1
        elif escape == 120:
            to = hex2(to, data[at])
        elif escape == 92:
            to[0] = 92
            to[1] = 92
            to += 2
        else:
            to[0] = 10
            to[1] = 9
            to += 2
        at += 1
    out.size = to - out.data
    return True


cdef inline uint8_t* hex2(uint8_t* at, unsigned int number) noexcept nogil:
    """Write \\xXX; return its end."""
    at[0] = 92
    at[1] = 120
    at[2] = HEX[number >> 4 & 15]
    at[3] = HEX[number & 15]
    return at + 4
