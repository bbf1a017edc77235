# The words of records, for the filter of a Parquet segment: stores/parquet/_word_set_py.py is the specification.

cdef enum:
    SEPARATOR = 0           # ends a word; any other class that is not one below is the folded letter or digit itself
    QUOTE = 1
    ESCAPE = 2
    LEAD = 3                # the first octet of a character that may fold to letters of ASCII
    LONGEST = 512           # octets of a word that are kept; of a longer one the first
    EXACT_DIGITS = 15       # a number with so many digits before its fraction and nines at its begin may be rounded

cdef uint8_t[256] CLASSES
cdef const char* ROUGH_WORD = b"\x00r"


cdef void make_classes() noexcept:
    cdef int octet
    for octet in range(256):
        CLASSES[octet] = SEPARATOR
    for octet in range(48, 58):
        CLASSES[octet] = octet
    for octet in range(97, 123):
        CLASSES[octet] = octet
        CLASSES[octet - 32] = octet
    CLASSES[34] = QUOTE
    CLASSES[92] = ESCAPE
    for octet in (0xC3, 0xC4, 0xC5, 0xE1, 0xE2):
        CLASSES[octet] = LEAD


make_classes()


cdef inline uint64_t hash_word(const uint8_t* word, size_t size) noexcept nogil:
    """Hash eight octets at a time, as `hash_of` does in Python."""
    cdef uint64_t value = size * 0x9E3779B97F4A7C15ULL
    cdef uint64_t part
    cdef size_t at = 0
    while at < size:
        part = 0
        if at + 8 <= size:
            memcpy(&part, word + at, 8)
        else:
            memcpy(&part, word + at, size - at)
        value = (value ^ part) * 0xFF51AFD7ED558CCDULL
        value ^= value >> 32
        at += 8
    return value


cdef class WordSet:
    """The different words of some records, as their hashes; at most `most` of them."""

    cdef uint64_t* places
    cdef size_t room
    cdef size_t count
    cdef size_t most
    cdef bint has_zero
    cdef uint8_t[LONGEST] word
    cdef size_t size

    def __cinit__(self, size_t most):
        self.room = 1 << 12
        self.most = most
        self.places = <uint64_t*> calloc(self.room, sizeof(uint64_t))
        if self.places == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.places)

    def __len__(self):
        return self.count + self.has_zero

    @property
    def is_full(self):
        """Whether there were more words than it holds."""
        return self.count > self.most

    def hashes(self):
        """Return the hashes, in octets: each is a little-endian integer of eight."""
        cdef bytes found = PyBytes_FromStringAndSize(NULL, (self.count + self.has_zero) * 8)
        cdef uint64_t* at = <uint64_t*> PyBytes_AS_STRING(found)
        cdef size_t index
        for index in range(self.room):
            if self.places[index]:
                at[0] = self.places[index]
                at += 1
        if self.has_zero:
            at[0] = 0
        return found

    def add(self, bytes lines not None):
        """Add the words of lines. Each line is a record of JSON in UTF-8, and ends in a newline."""
        cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(lines)
        cdef const uint8_t* end = at + PyBytes_GET_SIZE(lines)
        cdef const uint8_t* stop
        while at < end and self.count <= self.most:
            stop = <const uint8_t*> memchr(at, 10, end - at)
            self._line(at, stop if stop != NULL else end)
            at = stop + 1 if stop != NULL else end

    cdef int _line(self, const uint8_t* at, const uint8_t* end) except -1:
        cdef const uint8_t* key
        cdef int depth = 0
        cdef bint is_key = False, is_wanted = False
        cdef uint8_t octet
        while at < end:
            octet = at[0]
            at += 1
            if octet == 34:
                if depth == 1 and is_key:
                    key = at
                    at = end_of_string(at, end)
                    is_wanted = is_indexed(key, at - 1 - key)
                    is_key = False
                elif is_wanted:
                    at = self._text(at, end)
                else:
                    at = end_of_string(at, end)
            elif octet == 44:
                is_key = depth == 1
            elif octet == 123 or octet == 91:
                depth += 1
                is_key = depth == 1
            elif octet == 125 or octet == 93:
                depth -= 1
            elif is_wanted and 48 <= octet <= 57:
                at = self._number(at - 1, end)
        return 0

    cdef const uint8_t* _text(self, const uint8_t* at, const uint8_t* end) except NULL:
        """Add the words of a string whose first octet is at `at`; return what is behind its closing quote."""
        cdef uint8_t kind
        cdef int code
        self.size = 0
        while at < end:
            kind = CLASSES[at[0]]
            if kind > LEAD:
                if self.size < LONGEST:
                    self.word[self.size] = kind
                    self.size += 1
                at += 1
                continue
            if kind == QUOTE:
                self._end_word()
                return at + 1
            if kind == SEPARATOR:
                self._end_word()
                at += 1
                continue
            if kind == ESCAPE:
                if end - at >= 6 and at[1] == 117:
                    code = hexadecimal(at + 2)
                    at += 6
                else:
                    code = 0
                    at += 2
            elif end - at >= 3 and at[0] >= 0xE0:
                code = (at[0] & 15) << 12 | (at[1] & 63) << 6 | (at[2] & 63)
                at += 3
            elif end - at >= 2:
                code = (at[0] & 31) << 6 | (at[1] & 63)
                at += 2
            else:
                code = 0
                at += 1
            self._character(code)
        self._end_word()
        return end

    cdef int _character(self, int code) except -1:
        """Add a character to the word, or end the word."""
        cdef uint8_t letter = 0
        if 0 < code < 128 and CLASSES[code] > LEAD:
            letter = CLASSES[code]
        elif code == 0x17F or code == 0xDF or code == 0x1E9E:
            letter = 115
        elif code == 0x130 or code == 0x131:
            letter = 105
        elif code == 0x212A:
            letter = 107
        if not letter:
            return self._end_word()
        for _ in range(2 if code == 0xDF or code == 0x1E9E else 1):
            if self.size < LONGEST:
                self.word[self.size] = letter
                self.size += 1
        return 0

    cdef const uint8_t* _number(self, const uint8_t* at, const uint8_t* end) except NULL:
        """Add the word of a number, whose first digit is at `at`; return what is behind it."""
        cdef const uint8_t* start = at
        cdef size_t digits, fraction = 0, nines = 0
        cdef bint is_rough = False
        while at < end and 48 <= at[0] <= 57:
            at += 1
        digits = at - start
        if at < end and at[0] == 46:
            at += 1
            while at < end and 48 <= at[0] <= 57:
                nines += at[0] == 57 and nines == fraction
                fraction += 1
                at += 1
            is_rough = digits + nines >= EXACT_DIGITS
        if at < end and (at[0] == 69 or at[0] == 101):
            is_rough = True
            at += 1
            while at < end and (48 <= at[0] <= 57 or at[0] == 43 or at[0] == 45):
                at += 1
        if is_rough:
            self._keep(hash_word(<const uint8_t*> ROUGH_WORD, 2))
        else:
            self._keep(hash_word(start, min(digits, <size_t> LONGEST)))
        return at

    cdef int _end_word(self) except -1:
        if self.size:
            self._keep(hash_word(self.word, self.size))
            self.size = 0
        return 0

    cdef int _keep(self, uint64_t value) except -1:
        cdef size_t index
        if value == 0:
            self.has_zero = True
            return 0
        index = value >> 20 & (self.room - 1)
        while self.places[index]:
            if self.places[index] == value:
                return 0
            index = index + 1 & (self.room - 1)
        self.places[index] = value
        self.count += 1
        if self.count * 2 > self.room:
            self._grow()
        return 0

    cdef int _grow(self) except -1:
        cdef uint64_t* before = self.places
        cdef size_t room = self.room, index, at
        self.places = <uint64_t*> calloc(room * 2, sizeof(uint64_t))
        if self.places == NULL:
            self.places = before
            raise MemoryError
        self.room = room * 2
        for index in range(room):
            if before[index]:
                at = before[index] >> 20 & (self.room - 1)
                while self.places[at]:
                    at = at + 1 & (self.room - 1)
                self.places[at] = before[index]
        free(before)
        return 0


