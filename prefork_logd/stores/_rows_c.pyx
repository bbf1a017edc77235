# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True
"""Turns stored lines into rows for SQLite and PostgreSQL in one pass: the compiled core of the stores.

Owns the reading of the collector's own lines (rows_c/cut.pxi), and the rows for SQLite (here) and for PostgreSQL
(rows_c/copy.pxi). Does not know databases, and words no error. The Python modules are the specification
(stores/rows.py, stores/sqlite/row_builder.py, stores/postgresql/copy_rows.py) and read lines in any other form.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

cdef extern from "Python.h":
    unicode PyUnicode_New(Py_ssize_t, Py_UCS4)
    uint8_t* PyUnicode_1BYTE_DATA(object)

include "rows_c/cut.pxi"

ABI = 4
"""The version of this interface: the package does not use an extension with another one."""

cdef enum:
    SLOTS = 8192            # places of a cache; a miss costs a few microseconds
    MOST_KEY = 1024         # bytes; Python looks up longer keys each time


_SITE_FIELDS = (NAME, LEVELNO, LEVELNAME, PATHNAME, FILENAME, MODULE, LINENO, FUNC_NAME, MSG)
_ORIGIN_FIELDS = (PROCESS, PROCESS_NAME, THREAD, THREAD_NAME, TASK_NAME, PEER, HOST, SERVICE, ENVIRONMENT, VERSION)


cdef struct Slot:
    uint64_t hash
    PyObject* key           # bytes; NULL: the place is empty
    PyObject* number        # int


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


cdef class Packer:
    """Makes rows of lines, for one file. `site` and `origin` return the number of a tuple of values.

    `slow(line, number)` is called for each line in another form. It returns the row, or None for a line that is not a
    record.
    """

    cdef object site
    cdef object origin
    cdef object slow
    cdef Slot* sites
    cdef Slot* origins
    cdef uint8_t* scratch
    cdef size_t room

    def __cinit__(self, site, origin, slow):
        self.site = site
        self.origin = origin
        self.slow = slow
        self.scratch = NULL
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
        free(self.scratch)

    def clear(self):
        """Forget every number."""
        forget(self.sites)
        forget(self.origins)

    def pack(self, bytes lines not None, int64_t number):
        """Return (rows, whether they are in the order of their ids, the earliest and the latest time of arrival).

        `number` is the number of the first line; each line ends in a newline.
        """
        cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(lines)
        cdef const uint8_t* end = at + PyBytes_GET_SIZE(lines)
        cdef const uint8_t* stop
        cdef int64_t key, last = -1
        cdef bint ordered = True
        cdef double least = 1e300, most = 0, arrived
        cdef Cut cut
        cdef list rows = []
        while at < end:
            stop = <const uint8_t*> memchr(at, 10, end - at)
            if stop == NULL:
                raise ValueError("the last line has no end")
            stop += 1
            row = None
            if cut_line(at, stop - at, &cut):
                try:
                    row = self._row(&cut, number)
                except UnicodeDecodeError:
                    pass
            if row is None:
                row = self.slow(PyBytes_FromStringAndSize(<const char*> at, stop - at), number)
            if row is not None:
                rows.append(row)
                key = (<tuple> row)[0]
                ordered = ordered and key >= last
                last = key
                arrived = (<tuple> row)[2] or (<tuple> row)[1]
                least = min(least, arrived)
                most = max(most, arrived)
            number += 1
            at = stop
        return rows, ordered, least, most

    cdef object _row(self, Cut* cut, int64_t number):
        """Return a row, or None for a line that is not a record. Raises UnicodeDecodeError."""
        cdef tuple row = PyTuple_New(11)
        cdef object message = self._text(&cut.field[MESSAGE])
        cdef object exc_text = self._text(&cut.field[EXC_TEXT])
        cdef object stack_info = self._text(&cut.field[STACK_INFO])
        if message is False or exc_text is False or stack_info is False:
            return None
        cdef object extra = json_of(&cut.field[EXTRA])
        cdef object truncated = json_of(&cut.field[TRUNCATED])
        cdef object exception = json_of(&cut.field[EXCEPTION])
        cdef uint64_t site_hash = hash_piece(&cut.tail, hash_piece(&cut.head, cut.head.size + 1))
        cdef uint64_t origin_hash = hash_piece(&cut.whence, hash_piece(&cut.who, cut.who.size + 1))
        cdef object site = find(self.sites, site_hash, &cut.head, &cut.tail)
        cdef object origin = find(self.origins, origin_hash, &cut.who, &cut.whence)
        # `site` and `origin` are called last: a line that Python has to read must not use up their numbers.
        site_values = self._values(cut, _SITE_FIELDS) if site is None else ()
        origin_values = self._values(cut, _ORIGIN_FIELDS) if origin is None else ()
        if site_values is None or origin_values is None:
            return None
        if site is None:
            site = self.site(site_values)
            keep(self.sites, site_hash, &cut.head, &cut.tail, site)
        if origin is None:
            origin = self.origin(origin_values)
            keep(self.origins, origin_hash, &cut.who, &cut.whence, origin)
        put_item(row, 0, (<int64_t> (cut.created * 1e6)) << 10 | number & 1023)
        put_item(row, 1, cut.created)
        put_item(row, 2, cut.received)
        put_item(row, 3, site)
        put_item(row, 4, origin)
        put_item(row, 5, message)
        put_item(row, 6, exc_text)
        put_item(row, 7, stack_info)
        put_item(row, 8, extra)
        put_item(row, 9, truncated)
        put_item(row, 10, exception)
        return row

    cdef object _values(self, Cut* cut, tuple fields):
        """Return the values of fields, or None if Python has to read the line. Raises UnicodeDecodeError."""
        cdef list values = []
        cdef int field
        for field in fields:
            if field in (LEVELNO, LINENO, PROCESS, THREAD):
                value = None if cut.field[field].data == NULL else integer_of(&cut.field[field])
            else:
                value = self._text(&cut.field[field])
                if value is False:
                    return None
            values.append(value)
        return tuple(values)

    cdef object _text(self, const Piece* piece):
        """Return a text, None for a missing one, or False for one with lone surrogates. Raises UnicodeDecodeError."""
        cdef Py_ssize_t size
        cdef uint8_t* more
        if piece.data == NULL:
            return None
        if piece.plain:
            text = PyUnicode_New(piece.size, 127)
            memcpy(PyUnicode_1BYTE_DATA(text), piece.data, piece.size)
            return text
        if self.room < piece.size:
            more = <uint8_t*> realloc(self.scratch, piece.size)
            if more == NULL:
                raise MemoryError
            self.scratch = more
            self.room = piece.size
        size = unescape(piece, self.scratch)
        if size < 0:
            return False
        return PyUnicode_DecodeUTF8(<const char*> self.scratch, size, NULL)


cdef inline object json_of(const Piece* piece):
    """Return the JSON of an object or a list, None for a missing one. Raises UnicodeDecodeError."""
    return PyUnicode_DecodeUTF8(<const char*> piece.data, piece.size, NULL) if piece.data != NULL else None


cdef object find(Slot* slots, uint64_t value, const Piece* one, const Piece* other):
    """Return the cached number of a key, which is two pieces of a line, or None."""
    cdef Slot* slot = slots + (value >> 20 & (SLOTS - 1))
    cdef const char* key
    if slot.key == NULL or slot.hash != value or <size_t> PyBytes_GET_SIZE(<object> slot.key) != one.size + other.size:
        return None
    key = PyBytes_AS_STRING(<object> slot.key)
    if (one.size and memcmp(key, one.data, one.size)) or (other.size and memcmp(key + one.size, other.data, other.size)):
        return None
    return <object> slot.number


cdef int keep(Slot* slots, uint64_t value, const Piece* one, const Piece* other, object number) except -1:
    cdef Slot* slot = slots + (value >> 20 & (SLOTS - 1))
    cdef bytes key
    if one.size + other.size > MOST_KEY:
        return 0
    key = PyBytes_FromStringAndSize(<const char*> one.data, one.size) if one.size else b""
    if other.size:
        key += PyBytes_FromStringAndSize(<const char*> other.data, other.size)
    Py_XDECREF(slot.key)
    Py_XDECREF(slot.number)
    Py_INCREF(key)
    Py_INCREF(number)
    slot.hash = value
    slot.key = <PyObject*> key
    slot.number = <PyObject*> number
    return 0


cdef inline void put_item(tuple row, Py_ssize_t index, object value):
    Py_INCREF(value)
    PyTuple_SET_ITEM(row, index, value)


cdef void forget(Slot* slots):
    cdef int index
    if slots == NULL:
        return
    for index in range(SLOTS):
        Py_XDECREF(slots[index].key)
        Py_XDECREF(slots[index].number)
    memset(slots, 0, SLOTS * sizeof(Slot))


include "rows_c/copy.pxi"
include "rows_c/json_rows.pxi"
