# Renders a record as text by a template: render.TextTemplate in C.
#
# Owns the frequent directives, %(name)s and %(number)d, each with a width. Python renders templates with other
# directives, and values of another type than their directive.

cdef enum Piece:
    LITERAL
    FIELD          # a stored field
    FROM_EXTRA
    FROM_SENDER    # one of the sender's texts, else a value of `extra`
    ASCTIME
    MSECS
    UTC            # `time`
    CREATED_AT
    PEER
    RECEIVED

cdef struct Directive:
    int what
    int slot
    const uint8_t* text      # a literal, or the name of an attribute in `extra`
    size_t size
    int look
    size_t width
    bint left
    bint zeros
    bint number              # whether the directive is d, not s

cdef enum:
    LONG_VALUE = 1024   # bytes; longer values are checked when they are written, the others with the whole line


cdef struct Template:
    Directive* directives
    size_t count
    size_t padding           # blanks that all widths can add


cdef size_t characters(const uint8_t* text, size_t size) noexcept nogil:
    cdef size_t index, count = 0
    for index in range(size):
        count += text[index] & 0xC0 != 0x80
    return count


cdef bint put_padding(Out* out, uint8_t filler, size_t count) noexcept nogil:
    if not reserve(out, count):
        return False
    memset(out.data + out.size, filler, count)
    out.size += count
    return True


cdef bint put_padded(Out* out, const Directive* directive, const uint8_t* text, size_t size, int look, bint octets) noexcept nogil:
    """Write a text in its directive's width."""
    cdef size_t length, padding = 0
    if directive.width:
        if look & INVALID or (octets and look & SURROGATES):
            return False
        length = size if look == PLAIN else characters(text, size)
        padding = directive.width - length if directive.width > length else 0
    if padding and not directive.left and not put_padding(out, 32, padding):
        return False
    if not put_text(out, text, size, look, octets):
        return False
    return not (padding and directive.left) or put_padding(out, 32, padding)


cdef bint put_number(Out* out, const Directive* directive, int64_t value) noexcept nogil:
    """Write an integer in its directive's width."""
    cdef char[24] text
    cdef bint negative = value < 0
    cdef uint64_t magnitude = <uint64_t> value
    cdef size_t digits, length, padding
    if negative:
        magnitude = 0 - magnitude
    digits = spell(magnitude, text + 24)
    length = digits + negative
    padding = directive.width - length if directive.width > length else 0
    if padding and not directive.left and not directive.zeros and not put_padding(out, 32, padding):
        return False
    if negative and not put_byte(out, 45):
        return False
    if padding and directive.zeros and not directive.left and not put_padding(out, 48, padding):
        return False
    if not put(out, <const uint8_t*> text + 24 - digits, digits):
        return False
    return not (padding and directive.left) or put_padding(out, 32, padding)


cdef bint put_missing(Out* out, const Directive* directive, const char* what) noexcept nogil:
    """Write a text in place of a value. For a text %d and %s are the same, and blanks replace zeros."""
    return put_padded(out, directive, <const uint8_t*> what, strlen(what), PLAIN, False)


cdef bint put_plain(Out* out, const Directive* directive, const Node* node) noexcept nogil:
    """Write a value that comes from the client."""
    cdef size_t start
    if is_text(node):
        return put_padded(out, directive, node.value.text, node.size, node.look, node.kind == OCTETS)
    if node.kind == INT:
        return put_number(out, directive, node.value.integer)
    if node.kind == FLOAT:
        if directive.number or directive.width or not isfinite(node.value.real):
            return False
        return put_float(out, node.value.real, False)
    if node.kind == BOOL:
        return not directive.number and put_missing(out, directive, b"True" if node.value.integer else b"False")
    if node.kind == NONE:
        return put_missing(out, directive, b"None")
    return False


cdef bint put_asctime(Out* out, double created) noexcept nogil:
    """Write local time as logging.Formatter does, without the milliseconds."""
    cdef time_t second = <time_t> created
    cdef tm fields
    if second != LATEST_LOCAL.second:
        if localtime_r(&second, &fields) == NULL:
            return False
        if strftime(LATEST_LOCAL.text, 20, b"%Y-%m-%d %H:%M:%S", &fields) != 19:
            LATEST_LOCAL.second = -1
            return False
        LATEST_LOCAL.second = second
    return put(out, <const uint8_t*> LATEST_LOCAL.text, 19)


