# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True, embedsignature=True
"""Turns received bytes into finished lines in one pass, without a Python object per record: the compiled core.

Owns the framing of runs of records, the symbolic reading of pickles, the filters of outputs, and lines of JSON and
text, in the files of core_c/. Does not know sockets or files, and words no error. The Python modules beside this one
are the specification: they get each frame that is not plainly a good record, and judge it. A line that is written here
is equal to theirs, byte for byte.

A byte of a peer is read only after its offset was compared with the end of the data. Memory is written only in `Out`,
after `reserve`, and in the arrays of `Memory`, after `enlarge`.
"""

import codecs

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.math cimport isfinite, isnan, rint, signbit
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport SIZE_MAX, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strlen
from libc.time cimport localtime_r, strftime, time_t, tm

from prefork_logd.inputs.pickles import known, opcodes, outline, symbols, values
from prefork_logd.inputs.pickles import trim as trim_module

cdef extern from *:
    """
    /* Compilers keep some of the smallest functions as calls, which takes one in twenty instructions of a record. */
    #ifdef __GNUC__
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #endif
    typedef unsigned __int128 uint128_t;
    """
    ctypedef unsigned long long uint128_t
    uint64_t __builtin_bswap64(uint64_t) nogil
    uint32_t __builtin_bswap32(uint32_t) nogil

cdef extern from "stdio.h":
    int snprintf(char*, size_t, const char*, ...) nogil

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object, object) except? NULL
    double PyOS_string_to_double(const char*, char**, void*) except? -1.0
    object PyUnicode_FromKindAndData(int, const void*, Py_ssize_t)

include "core_c/out.pxi"
include "core_c/number.pxi"
include "core_c/text.pxi"
include "core_c/symbols.pxi"
include "core_c/secrets.pxi"
include "core_c/machine.pxi"
include "core_c/calls.pxi"
include "core_c/by_python.pxi"
include "core_c/values.pxi"
include "core_c/known.pxi"
include "core_c/record.pxi"
include "core_c/repeats.pxi"
include "core_c/nested.pxi"
include "core_c/shapes.pxi"
include "core_c/flat.pxi"
include "core_c/template.pxi"
include "core_c/trim.pxi"

ABI = 17
"""The version of this interface: the package does not use an extension with another one."""


cdef enum:
    POOLED = 16
    POOLED_BYTES = 1 << 19

cdef Out POOL[POOLED]
cdef size_t pool_size = 0
cdef Py_buffer shared_view


