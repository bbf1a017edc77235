# Finds the lines of a block that may be errors (stores/errors/candidates.py is the specification).

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <string.h>
    extern void *memmem(const void *, size_t, const void *, size_t);
    """
    void *memmem(const void *text, size_t size, const void *wanted, size_t wanted_size) nogil

cdef const char *LEVEL_SIGN = b'"levelno":'
cdef const char *EXC_TEXT_SIGN = b'"exc_text":"'
cdef const char *EXCEPTION_SIGN = b'"exception":['


def error_lines(bytes lines not None):
    """Return the index and the bytes of each line that may be an error, in order."""
    cdef const char *text = PyBytes_AS_STRING(lines)
    cdef const char *end = text + PyBytes_GET_SIZE(lines)
    cdef const char *start = text
    cdef const char *stop
    cdef Py_ssize_t index = 0
    found = []
    while start < end:
        stop = <const char *>memchr(start, c"\n", end - start)
        stop = end if stop == NULL else stop + 1
        if _may_be_error(start, stop):
            found.append((index, PyBytes_FromStringAndSize(start, stop - start)))
        start = stop
        index += 1
    return found


cdef inline bint _is_digit(char one) noexcept nogil:
    return c"0" <= one <= c"9"


cdef bint _may_be_error(const char *start, const char *stop) noexcept nogil:
    cdef const char *at = <const char *>memmem(start, stop - start, LEVEL_SIGN, 10)
    if at != NULL:
        at += 10
        if stop - at >= 2 and _is_digit(at[1]) and (c"4" <= at[0] <= c"9"):
            return True
        if stop - at >= 3 and _is_digit(at[0]) and _is_digit(at[1]) and _is_digit(at[2]):
            return True
    # Both signs begin with `"ex`, and x is rare.
    at = start
    while True:
        at = <const char *>memchr(at, c"x", stop - at)
        if at == NULL:
            return False
        if at - start >= 2:
            if stop - at >= 10 and memcmp(at - 2, EXC_TEXT_SIGN, 12) == 0:
                return True
            if stop - at >= 11 and memcmp(at - 2, EXCEPTION_SIGN, 13) == 0:
                return True
        at += 1