cdef inline int milliseconds(double created) noexcept nogil:
    return <int> ((created - <double> <int64_t> created) * 1000)


cdef bint put_directive(
    Machine* m, Fields* fields, Out* out, const Directive* directive, const uint8_t* peer, size_t peer_size, double received
) noexcept nogil:
    cdef uint8_t[32] moment
    cdef Out small
    cdef Node* node
    cdef size_t index
    cdef int secret
    if directive.what == LITERAL:
        return put_text(out, directive.text, directive.size, directive.look, False)
    if directive.what == FIELD:
        node = fields.slot[directive.slot]
        return put_missing(out, directive, b"-") if node == NULL else put_plain(out, directive, node)
    if directive.what == FROM_SENDER and fields.sender[directive.slot].size:
        return put_plain(out, directive, &fields.sender[directive.slot])
    if directive.what == FROM_SENDER and directive.slot == PEER_NAME:
        # An attribute of this name is the client's own, and does not stand for its certificate.
        return put_missing(out, directive, b"-")
    if directive.what == FROM_EXTRA or directive.what == FROM_SENDER:
        for index in range(0, fields.extras_count, 2):
            node = fields.extras[index]
            if node.size == directive.size and memcmp(node.value.text, directive.text, node.size) == 0:
                secret = 0 if is_kept(fields.extras[index + 1]) else is_secret(m.secrets, node)
                if secret:
                    m.redacted = True
                    return secret > 0 and put_missing(out, directive, b"<redacted>")
                return put_plain(out, directive, fields.extras[index + 1])
        for index in range(fields.added_count):
            if (
                fields.added[index].name_size == directive.size
                and memcmp(fields.added[index].name, directive.text, directive.size) == 0
            ):
                return put_plain(out, directive, &fields.added[index].value)
        return put_missing(out, directive, b"-")
    if directive.what == MSECS:
        return put_number(out, directive, milliseconds(fields.created))
    if directive.what == PEER:
        return put_padded(out, directive, peer, peer_size, look_at(peer, peer_size), False)
    if directive.width or directive.number:
        return False
    if directive.what == ASCTIME:
        if not put_asctime(out, fields.created) or not put_byte(out, 44):
            return False
        index = milliseconds(fields.created)
        two(moment, index // 10)
        moment[2] = 48 + index % 10
        return put(out, moment, 3)
    if directive.what == UTC:
        return put_time_utc(out, fields.created)
    return put_float(out, received if directive.what == RECEIVED else fields.created, False)


cdef bint put_formatted(
    Machine* m, Fields* fields, Out* out, const Template* template, const uint8_t* peer, size_t peer_size, double received,
    size_t most_bytes,
) noexcept nogil:
    """Write the template's line, the traceback and the stack; return False if they are too long."""
    cdef size_t index, start = out.size, before, end = start + most_bytes + template.padding
    cdef int slot
    cdef Node* node
    for index in range(template.count):
        before = out.size
        if not put_directive(m, fields, out, template.directives + index, peer, peer_size, received):
            return False
        if out.size - before > LONG_VALUE and out.size > end:
            return False
        if before == start and out.size > start and out.data[start] == 9:
            # The first line must not look like a continuation of another record.
            if not reserve(out, 3):
                return False
            memmove(out.data + start + 4, out.data + start + 1, out.size - start - 1)
            memcpy(out.data + start, b"\\x09", 4)
            out.size += 3
    for slot in range(EXC_TEXT, STACK_INFO + 1):
        node = fields.slot[slot]
        if node != NULL and node.size:
            # The text so far ends with a newline: a tab behind it marks the continuation.
            if not (out.size > start + 1 and out.data[out.size - 2] == 10) and not put(out, <const uint8_t*> b"\n\t", 2):
                return False
            if not put_text(out, node.value.text, node.size, node.look, node.kind == OCTETS):
                return False
    return out.size < end and put_byte(out, 10)
