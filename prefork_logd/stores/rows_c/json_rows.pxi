# Writes rows as JSON lines for DuckDB's reader, from the fields of a line (cut.pxi).
#
# stores/parquet/rows.py is the specification: it makes the same row of the same line, octet for octet. A line whose
# columns do not give back its exact bytes is left to it.

cdef extern from *:
    """
    #include <math.h>

    /* Whether a character of UNSAFE that is not ASCII begins here; `at` is in UTF-8. */
    static inline int is_unsafe(const uint8_t *at) {
        return (at[0] == 0xC2 && at[1] < 0xA0) || (at[0] == 0xD8 && at[1] == 0x9C) ||
               (at[0] == 0xE2 && at[1] == 0x80 &&
                (at[2] == 0x8E || at[2] == 0x8F || (at[2] >= 0xA8 && at[2] <= 0xAE))) ||
               (at[0] == 0xE2 && at[1] == 0x81 && at[2] >= 0xA6 && at[2] <= 0xA9) ||
               (at[0] == 0xEF && at[1] == 0xBB && at[2] == 0xBF);
    }

    /* Whether a text, or JSON, has exactly the escapes that the collector writes (records/render.py, UNSAFE). */
    static int has_own_escapes(const uint8_t *at, const uint8_t *end) {
        uint32_t code;
        int index;
        while (at < end) {
            if (*at == '\\\\') {
                if (at[1] != 'u') {
                    if (at[1] == '/')
                        return 0;
                    at += 2;
                    continue;
                }
                code = 0;
                for (index = 2; index < 6; index++) {
                    if (at[index] >= 'A' && at[index] <= 'F')
                        return 0;
                    code = code << 4 | ((at[index] & 15) + (at[index] > 57 ? 9 : 0));
                }
                if (code < 0x20 ? code == 8 || code == 9 || code == 10 || code == 12 || code == 13
                                : !((code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x200E || code == 0x200F ||
                                    (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069) ||
                                    code == 0xFEFF))
                    return 0;
                at += 6;
            } else if (*at < 0x7F) {
                at++;
            } else if (*at == 0x7F) {
                return 0;
            } else {
                if (is_unsafe(at))
                    return 0;
                at++;
            }
        }
        return 1;
    }

    static inline unsigned __int128 distance(unsigned __int128 one, unsigned __int128 other) {
        return one > other ? one - other : other - one;
    }

    /* Whether digits with a point are the shortest spelling of a time, and of the shortest ones the nearest: that is
       how Python and JSON encoders spell a float. A time below 1 s or above 2^53 s counts as spelled in another way. */
    static int is_shortest(const uint8_t *at, const uint8_t *end, double value) {
        uint64_t digits = 0, mantissa;
        unsigned __int128 exact, shorter;
        int places = 0, exponent, shift, point = 0;
        for (; at < end && (*at == '.' || is_digit(at, end)); at++) {
            if (*at == '.') {
                point = 1;
                continue;
            }
            digits = digits * 10 + (*at - '0');
            places += point;
        }
        mantissa = (uint64_t) ldexp(frexp(value, &exponent), 53);
        shift = 53 - exponent;  /* value is mantissa / 2^shift */
        if (places < 1 || places > 10 || shift < 1 || shift > 53)
            return 0;
        exact = (unsigned __int128) mantissa * TENS[places];
        if (distance((unsigned __int128) digits << shift, exact) * 2 >= (unsigned __int128) 1 << shift)
            return 0;
        if (places == 1)
            return 1;
        /* With one digit less the nearest number is another float if it is more than half a unit away. */
        exact = (unsigned __int128) mantissa * TENS[places - 1];
        shorter = (exact + ((unsigned __int128) 1 << (shift - 1))) >> shift;
        return distance(shorter << shift, exact) * 2 > TENS[places - 1];
    }

    static inline int two_digits(const uint8_t *at) { return (at[0] - '0') * 10 + (at[1] - '0'); }

    /* Whether `,"time":"2026-11-23T12:34:56.123456Z"` says the same as seconds since 1970, rounded as Python does. */
    static int is_time_of(const uint8_t *at, const uint8_t *end, double created) {
        static const char FORM[] = ",\\"time\\":\\"dddd-dd-ddTdd:dd:dd.ddddddZ\\"";
        int64_t micro = (int64_t) nearbyint(created * 1e6), second = micro / 1000000, day = second / 86400;
        int64_t year, month, shifted, days_of_year, era_day, era_year;
        int index, rest = (int) (second % 86400);
        if (end - at < (ptrdiff_t) sizeof(FORM) - 1)
            return 0;
        for (index = 0; index < (int) sizeof(FORM) - 1; index++)
            if (FORM[index] == 'd' ? !is_digit(at + index, end) : at[index] != (uint8_t) FORM[index])
                return 0;
        /* Days since 1970 to a date: years begin in March, so that a leap day is a year's last. */
        shifted = day + 719468;
        era_day = shifted % 146097;
        era_year = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
        days_of_year = era_day - (365 * era_year + era_year / 4 - era_year / 100);
        month = (5 * days_of_year + 2) / 153;
        day = days_of_year - (153 * month + 2) / 5 + 1;
        month += month < 10 ? 3 : -9;
        year = shifted / 146097 * 400 + era_year + (month <= 2);
        at += 9;
        return two_digits(at) * 100 + two_digits(at + 2) == year && two_digits(at + 5) == month &&
               two_digits(at + 8) == day && two_digits(at + 11) == rest / 3600 &&
               two_digits(at + 14) == rest / 60 % 60 && two_digits(at + 17) == rest % 60 &&
               two_digits(at + 20) * 10000 + two_digits(at + 22) * 100 + two_digits(at + 24) == micro % 1000000;
    }
    """
    bint has_own_escapes(const uint8_t*, const uint8_t*) noexcept nogil
    bint is_shortest(const uint8_t*, const uint8_t*, double) noexcept nogil
    bint is_time_of(const uint8_t*, const uint8_t*, double) noexcept nogil