def share(memory):
    """Make lines in this writable memory from now on, as long as it has room; None: in memory of our own again.

    No lines may lie in the memory that was shared before. It is kept alive until then.
    """
    global SHARED, shared_bytes, free_blocks
    cdef Py_ssize_t index
    if SHARED != NULL:
        if free_blocks * BLOCK_BYTES != shared_bytes:
            raise BufferError("there are lines in the shared memory")
        PyBuffer_Release(&shared_view)
        SHARED = NULL
        shared_bytes = free_blocks = 0
    if memory is None:
        return
    PyObject_GetBuffer(memory, &shared_view, PyBUF_WRITABLE)
    SHARED = <uint8_t*> shared_view.buf
    # The lowest blocks come first: those that were used last are likely to be in a cache.
    for index in range(min(shared_view.len // BLOCK_BYTES, MOST_BLOCKS) - 1, -1, -1):
        shared_bytes += BLOCK_BYTES
        give_block(SHARED + index * BLOCK_BYTES)


cdef void take_room(Out* out) noexcept:
    """Begin with memory of earlier lines, if there is any: new pages cost more than filling them."""
    global pool_size, free_blocks
    if free_blocks:
        free_blocks -= 1
        out.data = FREE_BLOCKS[free_blocks]
        out.room = BLOCK_BYTES
        out.size = 0
    elif pool_size:
        pool_size -= 1
        out[0] = POOL[pool_size]
        out.size = 0


cdef void give_room(Out* out) noexcept:
    global pool_size
    if is_shared(out.data):
        give_block(out.data)
    elif 65_536 <= out.room <= POOLED_BYTES and pool_size < POOLED:
        POOL[pool_size] = out[0]
        pool_size += 1
    else:
        free(out.data)
    out.data = NULL
    out.size = out.room = 0


@cython.final
cdef class Lines:
    """Finished lines of one output, end to end. It takes no further line while a view of its buffer exists."""

    cdef Out out
    cdef readonly Py_ssize_t count
    cdef int exports

    def __cinit__(self):
        self.out.data = NULL
        self.out.size = self.out.room = 0
        self.count = self.exports = 0

    def __dealloc__(self):
        give_room(&self.out)

    def __len__(self):
        return self.out.size

    @property
    def nbytes(self):
        """Bytes of all lines."""
        return self.out.size

    @property
    def offset(self):
        """Offset of the lines in the shared memory; -1 if they do not lie in it."""
        return self.out.data - SHARED if is_shared(self.out.data) else -1

    def append(self, bytes line not None):
        """Add one line, its newline included."""
        if self.exports:
            raise BufferError("lines are being sent")
        if not put(&self.out, <const uint8_t*> <const char*> line, len(line)):
            raise MemoryError
        self.count += 1

    def joined(self):
        """Return all lines, end to end."""
        return memoryview(self)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.out.data, self.out.size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1


cdef size_t size_of(tuple sinks) except? 0:
    """Return the bytes of all lines in these Lines, or in those of several files (ingest/file_choice.py)."""
    cdef size_t total = 0
    for one in sinks:
        if type(one) is Lines:
            total += (<Lines> one).out.size
        else:
            total += <size_t> one.nbytes
    return total


cdef bytes key_of(Fields* fields, bint by_level, bint by_logger):
    """Return the key of a record's file in a FileSinks: level and logger, with an octet between that UTF-8 lacks."""
    cdef Node* level = fields.slot[LEVELNAME] if by_level else NULL
    cdef Node* name = fields.slot[NAME] if by_logger else NULL
    cdef size_t before = level.size if level != NULL and is_text(level) else 0
    cdef size_t behind = name.size if name != NULL and is_text(name) else 0
    cdef bytes key = PyBytes_FromStringAndSize(NULL, before + 1 + behind)
    cdef uint8_t* octets = <uint8_t*> <char*> key
    if before:
        memcpy(octets, level.value.text, before)
    octets[before] = 0xFF
    if behind:
        memcpy(octets + before + 1, name.value.text, behind)
    return key


_SENDER_NAMES = ("host", "service", "environment", "version", "peer_name")


cdef struct Rule:
    bint has_threshold
    int64_t threshold
    size_t loggers
    bint is_closed          # whether the present sender's records are left out
    bint by_python          # whether Python renders its template
    Template template       # no directives: JSON

cdef enum:
    MOST_BYTES = 1 << 28    # of a frame: four times what settings allow, and six times a length still fits 32 bits
    MOST_OUTPUTS = 64
    BYTES_AT_ONCE = 16_384  # of frames, between two looks at the time
    MOST_REJECTED = 64      # in one run, before the caller has a look at how much that makes
    SPARED_BLOCKS = 8       # of the shared memory, which lines of several files leave to others


cdef bint is_value(const Node* node, value):
    """Tell whether a node is a text (here octets), a number or a truth value that is equal to one of the same type."""
    if isinstance(value, bytes):
        return (
            (node.kind == TEXT or node.kind == OCTETS) and node.size == <size_t> len(value)
            and memcmp(node.value.text, <const char*> <bytes> value, node.size) == 0
        )
    if isinstance(value, bool):
        return node.kind == BOOL and (node.value.integer != 0) == value
    return node.kind == INT and node.value.integer == <int64_t> value


@cython.final
cdef class Core:
    """Turns frames into lines, for one configuration's outputs.

    `outputs` has for each output its TextTemplate's parts (None: JSON), its level threshold (0: none), its loggers, and,
    if it has any, its services and environments (none: all). `stores` has the same of each store, without parts. A
    record that a store takes gets one more line of JSON, behind those of the outputs. `ships` is whether records are for
    the stores if `stores` is empty. A Core holds one record at a time, and no lines; while `run` calls back, it takes no
    other frame (RuntimeError).

    `samples` has for each rule of sampling (ingest/sampling.py) its level threshold, loggers, services and environments,
    the level from which on it does not hold, and attributes that a record must have. `sampler` decides about a record
    under a rule: `decide(rule, logger, level)` returns 0 to drop it, else how many records it stands for.
    """

    cdef Machine machine
    cdef Fields fields
    cdef size_t[MAX_MARKS] marks
    cdef Rule[MOST_OUTPUTS] rules
    cdef Out* outs[MOST_OUTPUTS]
    cdef size_t[MOST_OUTPUTS] starts
    cdef bint[MOST_OUTPUTS] taken
    cdef Out[MOST_OUTPUTS] parted       # the line of an output whose records go to several files, until its file is found
    cdef bint[MOST_OUTPUTS] is_parted
    cdef size_t outputs     # sinks: one for each output, and one for all stores
    cdef size_t stores      # rules of stores, behind those of the outputs
    cdef size_t samples     # rules of sampling, behind those of the stores
    cdef size_t samples_at
    cdef bint is_dropped    # whether the present record was not kept
    cdef object sampler
    cdef tuple below        # of each rule of sampling: the level from which on it does not hold
    cdef tuple wanted       # of each: (name, value) of attributes that a record must have
    cdef bint ships
    cdef Secrets secrets
    cdef public long long redacted   # records with a secret that was replaced, until the caller begins anew
    cdef Out scratch
    cdef Out ending
    cdef double ending_received
    cdef double received
    cdef object peer_text
    cdef bytes peer
    cdef object sender
    cdef bytes members      # the sender's texts as members of a line
    cdef list sender_kept   # what `fields` points into
    cdef list kept
    cdef tuple loggers
    cdef tuple senders      # of each rule: its services and environments
    cdef bint by_sender     # whether a rule has any
    cdef bint capable
    cdef char[40] mark_text
    cdef bint busy          # in `run`, which keeps pointers into its sinks

    def __cinit__(self):
        memset(&self.machine, 0, sizeof(Machine))
        memset(&self.scratch, 0, sizeof(Out))
        memset(&self.ending, 0, sizeof(Out))
        self.fields.wants_all = False
        memset(self.rules, 0, sizeof(self.rules))
        memset(self.parted, 0, sizeof(self.parted))
        memset(self.is_parted, 0, sizeof(self.is_parted))
        memset(&self.secrets, 0, sizeof(Secrets))
        self.secrets.shortest = SIZE_MAX
        self.machine.marks = self.marks
        self.machine.secrets = &self.secrets
        self.machine.memory.runs_size = 1

    def __init__(self, outputs, stores=(), bint ships=False, redactor=None, samples=(), sampler=None):
        self.kept = []
        if redactor is not None:
            self._take_rules(redactor)
            self.kept.append(redactor)
            self.machine.redactor = <void*> redactor
        self.ships = ships
        self.stores = len(stores)
        self.samples = len(samples)
        self.samples_at = len(outputs) + len(stores)
        self.sampler = sampler
        self.below = tuple(rule[4] for rule in samples)
        self.wanted = tuple(
            tuple((key.encode(), value.encode() if isinstance(value, str) else value) for key, value in rule[5])
            for rule in samples
        )
        self.capable = len(outputs) + len(stores) + len(samples) <= MOST_OUTPUTS
        self.outputs = len(outputs) + (1 if stores else 0) if self.capable else 0
        loggers = []
        senders = []
        rules = [*outputs, *((None, *rule) for rule in stores), *((None, *rule[:4]) for rule in samples)] if self.capable else []
        for index, (parts, threshold, names, *of_sender) in enumerate(rules):
            senders.append(tuple(of_sender) or ((), ()))
            self.rules[index].has_threshold = threshold != 0
            self.rules[index].threshold = threshold
            self.rules[index].loggers = len(names)
            loggers.append(tuple(name.encode() for name in names))
            if parts is not None:
                self.fields.wants_all = True
                self._compile(&self.rules[index], parts)
                self.capable = self.capable and not self.rules[index].by_python
        self.loggers = tuple(loggers)
        self.senders = tuple(senders)
        self.by_sender = any(any(one) for one in senders)
        self.peer_text = None
        self.peer = b""
        self.sender = ()  # another one than None, so that the first one is prepared
        self.members = b""
        self.ending_received = -1

    def __dealloc__(self):
        cdef size_t index
        release(&self.machine.memory)
        free(self.machine.written.data)
        free(self.scratch.data)
        free(self.ending.data)
        for index in range(self.outputs):
            free(self.rules[index].template.directives)
            free(self.parted[index].data)

    @property
    def capable(self):
        """Whether records can be rendered here for every output; otherwise Python renders all."""
        return self.capable

    cdef int _compile(self, Rule* rule, parts) except -1:
        """Return the template with a TextTemplate's parts."""
        cdef Directive* directive
        simple = {
            "asctime": ASCTIME, "msecs": MSECS, "time": UTC, "created": CREATED_AT, "peer": PEER, "received": RECEIVED
        }
        rule.template.directives = <Directive*> calloc(len(parts) + 1, sizeof(Directive))
        if rule.template.directives == NULL:
            raise MemoryError
        for part in parts:
            directive = rule.template.directives + rule.template.count
            rule.template.count += 1
            text = (part if isinstance(part, str) else part[0]).encode("utf-8", "surrogatepass")
            self.kept.append(text)
            directive.text = <const uint8_t*> <const char*> text
            directive.size = len(text)
            directive.look = look_at(directive.text, directive.size)
            directive.what = LITERAL
            if isinstance(part, str):
                continue
            name, flags, conversion = part
            width = flags.lstrip("-0")
            signs = flags[: len(flags) - len(width)]
            if conversion not in "sd" or (width and not width.isdecimal()) or name in ("extra", "truncated", "exception"):
                rule.by_python = True
                continue
            directive.width = int(width or 0)
            directive.left = "-" in signs
            rule.template.padding += directive.width
            directive.number = conversion == "d"
            directive.zeros = "0" in signs and directive.number
            if name in simple:
                directive.what = simple[name]
            elif name in _SENDER_NAMES:
                directive.what = FROM_SENDER
                directive.slot = _SENDER_NAMES.index(name)
            elif name in _STORED_NAMES:
                directive.what = FIELD
                directive.slot = _STORED_NAMES.index(name)
            else:
                directive.what = FROM_EXTRA
        return 0

    cdef int _take_rules(self, redactor) except -1:
        """Keep the rules of a records.redaction.Redactor in the form that secrets.pxi compares."""
        cdef Pattern* pattern
        global secrets_number
        secrets_number += 1
        self.secrets.number = secrets_number
        names = {
            "bearer": BEARER, "card": CARD, "jwt": JWT, "key-value": KEY_VALUE, "url-password": URL_PASSWORD,
            "private-key": PRIVATE_KEY, "provider-token": PROVIDER_TOKEN,
        }
        allowed = [(key, False, False) for key in redactor.allowed if key]
        if len(redactor.patterns) > MOST_PATTERNS or len(allowed) > MOST_ALLOWED:
            raise ValueError("more patterns than the settings allow")
        for text, before, behind in [*redactor.patterns, *allowed]:
            if self.secrets.patterns_count < <size_t> len(redactor.patterns):
                pattern = &self.secrets.patterns[self.secrets.patterns_count]
                self.secrets.patterns_count += 1
            else:
                pattern = &self.secrets.allowed[self.secrets.allowed_count]
                self.secrets.allowed_count += 1
            self.kept.append(text)
            pattern.text = <const uint8_t*> <const char*> text
            pattern.size = len(text)
            pattern.before, pattern.behind = before, behind
        for text, _, _ in redactor.patterns:
            # Of hexadecimal digits, and the T between a date and a time.
            if not text.strip(b"0123456789abcdeft"):
                self.secrets.has_pattern_of_digits = True
        for form in redactor.forms:
            self.secrets.forms |= names[form]
        self.secrets.shortest = redactor.shortest
        self._take_prefixes(redactor.prefixes)
        return 0

    cdef int _take_prefixes(self, prefixes) except -1:
        """Keep the prefixes of providers' tokens (records/provider_tokens.py)."""
        cdef Prefix* prefix
        cdef uint8_t first
        if len(prefixes) > MOST_PREFIXES:
            raise ValueError("more prefixes than there is room for")
        for text, least in prefixes:
            prefix = &self.secrets.prefixes[self.secrets.prefixes_count]
            self.secrets.prefixes_count += 1
            self.kept.append(text)
            prefix.text = <const uint8_t*> <const char*> text
            prefix.size, prefix.least = len(text), least
            # The first sign that is no letter, if there is one; it is never the first sign of all.
            prefix.anchor = next(at for anchors in (ANCHORS[:3], ANCHORS) for at in range(1, len(text)) if text[at] in anchors)
            first = text[prefix.anchor - 1]
            prefix.next = self.secrets.before_anchor[first] - 1
            self.secrets.before_anchor[first] = self.secrets.prefixes_count
        return 0

    cdef int _set_sender(self, sender) except -1:
        """Prepare the fields of a sender (records/sender.py); None: it has none."""
        cdef size_t index
        cdef bytes name, json
        cdef Added* added
        self.sender = sender
        self.members = b""
        self.sender_kept = []
        self.fields.added_count = 0
        self.fields.sender_bytes = 0
        self.ending_received = -1
        memset(self.fields.sender, 0, sizeof(self.fields.sender))
        if self.by_sender:
            service, environment = ("", "") if sender is None else (sender.service, sender.environment)
            for index, (services, environments) in enumerate(self.senders):
                self.rules[index].is_closed = bool(
                    (services and service not in services) or (environments and environment not in environments)
                )
        if sender is None:
            return 0
        self.members = sender.members
        if self.fields.wants_all:
            for index, text in enumerate(sender[:SENDER_TEXTS]):
                if text:
                    self._keep_node(&self.fields.sender[index], text)
        for index, (key, value) in enumerate(sender.fields.items()):
            if index == MOST_ADDED:
                raise ValueError("a sender with too many fields")
            added = &self.fields.added[index]
            name, json = key.encode(), b"%b:%b" % (encode_marked(key).rstrip(b"\n"), encode_marked(value).rstrip(b"\n"))
            self.sender_kept += (name, json)
            added.name, added.name_size = <const uint8_t*> <const char*> name, len(name)
            added.json, added.json_size = <const uint8_t*> <const char*> json, len(json)
            self._keep_node(&added.value, value)
            self.fields.added_count = index + 1
        self.fields.sender_bytes = sender.nbytes
        return 0

    cdef int _keep_node(self, Node* node, value) except -1:
        """Make a node of a scalar."""
        cdef bytes text
        cdef const uint8_t* octets
        memset(node, 0, sizeof(Node))
        if isinstance(value, str):
            text = value.encode()
            self.sender_kept.append(text)
            octets = <const uint8_t*> <const char*> text
            node.kind, node.look, node.size = TEXT, look_at(octets, len(text)), len(text)
            node.value.text = octets
        elif isinstance(value, bool):
            node.kind, node.value.integer = BOOL, value
        elif isinstance(value, int):
            node.kind, node.value.integer = INT, value
        else:
            node.kind, node.value.real = FLOAT, value
        return 0

    cdef int _set_peer(self, peer, double received, sender) except -1:
        """Prepare the parts that are the same in all lines of one run."""
        if sender is not self.sender:
            self._set_sender(sender)
        if peer is not self.peer_text:
            self.peer_text = peer
            self.peer = peer.encode("utf-8", "surrogatepass")
            self.ending_received = -1
        if received == self.ending_received:
            return 0
        cdef const uint8_t* text = <const uint8_t*> <const char*> self.peer
        cdef size_t size = len(self.peer)
        self.received = received
        self.ending_received = -1
        self.ending.size = 0
        if not put(&self.ending, <const uint8_t*> <const char*> self.members, len(self.members)):
            raise MemoryError
        # All are checked: a large piece may find no room, and a small one behind it may.
        if size and not (
            put_literal(&self.ending, b',"peer":') and put_string(&self.ending, text, size, look_at(text, size), False)
        ):
            raise MemoryError
        if not (
            put_literal(&self.ending, b',"received":')
            and put_float(&self.ending, received, True)
            and put_literal(&self.ending, b"}\n")
        ):
            raise MemoryError
        self.ending_received = received
        return 0

    cdef bint _is_wanted(self, size_t index):
        """Tell whether an output, or one of the stores, takes the record."""
        cdef size_t rule
        if not self.stores or index < self.outputs - 1:
            return self._passes(index)
        for rule in range(index, index + self.stores):
            if self._passes(rule):
                return True
        return False

    cdef bint _passes(self, size_t index):
        """Tell whether a rule lets the record through (ingest/routing.py)."""
        cdef Rule* rule = &self.rules[index]
        cdef Node* level = self.fields.slot[LEVELNO]
        cdef Node* name = self.fields.slot[NAME]
        cdef size_t size
        cdef bytes logger
        if rule.is_closed:
            return False
        if rule.has_threshold and (level.value.integer if level != NULL else 0) < rule.threshold:
            return False
        if not rule.loggers:
            return True
        for logger in <tuple> self.loggers[index]:
            size = len(logger)
            if name == NULL:
                if size == 0:
                    return True
            elif (
                name.size >= size
                and memcmp(name.value.text, <const char*> logger, size) == 0
                and (name.size == size or name.value.text[size] == 46)
            ):
                return True
        return False

    cdef int _find_sample(self) except -2:
        """Return the number of the rule of sampling that the record is under; -1: none."""
        cdef size_t index
        cdef Node* level = self.fields.slot[LEVELNO]
        cdef int64_t levelno = level.value.integer if level != NULL else 0
        for index in range(self.samples):
            if (
                levelno < <int64_t> self.below[index]
                and self._passes(self.samples_at + index)
                and self._has_attributes(<tuple> self.wanted[index])
            ):
                return index
        return -1

    cdef bint _has_attributes(self, tuple wanted):
        """Tell whether the record, or else its sender, has each of these attributes, with a value of the same type."""
        cdef size_t at
        cdef Node* found
        cdef bytes name
        for name, value in wanted:
            found = NULL
            for at in range(0, self.fields.extras_count, 2):
                if (
                    self.fields.extras[at].size == <size_t> len(name)
                    and memcmp(self.fields.extras[at].value.text, <const char*> name, len(name)) == 0
                ):
                    found = self.fields.extras[at + 1]
            for at in range(self.fields.added_count):
                if (
                    found == NULL
                    and self.fields.added[at].name_size == <size_t> len(name)
                    and memcmp(self.fields.added[at].name, <const char*> name, len(name)) == 0
                ):
                    found = &self.fields.added[at].value
            if found == NULL or not is_value(found, value):
                return False
        return True

    cdef bint _mark(self, long rate):
        """Let the record's lines say how many records it stands for, until `added_count` is lowered again.

        Return False if the sender has a field of that name.
        """
        cdef size_t at
        cdef Added* added
        for at in range(self.fields.added_count):
            added = &self.fields.added[at]
            if added.name_size == 11 and memcmp(added.name, b"sample_rate", 11) == 0:
                return False
        added = &self.fields.added[self.fields.added_count]
        cdef int size = snprintf(self.mark_text, sizeof(self.mark_text), b'"sample_rate":%ld', rate)
        added.name, added.name_size = <const uint8_t*> self.mark_text + 1, 11
        added.json, added.json_size = <const uint8_t*> self.mark_text, size
        memset(&added.value, 0, sizeof(Node))
        added.value.kind, added.value.value.integer = INT, rate
        self.fields.added_count += 1
        self.fields.sender_bytes += MARK_BYTES
        return True

    cdef bint _decide(self, int rule) except -1:
        """Ask the sampler about the record; return whether its lines are marked."""
        cdef Node* level = self.fields.slot[LEVELNO]
        cdef Node* name = self.fields.slot[NAME]
        cdef bytes logger = b""
        if name != NULL:
            logger = PyBytes_FromStringAndSize(<const char*> name.value.text, min(name.size, <size_t> KEY_BYTES))
        cdef long rate = self.sampler.decide(rule, logger, level.value.integer if level != NULL else 0)
        self.is_dropped = rate == 0
        return rate > 1 and self._mark(rate)

    cdef bint _read_on(self, const uint8_t* frame, size_t size):
        """Read the rest of a record that is not flat; return whether that succeeded."""
        if self.fields.site != NULL or self.fields.origin != NULL or self.fields.unfit != NULL:
            if self.fields.site != NULL:
                self.fields.site.unfit = UNFIT
            if self.fields.unfit != NULL:
                self.fields.unfit[0] = UNFIT_LAYOUT
            begin_machine(&self.machine, frame, size)
            if read_flat(&self.machine, &self.fields, True):
                return True
        if self.machine.is_lost:
            return False
        return run_machine(&self.machine, self.machine.opcodes) and collect(&self.machine, &self.fields)

    cdef bint _render(self, const uint8_t* frame, size_t size):
        """Add a record's lines to `outs`; return whether that succeeded. After a failure no line is added."""
        cdef size_t index, json_start = 0
        cdef Out* json = NULL
        cdef Out* out
        cdef bint done = True, is_marked = False
        cdef int sample = -1
        self.is_dropped = False
        if size > MOST_BYTES:
            return False
        begin_machine(&self.machine, frame, size)
        begin_tags(&self.secrets)
        if not read_flat(&self.machine, &self.fields, False) and not self._read_on(frame, size):
            return False
        if self.fields.has_containers and not unfold(&self.machine, &self.fields):
            return False
        self.machine.redacted = False
        if self.secrets.forms and may_hold_forms(&self.machine, &self.fields):
            return False
        if self.samples:
            sample = self._find_sample()
            if sample >= 0:
                is_marked = self._decide(sample)
        for index in range(self.outputs):
            out = self.outs[index]
            self.starts[index] = out.size
            self.taken[index] = False
            if self.is_dropped or not self._is_wanted(index):
                continue
            self.taken[index] = True
            if self.rules[index].template.directives != NULL:
                done = put_formatted(
                    &self.machine, &self.fields, out, &self.rules[index].template,
                    <const uint8_t*> <const char*> self.peer, len(self.peer), self.received, output_for(size),
                )
            elif json != NULL:
                done = put(out, json.data + json_start, json.size - json_start)
            else:
                json = out
                json_start = out.size
                done = put_record(&self.machine, &self.fields, out, self.ending.data, self.ending.size)
            if not done:
                break
        if done and json == NULL:
            # Its budget is checked in any case, also if no output takes it.
            if self.fields.has_containers:
                self.scratch.size = 0
                done = put_record(&self.machine, &self.fields, &self.scratch, self.ending.data, self.ending.size)
            else:
                done = can_pay(&self.machine, &self.fields)
            index = self.outputs - 1
        if is_marked:
            self.fields.added_count -= 1
            self.fields.sender_bytes -= MARK_BYTES
        if not done and sample >= 0:
            # Python judges the record, and asks the sampler again.
            self.sampler.undo()
        if not done:
            for index in range(index + 1):
                self.outs[index].size = self.starts[index]
        elif self.machine.redacted:
            self.redacted += 1
        return done

    cdef bint _has_parted(self, tuple sinks) except -1:
        """Point `outs` to the sinks; return whether there are FileSinks (ingest/file_choice.py) among them."""
        cdef Lines one
        cdef size_t index
        cdef bint found = False
        for index in range(self.outputs):
            self.is_parted[index] = isinstance(sinks[index], dict)
            if self.is_parted[index]:
                found = True
                self.outs[index] = &self.parted[index]
                if sinks[index].by_level:
                    # The level's name must be known, also where it stands in what was copied and not read.
                    self.fields.wants_all = True
                continue
            one = <Lines?> sinks[index]
            if one.exports:
                raise BufferError("lines are being sent")
            if one.out.data == NULL:
                take_room(&one.out)
            self.outs[index] = &one.out
        return found

    cdef bint _part(self, tuple sinks) except -1:
        """Move the record's lines to the lines of their files; return whether the batch must be sent."""
        cdef size_t index
        cdef Lines lines
        cdef PyObject* found
        cdef bint is_full = False
        for index in range(self.outputs):
            if not self.is_parted[index] or not self.taken[index]:
                continue
            files = sinks[index]
            key = key_of(&self.fields, files.by_level, files.by_logger)
            found = PyDict_GetItemWithError(files, key)
            if found != NULL:
                lines = <Lines?> <object> found
            else:
                lines = <Lines?> files[key]
                is_full = is_full or files.is_full
            if lines.exports:
                raise BufferError("lines are being sent")
            if lines.out.data == NULL and free_blocks > SPARED_BLOCKS:
                take_room(&lines.out)
            if not put(&lines.out, self.parted[index].data, self.parted[index].size):
                raise MemoryError
            lines.count += 1
        return is_full

    cdef int _refuse_if_busy(self) except -1:
        if self.busy:
            raise RuntimeError("a Core that calls `slow` takes no other frame meanwhile")
        return 0

    def lines(self, frame, str peer not None, double received, sender=None):
        """Return each output's line of one frame (None: filtered out), or None if Python has to judge the record."""
        cdef size_t index
        cdef Lines one
        cdef Py_buffer view
        sinks = [Lines() for _ in range(self.outputs)]
        if not self.capable or received == 0:
            return None
        self._refuse_if_busy()
        self._set_peer(peer, received, sender)
        for index in range(self.outputs):
            one = sinks[index]
            self.outs[index] = &one.out
        PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
        try:
            done = self._render(<const uint8_t*> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return [bytes(sink) if self.taken[index] else None for index, sink in enumerate(sinks)] if done else None

    def run(
        self, data, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t count, uint32_t max_bytes, str peer not None,
        double received, tuple sinks not None, slow, Py_ssize_t most_bytes, long failures, long most_failures,
        Py_ssize_t header_bytes=0, sender=None, is_over=None,
    ):
        """Take frames from `data[start:stop]`, each a big-endian length of 4 bytes and a body, at most `count` of them.

        `sinks` are the Lines of each output, or its FileSinks (ingest/file_choice.py). What cannot be done here is given to `slow(body)`, which says whether it
        was a record (1), one for the stores (2), or none (0), and adds 4 to end the run behind it. With `header_bytes`, so many are passed over where
        the mark of a session's message stands. Ends before a frame that is not whole or above
        `max_bytes`, once `sinks` hold `most_bytes`, after `most_failures` bodies in a row that are no records
        (`failures` is how many there were before), and once `is_over()` is true, which is asked after each record with a
        value made by Python, and every
        BYTES_AT_ONCE.

        `sender` is a Sender (records/sender.py): what its records have in common, besides `peer`.

        Returns where it ended, how many bodies were taken, how many of them were rejected, failures in a row, and runs
        of those for the stores: (first, count), counted from 0.
        """
        cdef Py_buffer view
        cdef const uint8_t* octets
        cdef size_t index, gathered
        cdef uint32_t length
        cdef Py_ssize_t taken = 0, rejected = 0, position = start, run_start = 0, run_end = 0
        cdef int outcome
        cdef size_t made_before, unasked = 0
        cdef bint is_last = False, has_parted
        cdef list shipped = []
        cdef bint capable = self.capable and received != 0
        if len(sinks) != <Py_ssize_t> self.outputs and capable:
            raise ValueError("as many sinks as outputs")
        if None in sinks:
            raise TypeError("a sink is None")
        self._refuse_if_busy()
        self._set_peer(peer, received, sender)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if not 0 <= start <= stop <= view.len:
                raise ValueError("a range outside of the data")
            octets = <const uint8_t*> view.buf
            has_parted = self._has_parted(sinks)
            gathered = size_of(sinks)
            self.busy = True
            while taken < count and stop - position >= 4:
                if header_bytes > 0 and octets[position] == 0xF7 and octets[position + 1] == 0x50:
                    if stop - position < header_bytes:
                        break
                    position += header_bytes
                    continue
                memcpy(&length, octets + position, 4)
                length = __builtin_bswap32(length)
                if length > max_bytes or <Py_ssize_t> length > stop - position - 4:
                    break
                if has_parted:
                    for index in range(self.outputs):
                        self.parted[index].size = 0
                made_before = self.machine.made_by_python
                if capable and self._render(octets + position + 4, length):
                    if has_parted:
                        is_last = self._part(sinks)
                    for index in range(self.outputs):
                        if self.taken[index]:
                            if not self.is_parted[index]:
                                (<Lines> sinks[index]).count += 1
                            gathered += self.outs[index].size - self.starts[index]
                    outcome = 1
                    unasked += length
                    if unasked >= BYTES_AT_ONCE or self.machine.made_by_python != made_before:
                        unasked = 0
                        is_last = is_last or (is_over is not None and is_over())
                    if self.ships and not self.is_dropped and (not self.stores or self.taken[self.outputs - 1]):
                        outcome = 2
                else:
                    outcome = slow(PyBytes_FromStringAndSize(<const char*> octets + position + 4, length))
                    is_last = outcome & 4
                    outcome &= 3
                    gathered = size_of(sinks)  # it may have added lines
                if outcome:
                    failures = 0
                else:
                    rejected += 1
                    failures += 1
                if outcome == 2:
                    if run_end != taken:
                        if run_end > run_start:
                            shipped.append((run_start, run_end - run_start))
                        run_start = taken
                    run_end = taken + 1
                taken += 1
                position += 4 + <Py_ssize_t> length
                if <Py_ssize_t> gathered >= most_bytes or rejected >= MOST_REJECTED or failures >= most_failures:
                    break
                if is_last:
                    break
        finally:
            self.busy = False
            PyBuffer_Release(&view)
        if run_end > run_start:
            shipped.append((run_start, run_end - run_start))
        return position, taken, rejected, failures, shipped


def stretches():
    """Return the number of stretches that were copied and not read, by all Cores so far."""
    return stretches_used


def layouts():
    """Return the number of stretches that were read by their layout, by all Cores so far."""
    return layouts_used


def shapes():
    """Return the number of values that were read by their shape, by all Cores so far."""
    return shapes_used


def expect_many():
    """Read stretches by their layout for a while, as if many were in use: for tests."""
    expect_stretches(True)


def unlearn():
    """Forget all keys and stretches, for tests that begin with none."""
    forget_keys()


def float_text(double value, bint as_json):
    """Return a finite float as JSON, or in the form of repr()."""
    cdef Out out
    memset(&out, 0, sizeof(Out))
    try:
        if not put_float(&out, value, as_json):
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char*> out.data, out.size)
    finally:
        free(out.data)


def escape_json(bytes line not None):
    """Return what render.escape_json_in_python returns."""
    cdef Out out
    memset(&out, 0, sizeof(Out))
    try:
        if not put_encoded_json(&out, <const uint8_t*> <const char*> line, len(line)):
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char*> out.data, out.size)
    finally:
        free(out.data)


def encode_marked(value):
    """Return what render.encode_marked_in_python returns."""
    cdef Out out
    memset(&out, 0, sizeof(Out))
    try:
        put_made(&out, value)
        if not put_byte(&out, 10):
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char*> out.data, out.size)
    finally:
        free(out.data)


