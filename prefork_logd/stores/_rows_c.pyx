# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True
"""Turns stored lines into rows for PostgreSQL and Parquet in one pass: the compiled core of the stores.

Owns the reading of the collector's own lines (rows_c/cut.pxi), the rows for PostgreSQL (rows_c/copy.pxi) and Parquet
(rows_c/json_rows.pxi), and the search for lines of errors (rows_c/error_lines.pxi). Does not know databases, and words no error.
The Python modules are the specification (stores/rows.py, stores/postgresql/copy_rows.py, stores/parquet/rows.py) and
read lines in any other form.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject, Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

ABI = 5
"""The version of this interface: the package does not use an extension with another one."""

include "rows_c/cut.pxi"
include "rows_c/copy.pxi"
include "rows_c/json_rows.pxi"
include "rows_c/words.pxi"
include "rows_c/error_lines.pxi"