cdef enum:
    ROW_ROOM = 48           # of a row, besides its line and escapes: number and quotes


cdef bint gives_back(const uint8_t* line, const uint8_t* end, const Cut* cut) noexcept nogil:
    """Return whether a line that was cut has exactly the bytes that its columns give."""
    cdef const uint8_t* at = line + 11
    cdef const Piece* piece
    cdef int field
    if not is_shortest(at, end, cut.created):
        return False
    while at[0] != 44:
        at += 1
    if not is_time_of(at, end, cut.created):
        return False
    for field in range(FIELDS):
        piece = &cut.field[field]
        if piece.data == NULL:
            continue
        if field == ARRIVED:
            if not cut.received or not is_shortest(piece.data, piece.data + piece.size, cut.received):
                return False
        elif field == EXTRA or field == TRUNCATED or field == EXCEPTION:
            if piece.size < 3 or not has_own_escapes(piece.data, piece.data + piece.size):
                return False
        elif field == LEVELNO or field == LINENO or field == PROCESS or field == THREAD:
            if piece.data[0] == 45 and piece.data[1] == 48:
                return False
        elif not piece.size or (
            memchr(piece.data, 0x7F, piece.size) != NULL
            if piece.plain
            else not has_own_escapes(piece.data, piece.data + piece.size)
        ):
            return False
    return True


cdef inline uint8_t* put_bytes(uint8_t* to, const uint8_t* at, const uint8_t* end) noexcept nogil:
    memcpy(to, at, end - at)
    return to + (end - at)


cdef inline uint8_t* put_quoted(uint8_t* to, const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Write JSON as the text of a JSON string."""
    to[0] = 34
    to += 1
    while at < end:
        if at[0] == 34 or at[0] == 92:
            to[0] = 92
            to += 1
        to[0] = at[0]
        to += 1
        at += 1
    to[0] = 34
    return to + 1


cdef uint8_t* put_row(uint8_t* to, const uint8_t* line, const uint8_t* end, Cut* cut, int64_t number) noexcept nogil:
    cdef uint8_t[20] digits
    cdef int count = 0, field
    cdef const uint8_t* at = line + 1
    cdef const uint8_t* stop
    memcpy(to, b'{"number":', 10)
    to += 10
    while True:
        digits[count] = 48 + number % 10
        count += 1
        number //= 10
        if not number:
            break
    while count:
        count -= 1
        to[0] = digits[count]
        to += 1
    to[0] = 44
    to += 1
    for field in range(EXTRA, EXCEPTION + 1):
        if cut.field[field].data != NULL:
            stop = cut.field[field].data + cut.field[field].size
            to = put_quoted(put_bytes(to, at, cut.field[field].data), cut.field[field].data, stop)
            at = stop
    return put_bytes(to, at, end)


def json_rows(bytes lines not None, int64_t number, slow):
    """Return the rows of lines, the first of which has this number, and where the day of `received` changes.

    `lines` are UTF-8. `slow(line, number)` returns (row, seconds since 1970) for a line that is not for us, or None if
    it is no record. The second value is a list of (offset of the row, its number, its day).
    """
    cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(lines)
    cdef const uint8_t* end = at + PyBytes_GET_SIZE(lines)
    cdef const uint8_t* stop
    cdef const uint8_t* data
    cdef uint8_t* out = NULL
    cdef uint8_t* more
    cdef size_t room = 0, used = 0, wanted
    cdef int64_t day, last = -1
    cdef Cut cut
    cdef list days = []
    cdef bytes row
    cdef bint is_ours
    try:
        while at < end:
            stop = <const uint8_t*> memchr(at, 10, end - at)
            if stop == NULL:
                raise ValueError("the last line has no end")
            stop += 1
            row = None
            is_ours = cut_line(at, stop - at, &cut) and gives_back(at, stop, &cut)
            if is_ours:
                day = <int64_t> ((cut.received or cut.created) / 86400)
                wanted = stop - at + ROW_ROOM
                for index in range(EXTRA, EXCEPTION + 1):
                    wanted += cut.field[index].size
            else:
                made = slow(PyBytes_FromStringAndSize(<const char*> at, stop - at), number)
                if made is None:
                    number += 1
                    at = stop
                    continue
                row, received = made
                day = <int64_t> (<double> received / 86400)
                wanted = PyBytes_GET_SIZE(row)
            if room - used < wanted:
                room = (room + wanted) * 2 + (end - at)
                more = <uint8_t*> realloc(out, room)
                if more == NULL:
                    raise MemoryError
                out = more
            if day != last:
                days.append((used, number, day))
                last = day
            if is_ours:
                used = put_row(out + used, at, stop, &cut, number) - out
            else:
                data = <const uint8_t*> PyBytes_AS_STRING(row)
                used = put_bytes(out + used, data, data + wanted) - out
            number += 1
            at = stop
        return PyBytes_FromStringAndSize(<const char*> out, used), days
    finally:
        free(out)