cdef int put_made(Out* out, value) except -1:
    """Write a plain value (records.values.Plain), or msgspec.Raw, as JSON."""
    cdef bytes data
    cdef const uint8_t* octets
    cdef bint done, first = True
    if isinstance(value, str):
        data = (<str> value).encode("utf-8", "surrogatepass")
        octets = <const uint8_t*> <const char*> data
        done = put_string(out, octets, len(data), look_at(octets, len(data)), False)
    elif value is None:
        done = put_literal(out, b"null")
    elif isinstance(value, bool):
        done = put_literal(out, b"true" if value else b"false")
    elif isinstance(value, float):
        done = put_float(out, value, True)
    elif isinstance(value, int):
        data = str(value).encode()
        done = put(out, <const uint8_t*> <const char*> data, len(data))
    elif isinstance(value, list):
        done = put_byte(out, 91)
        for item in <list> value:
            done = done and (first or put_byte(out, 44))
            first = False
            put_made(out, item)
        done = done and put_byte(out, 93)
    elif isinstance(value, dict):
        done = put_byte(out, 123)
        for key, item in (<dict> value).items():
            done = done and (first or put_byte(out, 44))
            first = False
            put_made(out, key)
            done = done and put_byte(out, 58)
            put_made(out, item)
        done = done and put_byte(out, 125)
    else:
        data = bytes(value)
        done = put_encoded_json(out, <const uint8_t*> <const char*> data, len(data))
    if not done:
        raise MemoryError
    return 0


