# Cuts a stored line into its fields in place: reads the form of `records.render` back without objects.
#
# Owns the canonical form: fields in their order, no white space, no key twice. `stores.rows` reads lines in other
# forms, and decides which lines are not records. UTF-8 is not checked here: the code that makes text of a field does.

cdef enum:
    NAME, LEVELNO, LEVELNAME, MESSAGE, MSG, PATHNAME, FILENAME, MODULE, LINENO, FUNC_NAME
    PROCESS, PROCESS_NAME, THREAD, THREAD_NAME, TASK_NAME
    EXC_TEXT, STACK_INFO, EXTRA, TRUNCATED, EXCEPTION, HOST, SERVICE, ENVIRONMENT, VERSION, PEER_NAME, PEER
    ARRIVED, FIELDS

cdef struct Piece:
    # A text without its quotes, the digits of an integer, or a whole object or list. NULL: the field is missing.
    const uint8_t* data
    size_t size
    bint plain              # whether a text is ASCII without escapes

cdef struct Cut:
    double created
    double received         # 0: missing
    Piece[FIELDS] field
    # Parts that are equal in many lines, so that they are looked up as a whole. Empty if all their fields are missing.
    Piece head              # `,"name"` to the end of `levelname`
    Piece tail              # `,"msg"` to the end of `funcName`
    Piece who               # `,"process"` to the end of `taskName`
    Piece whence            # `,"host"` to the end of `peer`

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    typedef struct { const char *text; size_t size; int kind; } key_t_;
    #define KEY(name, kind) {",\\"" name "\\":", sizeof(name) + 3, kind}
    /* kinds: 0 text, 1 integer, 2 object, 3 time in seconds, 4 list of texts, 5 list of objects */
    static const key_t_ KEYS[] = {
        KEY("name", 0), KEY("levelno", 1), KEY("levelname", 0), KEY("message", 0), KEY("msg", 0),
        KEY("pathname", 0), KEY("filename", 0), KEY("module", 0), KEY("lineno", 1), KEY("funcName", 0),
        KEY("process", 1), KEY("processName", 0), KEY("thread", 1), KEY("threadName", 0), KEY("taskName", 0),
        KEY("exc_text", 0), KEY("stack_info", 0), KEY("extra", 2), KEY("truncated", 4), KEY("exception", 5),
        KEY("host", 0), KEY("service", 0), KEY("environment", 0), KEY("version", 0), KEY("peer_name", 0), KEY("peer", 0),
        KEY("received", 3),
    };

    typedef signed char eights_t __attribute__((vector_size(16)));

    static inline int is_hex(uint8_t c) {
        return (uint8_t) (c - '0') < 10 || (uint8_t) ((c | 32) - 'a') < 6;
    }

    /* Return the closing quote of a text, or NULL. Bits of `seen`: 1 for an escape, 2 for characters beyond ASCII. */
    static inline const uint8_t *end_of_text(const uint8_t *at, const uint8_t *end, int *seen) {
        int found = 0;
        for (;;) {
            while (end - at >= 16) {
                eights_t word, odd;
                uint64_t halves[2];
                memcpy(&word, at, 16);
                odd = (word < 32) | (word == '"') | (word == '\\\\');
                memcpy(halves, &odd, 16);
                if (halves[0] | halves[1]) {
                    at += halves[0] ? __builtin_ctzll(halves[0]) / 8 : 8 + __builtin_ctzll(halves[1]) / 8;
                    break;
                }
                at += 16;
            }
            if (at >= end)
                return NULL;
            if (*at == '"') {
                *seen = found;
                return at;
            }
            if (*at < 32)
                return NULL;
            if (*at >= 128) {
                found |= 2;
                do at++; while (at < end && *at >= 128);
            } else if (*at == '\\\\') {
                found |= 1;
                if (end - at < 6)
                    return NULL;
                if (at[1] == 'u') {
                    if (!is_hex(at[2]) || !is_hex(at[3]) || !is_hex(at[4]) || !is_hex(at[5]))
                        return NULL;
                    at += 6;
                } else if (at[1] && strchr("\\"\\\\/bfnrt", at[1])) {
                    at += 2;
                } else {
                    return NULL;
                }
            } else {
                at++;
            }
        }
    }

    static inline int is_digit(const uint8_t *at, const uint8_t *end) {
        return at < end && (uint8_t) (*at - '0') < 10;
    }

    static const uint8_t *end_of_number(const uint8_t *at, const uint8_t *end) {
        if (at < end && *at == '-')
            at++;
        if (!is_digit(at, end))
            return NULL;
        if (*at == '0')
            at++;
        else
            while (is_digit(at, end)) at++;
        if (at < end && *at == '.') {
            at++;
            if (!is_digit(at, end))
                return NULL;
            while (is_digit(at, end)) at++;
        }
        if (at < end && (*at | 32) == 'e') {
            at++;
            if (at < end && (*at == '+' || *at == '-'))
                at++;
            if (!is_digit(at, end))
                return NULL;
            while (is_digit(at, end)) at++;
        }
        return at;
    }

    /* Pass over an integer of at most 18 digits. */
    static inline const uint8_t *end_of_integer(const uint8_t *at, const uint8_t *end) {
        const uint8_t *first;
        if (at < end && *at == '-')
            at++;
        first = at;
        while (is_digit(at, end)) at++;
        if (at == first || at - first > 18 || (*first == '0' && at - first > 1))
            return NULL;
        return at;
    }

    /* Return the end of the object that begins here, or NULL: JSON without white space, nested at most 64 deep. */
    static const uint8_t *end_of_object(const uint8_t *at, const uint8_t *end) {
        uint64_t objects = 0;  /* one bit for each open container: 1 for an object, 0 for a list */
        int depth = 0, seen;
        const char *word;
        for (;;) {
            /* A value begins here. */
            if (at >= end)
                return NULL;
            switch (*at) {
            case '{':
            case '[':
                if (depth == 64)
                    return NULL;
                objects = objects << 1 | (*at == '{');
                depth++;
                at++;
                if (at < end && *at == ((objects & 1) ? '}' : ']'))
                    goto close;
                if (objects & 1)
                    goto key;
                continue;
            case '"':
                at = end_of_text(at + 1, end, &seen);
                if (at == NULL)
                    return NULL;
                at++;
                break;
            case 't': word = "true"; goto literal;
            case 'f': word = "false"; goto literal;
            case 'n': word = "null";
            literal:
                if ((size_t) (end - at) < strlen(word) || memcmp(at, word, strlen(word)))
                    return NULL;
                at += strlen(word);
                break;
            default:
                at = end_of_number(at, end);
                if (at == NULL)
                    return NULL;
            }
        behind:
            if (at >= end)
                return NULL;
            if (*at == ',') {
                at++;
                if (objects & 1)
                    goto key;
                continue;
            }
            if (*at != ((objects & 1) ? '}' : ']'))
                return NULL;
        close:
            at++;
            objects >>= 1;
            if (--depth == 0)
                return at;
            goto behind;
        key:
            if (at >= end || *at != '"')
                return NULL;
            at = end_of_text(at + 1, end, &seen);
            if (at == NULL || ++at >= end || *at++ != ':')
                return NULL;
        }
    }

    /* Return the end of a list that is not empty, or NULL. Each item has to begin with `first`, a quote or a brace. */
    static const uint8_t *end_of_list(const uint8_t *at, const uint8_t *end, uint8_t first) {
        int seen;
        if (at >= end || *at != '[')
            return NULL;
        do {
            at++;
            if (at >= end || *at != first)
                return NULL;
            if (first == '"') {
                at = end_of_text(at + 1, end, &seen);
                if (at != NULL)
                    at++;
            } else {
                at = end_of_object(at, end);
            }
            if (at == NULL || at >= end)
                return NULL;
        } while (*at == ',');
        return *at == ']' ? at + 1 : NULL;
    }

    static const uint64_t TENS[20] = {
        1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL,
        10000000000ULL, 100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL, 1000000000000000ULL,
        10000000000000000ULL, 100000000000000000ULL, 1000000000000000000ULL, 10000000000000000000ULL,
    };

    /* Read a number without sign and exponent, of at most 18 digits, as the nearest double; return NULL for others. */
    static const uint8_t *read_seconds(const uint8_t *at, const uint8_t *end, double *value) {
        const uint8_t *begin = at, *point = NULL;
        uint64_t digits = 0, mantissa;
        unsigned __int128 wide, quotient;
        int places = 0, shift, exponent;
        uint64_t rest;
        while (is_digit(at, end)) digits = digits * 10 + (*at++ - '0');
        if (at == begin || (*begin == '0' && at - begin > 1) || at - begin > 18)
            return NULL;
        if (at < end && *at == '.') {
            point = ++at;
            while (is_digit(at, end) && at - begin < 20) digits = digits * 10 + (*at++ - '0');
            places = (int) (at - point);
            if (!places || at - begin > 19)
                return NULL;
        }
        if (at < end && ((*at | 32) == 'e' || is_digit(at, end)))
            return NULL;
        if (digits >> 53 == 0) {
            *value = (double) digits / (double) TENS[places];  /* both are exact, so this rounds once */
            return at;
        }
        /* Round the quotient to 53 bits, half to even, by hand. */
        wide = (unsigned __int128) digits << 64;
        quotient = wide / TENS[places];
        rest = wide % TENS[places] != 0;
        shift = (quotient >> 64 ? 128 - __builtin_clzll((uint64_t) (quotient >> 64))
                                : 64 - __builtin_clzll((uint64_t) quotient)) - 54;
        if (shift < 1)
            return NULL;
        mantissa = (uint64_t) (quotient >> shift);
        rest |= (quotient & (((unsigned __int128) 1 << shift) - 1)) != 0;
        exponent = shift - 64 + 1;
        if ((mantissa & 1) && (rest || (mantissa & 2)))
            mantissa += 2;
        *value = __builtin_ldexp((double) (mantissa >> 1), exponent);
        return at;
    }

    """
    ctypedef struct key_t_:
        const char* text
        size_t size
        int kind
    key_t_[25] KEYS
    const uint8_t* end_of_text(const uint8_t*, const uint8_t*, int*) noexcept nogil
    const uint8_t* end_of_integer(const uint8_t*, const uint8_t*) noexcept nogil
    const uint8_t* end_of_object(const uint8_t*, const uint8_t*) noexcept nogil
    const uint8_t* end_of_list(const uint8_t*, const uint8_t*, uint8_t) noexcept nogil
    const uint8_t* read_seconds(const uint8_t*, const uint8_t*, double*) noexcept nogil


cdef inline bint cut_line(const uint8_t* line, size_t size, Cut* cut) noexcept nogil:
    """Cut a line, newline included; return False if `stores.rows` has to read it."""
    cdef const uint8_t* at = line
    cdef const uint8_t* end = line + size - 1
    cdef const uint8_t* begin
    cdef const uint8_t* stop
    cdef Piece* piece
    cdef int field = 0, seen = 0
    cdef size_t length
    memset(cut, 0, sizeof(Cut))
    if size < 24 or end[0] != 10 or (end - 1)[0] != 125 or memcmp(at, b'{"created":', 11):
        return False
    end -= 1  # the closing brace follows the last field
    at = read_seconds(at + 11, end, &cut.created)
    if at == NULL or cut.created >= 7258118400.0 or <size_t> (end - at) < 10 or memcmp(at, b',"time":"', 9):
        return False
    at = end_of_text(at + 9, end, &seen)
    if at == NULL or seen:
        return False
    at += 1
    while at < end:
        while True:
            if field == FIELDS:
                return False
            length = KEYS[field].size
            if <size_t> (end - at) > length and memcmp(at, KEYS[field].text, length) == 0:
                break
            field += 1
        begin = at
        at += length
        piece = &cut.field[field]
        seen = 0
        if KEYS[field].kind == 0:
            if at[0] != 34:
                return False
            stop = end_of_text(at + 1, end, &seen)
            if stop == NULL:
                return False
            piece.data = at + 1
            piece.size = stop - at - 1
            piece.plain = seen == 0
            at = stop + 1
        else:
            if KEYS[field].kind == 1:
                stop = end_of_integer(at, end)
            elif KEYS[field].kind == 2:
                stop = end_of_object(at, end) if at[0] == 123 else NULL
            elif KEYS[field].kind == 4:
                stop = end_of_list(at, end, 34)
            elif KEYS[field].kind == 5:
                stop = end_of_list(at, end, 123)
            else:
                stop = read_seconds(at, end, &cut.received)
                if cut.received >= 7258118400.0:
                    return False
            if stop == NULL:
                return False
            piece.data = at
            piece.size = stop - at
            at = stop
        if field <= LEVELNAME:
            stretch(&cut.head, begin, at)
        elif MSG <= field <= FUNC_NAME:
            stretch(&cut.tail, begin, at)
        elif PROCESS <= field <= TASK_NAME:
            stretch(&cut.who, begin, at)
        elif HOST <= field <= PEER:
            stretch(&cut.whence, begin, at)
        field += 1
    return at == end


cdef inline void stretch(Piece* piece, const uint8_t* begin, const uint8_t* end) noexcept nogil:
    if piece.data == NULL:
        piece.data = begin
    piece.size = end - piece.data


cdef inline int64_t integer_of(const Piece* piece) noexcept nogil:
    """Return the value of an integer's piece."""
    cdef int64_t value = 0
    cdef size_t index
    cdef bint negative = piece.data[0] == 45
    for index in range(1 if negative else 0, piece.size):
        value = value * 10 + (piece.data[index] - 48)
    return -value if negative else value


cdef inline uint32_t hex4(const uint8_t* data) noexcept nogil:
    cdef uint32_t value = 0
    cdef int index
    for index in range(4):
        value = value << 4 | ((data[index] & 15) + (9 if data[index] > 57 else 0))
    return value


cdef inline Py_ssize_t unescape(const Piece* piece, uint8_t* out) noexcept nogil:
    """Write a text without its escapes, which is never longer; return its size, or -1 for a lone surrogate."""
    cdef const uint8_t* at = piece.data
    cdef const uint8_t* end = at + piece.size
    cdef uint8_t* to = out
    cdef uint32_t code
    while at < end:
        if at[0] != 92:
            to[0] = at[0]
            to += 1
            at += 1
            continue
        if at[1] != 117:
            to[0] = (
                8 if at[1] == 98 else 12 if at[1] == 102 else 10 if at[1] == 110 else 13 if at[1] == 114
                else 9 if at[1] == 116 else at[1]
            )
            to += 1
            at += 2
            continue
        code = hex4(at + 2)
        at += 6
        if 0xD800 <= code < 0xE000:
            if code >= 0xDC00 or end - at < 6 or at[0] != 92 or at[1] != 117 or hex4(at + 2) & 0xFC00 != 0xDC00:
                return -1
            code = 0x10000 + ((code & 0x3FF) << 10 | (hex4(at + 2) & 0x3FF))
            at += 6
        if code < 0x80:
            to[0] = <uint8_t> code
            to += 1
        elif code < 0x800:
            to[0] = <uint8_t> (0xC0 | code >> 6)
            to[1] = <uint8_t> (0x80 | code & 0x3F)
            to += 2
        elif code < 0x10000:
            to[0] = <uint8_t> (0xE0 | code >> 12)
            to[1] = <uint8_t> (0x80 | code >> 6 & 0x3F)
            to[2] = <uint8_t> (0x80 | code & 0x3F)
            to += 3
        else:
            to[0] = <uint8_t> (0xF0 | code >> 18)
            to[1] = <uint8_t> (0x80 | code >> 12 & 0x3F)
            to[2] = <uint8_t> (0x80 | code >> 6 & 0x3F)
            to[3] = <uint8_t> (0x80 | code & 0x3F)
            to += 4
    return to - out
