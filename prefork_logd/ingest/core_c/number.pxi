# Writes numbers as text: integers, and floats in the shortest form that reads back the same.
#
# Owns two spellings of a float: JSON's as msgspec has it, and Python's repr(). The digits are found by Raffaello
# Giulietti's Schubfach ("The Schubfach way to render doubles", 2020), with powers of ten computed at import.

cdef enum:
    LEAST_POWER = -292
    MOST_POWER = 324

cdef uint64_t[MOST_POWER - LEAST_POWER + 1] POWER_HIGH
cdef uint64_t[MOST_POWER - LEAST_POWER + 1] POWER_LOW
cdef char[200] PAIRS


def _fill_tables():
    """Compute 10**k in 128 bits, rounded up, for every k that a double can need."""
    for k in range(LEAST_POWER, MOST_POWER + 1):
        shift = 127 - ((k * 1741647) >> 19)
        top, bottom = (10**k, 1) if k >= 0 else (1, 10**-k)
        if shift >= 0:
            top <<= shift
        else:
            bottom <<= -shift
        value = -(-top // bottom)
        POWER_HIGH[k - LEAST_POWER] = value >> 64
        POWER_LOW[k - LEAST_POWER] = value & 0xFFFFFFFFFFFFFFFF
    for n in range(100):
        PAIRS[2 * n] = 48 + n // 10
        PAIRS[2 * n + 1] = 48 + n % 10


_fill_tables()


cdef struct Decimal:
    uint64_t digits
    int exponent


cdef inline uint64_t round_to_odd(uint64_t high, uint64_t low, uint64_t factor) noexcept nogil:
    cdef uint128_t x0 = <uint128_t> low * factor
    cdef uint128_t x1 = <uint128_t> high * factor + <uint64_t> (x0 >> 64)
    return <uint64_t> (x1 >> 64) | (1 if <uint64_t> x1 > 1 else 0)


cdef Decimal shortest(double value) noexcept nogil:
    """Return the shortest decimal that rounds to a finite positive double; of several the nearest."""
    cdef uint64_t bits, c, cb, vb, vbl, vbr, lower, upper, s, sp, high, low, mid
    cdef int64_t exponent
    cdef int q, k, h
    cdef bint closer, odd, inside, above
    cdef Decimal result
    memcpy(&bits, &value, 8)
    exponent = (bits >> 52) & 0x7FF
    c = bits & 0xFFFFFFFFFFFFFULL
    closer = c == 0 and exponent > 1
    if exponent:
        c |= <uint64_t> 1 << 52
        q = <int> exponent - 1075
        if -52 <= q <= 0 and (c & ((<uint64_t> 1 << -q) - 1)) == 0:
            result.digits = c >> -q
            result.exponent = 0
            return result
    else:
        q = -1074
    odd = c & 1
    cb = 4 * c
    k = (q * 1262611 - (524031 if closer else 0)) >> 22
    h = q + ((-k * 1741647) >> 19) + 1
    high = POWER_HIGH[-k - LEAST_POWER]
    low = POWER_LOW[-k - LEAST_POWER]
    vbl = round_to_odd(high, low, (cb - (1 if closer else 2)) << h)
    vb = round_to_odd(high, low, cb << h)
    vbr = round_to_odd(high, low, (cb + 2) << h)
    lower = vbl + (1 if odd else 0)
    upper = vbr - (1 if odd else 0)
    s = vb // 4
    if s >= 10:
        sp = s // 10
        inside = lower <= 40 * sp
        above = 40 * sp + 40 <= upper
        if inside != above:
            result.digits = sp + (1 if above else 0)
            result.exponent = k + 1
            return result
    inside = lower <= 4 * s
    above = 4 * s + 4 <= upper
    result.exponent = k
    if inside != above:
        result.digits = s + (1 if above else 0)
        return result
    mid = 4 * s + 2
    result.digits = s + (1 if vb > mid or (vb == mid and s & 1) else 0)
    return result


cdef extern from *:
    """
    /* Return the eight digits of a number below 10**8, the first in the lowest octet, each as its value: in each step
       all parts are divided at once, by a multiplication that is exact for such small numbers. */
    static inline uint64_t digits8(uint32_t value) {
        uint64_t parts = value / 10000 | (uint64_t)(value % 10000) << 32;
        uint64_t tops = parts * 10486 >> 20 & 0x7f0000007fULL;
        parts = tops | (parts - 100 * tops) << 16;
        tops = parts * 103 >> 10 & 0x000f000f000f000fULL;
        return tops | (parts - 10 * tops) << 8;
    }
    """
    uint64_t digits8(uint32_t) noexcept nogil
    int __builtin_ctzll(unsigned long long) nogil
    int __builtin_ctz(unsigned int) nogil

cdef uint64_t EIGHT_ZEROS = 0x3030303030303030ULL
cdef uint64_t[9] POWERS      # of ten
POWERS[0] = 1
for _power in range(8):
    POWERS[_power + 1] = POWERS[_power] * 10


cdef inline bint read_eight(uint64_t digits, uint64_t* value) noexcept nogil:
    """Set the value of eight digits, the first in the lowest octet; return whether they are digits."""
    cdef uint64_t parts = digits ^ EIGHT_ZEROS
    # A digit is at most 9: six more leave the upper half of its octet alone.
    if (parts | (parts + 0x0606060606060606ULL)) & 0xF0F0F0F0F0F0F0F0ULL:
        return False
    # Neighbours are joined to numbers of two, four and eight digits: ten times the first, and the second.
    parts = parts * (10 << 8 | 1) >> 8 & 0x00FF00FF00FF00FFULL
    parts = parts * (100 << 16 | 1) >> 16 & 0x0000FFFF0000FFFFULL
    value[0] = parts * (<uint64_t> 10000 << 32 | 1) >> 32
    return True


cdef inline bint read_digits(const uint8_t* data, size_t size, uint64_t* value) noexcept nogil:
    """Set the value of 1 to 16 digits; return whether they are digits, and so many. 16 octets can be read."""
    cdef uint64_t high = 0, low = 0
    if not 1 <= size <= 16:
        return False
    if size > 8:
        if not read_eight(load8(data), &high):
            return False
        data += 8
        size -= 8
    # Zeros go before the digits, which are at most eight now.
    if not read_eight(load8(data) << (64 - 8 * size) | EIGHT_ZEROS >> 1 >> (8 * size - 1), &low):
        return False
    value[0] = high * POWERS[size] + low
    return True


cdef inline int spell(uint64_t value, char* end) noexcept nogil:
    """Write a number's digits so that they end at `end`, with 24 bytes of room before it; return their number."""
    cdef char* at = end
    cdef uint64_t digits
    while value >= 100_000_000:
        digits = digits8(<uint32_t> (value % 100_000_000)) | EIGHT_ZEROS
        value //= 100_000_000
        at -= 8
        memcpy(at, &digits, 8)
    if value < 10:
        (at - 1)[0] = <char> (48 + value)
        return <int> (end - at) + 1
    digits = digits8(<uint32_t> value)
    at -= 8
    end -= __builtin_ctzll(digits) // 8
    digits |= EIGHT_ZEROS
    memcpy(at, &digits, 8)
    return <int> (end - at)


cdef enum:
    INTEGER_ROOM = 24        # octets that are written, of which the last ones may not count


cdef inline uint8_t* spell_eight(uint8_t* to, uint32_t value) noexcept nogil:
    """Write a number below 10**8 without zeros before it, with eight octets of room; return its end."""
    cdef uint64_t digits = digits8(value)
    # The last digit is written also if it is 0.
    cdef int zeros = __builtin_ctzll(digits | <uint64_t> 1 << 56) // 8
    digits = (digits | EIGHT_ZEROS) >> (8 * zeros)
    memcpy(to, &digits, 8)
    return to + 8 - zeros


cdef inline uint8_t* spell_rest(uint8_t* to, uint32_t value) noexcept nogil:
    """Write a number below 10**8 with all of its eight digits; return their end."""
    cdef uint64_t digits = digits8(value) | EIGHT_ZEROS
    memcpy(to, &digits, 8)
    return to + 8


cdef inline uint8_t* spell_integer(uint8_t* to, int64_t value) noexcept nogil:
    """Write an integer, with INTEGER_ROOM; return its end."""
    cdef uint64_t magnitude = <uint64_t> value, high
    if value < 0:
        magnitude = 0 - magnitude
        to[0] = 45
        to += 1
    if magnitude < 100_000_000:
        return spell_eight(to, <uint32_t> magnitude)
    high = magnitude // 100_000_000
    if high < 100_000_000:
        to = spell_eight(to, <uint32_t> high)
    else:
        to = spell_eight(to, <uint32_t> (high // 100_000_000))
        to = spell_rest(to, <uint32_t> (high % 100_000_000))
    return spell_rest(to, <uint32_t> (magnitude % 100_000_000))


cdef inline bint put_integer(Out* out, int64_t value) noexcept nogil:
    if not reserve(out, INTEGER_ROOM):
        return False
    out.size = spell_integer(out.data + out.size, value) - out.data
    return True


cdef enum:
    FLOAT_ROOM = 40


cdef bint put_float(Out* out, double value, bint as_json) noexcept nogil:
    """Write a finite float, as JSON or in the form of repr()."""
    if not reserve(out, FLOAT_ROOM):
        return False
    out.size = spell_float(out.data + out.size, value, as_json) - out.data
    return True


cdef uint8_t* spell_float(uint8_t* at, double value, bint as_json) noexcept nogil:
    """Write what put_float writes, within FLOAT_ROOM; return its end."""
    cdef char[40] text  # 16 octets can be read from any digit, the last of which is the 24th
    cdef char* digits
    cdef int count, point, exponent, least = -5 if as_json else -4
    cdef Decimal found
    if signbit(value):
        at[0] = 45
        at += 1
        value = -value
    if value == 0:
        memcpy(at, b"0.0", 3)
        return at + 3
    found = shortest(value)
    while found.digits % 10 == 0:
        found.digits //= 10
        found.exponent += 1
    count = spell(found.digits, text + 24)
    digits = text + 24 - count
    point = count + found.exponent  # position of the decimal point, counted from the first digit
    if least < point <= 16:
        if point <= 0:
            memcpy(at, b"0.", 2)
            memset(at + 2, 48, -point)
            memcpy(at + 2 - point, digits, count)
            at += 2 - point + count
        elif point >= count:
            memcpy(at, digits, count)
            memset(at + count, 48, point - count)
            memcpy(at + point, b".0", 2)
            at += point + 2
        else:
            # More than needed: copying a fixed number takes no call.
            memcpy(at, digits, 16)
            at[point] = 46
            memcpy(at + point + 1, digits + point, 16)
            at += count + 1
    else:
        at[0] = digits[0]
        at += 1
        if count > 1:
            at[0] = 46
            memcpy(at + 1, digits + 1, count - 1)
            at += count
        at[0] = 101
        at += 1
        exponent = point - 1
        if exponent < 0:
            at[0] = 45
            at += 1
            exponent = -exponent
        elif not as_json:
            at[0] = 43
            at += 1
        if exponent < 10 and not as_json:
            at[0] = 48
            at += 1
        count = spell(exponent, text + 24)
        memcpy(at, text + 24 - count, count)
        at += count
    return at