cdef inline bint is_indexed(const uint8_t* key, size_t size) noexcept:
    """Return whether the words of a field are kept."""
    return (
        (size == 7 and memcmp(key, b"message", 7) == 0) or (size == 8 and memcmp(key, b"exc_text", 8) == 0)
        or (size == 10 and memcmp(key, b"stack_info", 10) == 0) or (size == 5 and memcmp(key, b"extra", 5) == 0)
    )


cdef inline const uint8_t* end_of_string(const uint8_t* at, const uint8_t* end) noexcept:
    """Return what is behind the closing quote of a string."""
    cdef const uint8_t* quote
    cdef const uint8_t* back
    cdef const uint8_t* start = at
    while True:
        quote = <const uint8_t*> memchr(at, 34, end - at)
        if quote == NULL:
            return end
        back = quote
        while back > start and (back - 1)[0] == 92:
            back -= 1
        at = quote + 1
        if (quote - back) & 1 == 0:
            return at


cdef inline int hexadecimal(const uint8_t* at) noexcept:
    cdef int value = 0, index
    cdef uint8_t octet
    for index in range(4):
        octet = at[index] | 32
        value = value << 4 | (octet - 87 if octet >= 97 else octet - 48) & 15
    return value


def fill_filter(bytes hashes not None, bytearray target not None):
    """Set the bits of hashes in a filter (stores/parquet/word_filter.py)."""
    cdef const uint64_t* at = <const uint64_t*> PyBytes_AS_STRING(hashes)
    cdef uint32_t* bits = <uint32_t*> PyByteArray_AS_STRING(target)
    cdef uint64_t blocks = len(target) // 32
    cdef uint32_t key
    cdef Py_ssize_t index
    cdef uint32_t* block
    for index in range(PyBytes_GET_SIZE(hashes) // 8):
        block = bits + ((at[index] >> 32) * blocks >> 32) * 8
        key = <uint32_t> at[index]
        block[0] |= 1U << (key * 0x47B6137BU >> 27)
        block[1] |= 1U << (key * 0x44974D91U >> 27)
        block[2] |= 1U << (key * 0x8824AD5BU >> 27)
        block[3] |= 1U << (key * 0xA2B7289DU >> 27)
        block[4] |= 1U << (key * 0x705495C7U >> 27)
        block[5] |= 1U << (key * 0x2DF1424BU >> 27)
        block[6] |= 1U << (key * 0x9EFC4947U >> 27)
        block[7] |= 1U << (key * 0x5C6BFB31U >> 27)