def decode_text(bytes data not None):
    """Return what opcodes.decode_text_in_python returns; CPython's way makes an exception of each lone surrogate."""
    cdef const uint8_t* octets = <const uint8_t*> <const char*> data
    cdef size_t size = len(data), at = 0, count = 0, length
    cdef uint32_t* characters
    cdef uint32_t one
    cdef bint surrogate
    cdef int look = look_at(octets, size)
    if look & INVALID:
        raise UnicodeDecodeError("utf-8", data, 0, 1, "no UTF-8")
    if not look & SURROGATES:
        return data.decode("utf-8")
    characters = <uint32_t*> malloc(size * sizeof(uint32_t))
    if characters == NULL:
        raise MemoryError
    try:
        while at < size:
            one = octets[at]
            length = 1 if one < 0x80 else sequence_length(octets + at, size - at, &surrogate)
            if length == 2:
                one = (one & 0x1F) << 6 | (octets[at + 1] & 0x3F)
            elif length == 3:
                one = (one & 0x0F) << 12 | <uint32_t> (octets[at + 1] & 0x3F) << 6 | (octets[at + 2] & 0x3F)
            elif length == 4:
                one = (one & 0x07) << 18 | <uint32_t> (octets[at + 1] & 0x3F) << 12
                one |= <uint32_t> (octets[at + 2] & 0x3F) << 6 | (octets[at + 3] & 0x3F)
            characters[count] = one
            count += 1
            at += length
        return PyUnicode_FromKindAndData(4, characters, count)
    finally:
        free(characters)


def unquote(bytes data not None):
    """Return what opcodes.unquote_in_python returns."""
    cdef const uint8_t* start = <const uint8_t*> <const char*> data
    cdef size_t size = len(data)
    cdef uint8_t* room = <uint8_t*> malloc(size + 1)
    if room == NULL:
        raise MemoryError
    try:
        size = unquoted(start, start + size, room)
        return PyBytes_FromStringAndSize(<const char*> room, size)
    finally:
        free(room)


def escape_inside(str text not None):
    """Return what render.escape_inside_in_python returns."""
    cdef Out out
    cdef bytes data = text.encode("utf-8", "surrogatepass")
    cdef const uint8_t* octets = <const uint8_t*> <const char*> data
    memset(&out, 0, sizeof(Out))
    try:
        if not put_text(&out, octets, len(data), look_at(octets, len(data)), False):
            raise MemoryError
        return out.data[:out.size].decode("utf-8") if out.size else ""
    finally:
        free(out.data)


def measure(const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t count, int64_t max_bytes):
    """Return the end of the run at `start`, and its number of records (inputs/runs.py)."""
    cdef Py_ssize_t taken = 0
    cdef uint32_t nbytes
    if not 0 <= start <= stop <= data.shape[0]:
        raise ValueError("a range outside of the data")
    while taken < count and stop - start >= 4:
        nbytes = <uint32_t> data[start] << 24 | <uint32_t> data[start + 1] << 16
        nbytes |= <uint32_t> data[start + 2] << 8 | <uint32_t> data[start + 3]
        if nbytes > max_bytes or nbytes > stop - start - 4:
            break
        start += 4 + <Py_ssize_t> nbytes
        taken += 1
    return start, taken


def measure_batches(
    const uint8_t[::1] data, Py_ssize_t start, uint64_t number, uint32_t head, int64_t max_bytes,
    int64_t max_batch_bytes,
):
    """Return the end of the whole BATCHes in order, their number of records, and their number (inputs/runs.py)."""
    cdef Py_ssize_t size = data.shape[0], at, end, batches = 0
    cdef uint64_t first_number = number, first
    cdef uint32_t found, length, count, taken, nbytes
    if not 0 <= start <= size:
        raise ValueError("a start outside of the data")
    while size - start >= 20:
        found = octets4(data, start)
        length = octets4(data, start + 4)
        first = <uint64_t> octets4(data, start + 8) << 32 | octets4(data, start + 12)
        count = octets4(data, start + 16)
        at = start + 20
        end = start + 8 + <Py_ssize_t> length
        if found != head or first != number or end > size or length > max_batch_bytes:
            break
        if at > end or count == 0 or count > <uint64_t> 0xFFFFFFFFFFFFFFFF - number:
            break
        taken = 0
        while taken < count and end - at >= 4:
            nbytes = octets4(data, at)
            if nbytes > max_bytes or nbytes > end - at - 4:
                break
            at += 4 + <Py_ssize_t> nbytes
            taken += 1
        if taken != count or at != end:
            break
        number += count
        batches += 1
        start = end
    return start, number - first_number, batches


cdef inline uint32_t octets4(const uint8_t[::1] data, Py_ssize_t at):
    """Return a big-endian number of four octets."""
    return <uint32_t> data[at] << 24 | <uint32_t> data[at + 1] << 16 | <uint32_t> data[at + 2] << 8 | data[at + 3]
