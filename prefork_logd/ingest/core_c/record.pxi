# Turns a LogRecord's attributes into a stored record and its line of JSON: record.py and render.py in C.
#
# Owns the field of each attribute. Python reads a record with a value that does not fit its field.

cdef enum:  # slots
    NAME
    LEVELNO
    LEVELNAME
    MESSAGE
    MSG
    PATHNAME
    FILENAME
    MODULE
    LINENO
    FUNCNAME
    PROCESS
    PROCESSNAME
    THREAD
    THREADNAME
    TASKNAME
    EXC_TEXT
    STACK_INFO
    STORED         # number of fields that are stored as they were sent
    CREATED = STORED
    ARGS
    EXC_INFO
    CUTS           # paths of values that our handler has cut; stored behind `extra`
    EXCEPTIONS     # exceptions as data; stored behind CUTS
    DERIVED_ONE
    DERIVED_TWO
    DERIVED_THREE
    DERIVED_FOUR
    SLOTS

cdef enum:
    INTEGERS = 1 << LEVELNO | 1 << LINENO | 1 << PROCESS | 1 << THREAD
    KEY_SLOTS = 256
    EXTRAS = 256   # most attributes beside LogRecord's
    SECONDS = 16
    PREFIX_ROOM = 16  # a prefix is copied as so many octets

cdef struct KeySlot:
    uint32_t size
    int slot
    char* text

cdef KeySlot[KEY_SLOTS] KEYS
cdef uint32_t HASH_SEED = 2166136261U
cdef char[STORED][PREFIX_ROOM] PREFIXES
cdef size_t[STORED] PREFIX_SIZES
_STORED_NAMES = (
    "name", "levelno", "levelname", "message", "msg", "pathname", "filename", "module", "lineno", "funcName", "process",
    "processName", "thread", "threadName", "taskName", "exc_text", "stack_info",
)
_SENT_AS = {"message": "msg", "msg": "prefork_logd.msg"}
_SENT_NAMES = (
    *(_SENT_AS.get(name, name) for name in _STORED_NAMES),
    "created", "args", "exc_info", "prefork_logd.truncated", "prefork_logd.exception", "message", "asctime", "msecs", "relativeCreated",
)
_PREFIXES = [f',"{name}":'.encode() for name in _STORED_NAMES]
_SENT = [name.encode() for name in _SENT_NAMES]


cdef inline uint32_t hash_key(const uint8_t* text, size_t size) noexcept nogil:
    """Return the place of a key, which has one octet or more, in the table."""
    return (size * 23 + text[0] * 7 + text[size - 1] * 5 + text[size >> 1]) & (KEY_SLOTS - 1)


def _fill_keys():
    cdef uint32_t at
    for index, key in enumerate(_SENT):
        at = hash_key(key, len(key))
        while KEYS[at].text != NULL:
            at = (at + 1) & (KEY_SLOTS - 1)
        KEYS[at].size = len(key)
        KEYS[at].text = key
        KEYS[at].slot = index
    for index, prefix in enumerate(_PREFIXES):
        memcpy(PREFIXES[index], <const char*> prefix, len(prefix))
        PREFIX_SIZES[index] = len(prefix)


_fill_keys()


cdef enum:
    PEER_NAME = 4
    SENDER_TEXTS = 5       # host, service, environment, version, peer_name
    MOST_ADDED = 32        # most fields of a sender's own (records/sender.py)
    MARK_BYTES = 48        # most bytes of the mark of a sampled record (ingest/sampling.py)
    KEY_BYTES = 256        # of a logger's name, which tell keys apart there

cdef struct Added:
    # A field that each record of a sender gets in `extra`.
    const uint8_t* name
    size_t name_size
    const uint8_t* json    # `"name":value`
    size_t json_size
    Node value

cdef struct Fields:
    bint wants_all                # whether also the nodes of `site` and `origin` are needed
    Stretch* site                 # the stretch that was copied and not read (repeats.pxi)
    Stretch* origin
    uint32_t* unfit               # of the latest Layout or Shape of which the memo has no values
    uint32_t plain_groups         # groups, as bits, of which each stored field has a number, or a text that is plain
    Node* slot[SLOTS]
    uint32_t nones                # slots with None, as bits
    double created
    Node* extras[2 * EXTRAS]      # keys and values in turn
    size_t extras_count           # number of keys and values
    bint has_containers           # whether the extras have containers
    size_t output_end             # largest size of the buffer of the line that is written now
    Node[SENDER_TEXTS] sender     # the sender's texts, in the order of a line
    Added[MOST_ADDED + 1] added   # the last one is for the mark of a sampled record
    size_t added_count
    size_t sender_bytes           # most bytes that the sender takes in a line


cdef inline void begin_fields(Fields* fields) noexcept nogil:
    clear_words(fields.slot, SLOTS)
    fields.site = fields.origin = NULL
    fields.unfit = NULL
    fields.nones = 0
    fields.extras_count = 0
    fields.has_containers = False


cdef inline int find_slot(const Node* key) noexcept nogil:
    cdef uint32_t at
    if key.size == 0:
        return -1
    at = hash_key(key.value.text, key.size)
    while KEYS[at].text != NULL:
        if KEYS[at].size == key.size and same_octets(<const uint8_t*> KEYS[at].text, key.value.text, key.size):
            return KEYS[at].slot
        at = (at + 1) & (KEY_SLOTS - 1)
    return -1


cdef bint is_empty(Machine* m, const Node* node) noexcept nogil:
    """Tell whether a value is an empty text, list or object. It is not asked about calls."""
    cdef Box* box
    if is_text(node) or node.kind == BYTES:
        return node.size == 0
    if node.kind == LIST or node.kind == TUPLE or node.kind == SET or node.kind == DICT:
        box = m.memory.boxes + node.value.box
        return box.items.count + box.flat.count == 0
    return False


cdef bint collect(Machine* m, Fields* fields) noexcept nogil:
    """Put the attributes of the record that the machine has built in their places; return whether all fit."""
    cdef Node* top = m.memory.stack
    cdef Node* key
    cdef Node* value
    cdef Walk walk
    cdef int slot
    cdef Node* keys[EXTRAS]
    cdef size_t count = 0
    if top.kind != DICT:
        return False
    begin_fields(fields)
    m.nodes_left = nodes_for(m.size) - <long> m.memory.boxes[top.value.box].flat.count
    m.text_left = output_for(m.size)
    start_walk(&m.memory, &m.memory.boxes[top.value.box].flat, &walk)
    key = step(&m.memory, &walk)
    while key != NULL:
        if not is_text(key) or (key.kind == OCTETS and key.look & (INVALID | SURROGATES)):
            return False
        m.text_left -= 2 * key.size
        value = step(&m.memory, &walk)
        slot = find_slot(key)
        if slot < 0 or ((slot == ARGS or slot == EXC_INFO) and value.kind != NONE and not is_empty(m, value)):
            if slot >= 0:
                if fields.slot[slot] != NULL or value.kind == OBJECT:
                    return False
                fields.slot[slot] = value
            if count == EXTRAS:
                return False
            keys[count] = key
            count += 1
            fields.extras[fields.extras_count] = key
            fields.extras[fields.extras_count + 1] = value
            fields.extras_count += 2
            if value.kind >= LIST:
                fields.has_containers = True
        else:
            if fields.slot[slot] != NULL:
                return False
            fields.slot[slot] = value
            if (slot == CUTS or slot == EXCEPTIONS) and value.kind == LIST:
                if not holds(m, value, slot == CUTS):
                    return False
                fields.has_containers = True
            elif is_text(value):
                m.text_left -= value.size
            elif value.kind >= LIST and not is_empty(m, value):
                return False
            elif value.kind == BYTES or value.kind == BIG:
                return False
        key = step(&m.memory, &walk)
    if count > 1 and not are_distinct(m, keys, count):
        return False
    return m.nodes_left >= 0 and m.text_left >= 0 and settle(fields)


cdef bint holds(Machine* m, const Node* node, bint texts) noexcept nogil:
    """Tell whether a list holds only texts, or only dicts."""
    cdef Walk walk
    cdef Node* item
    start_walk(&m.memory, &m.memory.boxes[node.value.box].items, &walk)
    item = step(&m.memory, &walk)
    while item != NULL:
        if not is_text(item) if texts else item.kind != DICT:
            return False
        item = step(&m.memory, &walk)
    return True


cdef inline bint is_fit(int slot, const Node* value) noexcept nogil:
    """Tell whether a value fits its field. None does, and means no value."""
    if value.kind == NONE:
        return True
    return value.kind == INT if (1 << slot) & INTEGERS else is_text(value)


cdef bint unfold(Machine* m, Fields* fields) noexcept nogil:
    """Replace a dict called `extra` by its members, at the end; return whether all names are different."""
    cdef size_t index, at, count
    cdef Node* key
    cdef Walk walk
    cdef Chain* flat
    for at in range(0, fields.extras_count, 2):
        if says(fields.extras[at], b"extra"):
            break
    else:
        return True
    key = fields.extras[at + 1]
    if key.kind != DICT:
        # Python may make a dict of an object, too.
        return key.kind != OBJECT
    m.memory.boxes[key.value.box].is_unfolded = True
    flat = &m.memory.boxes[key.value.box].flat
    fields.extras_count -= 2
    for index in range(at, fields.extras_count):
        fields.extras[index] = fields.extras[index + 2]
    m.nodes_left -= 8 + flat.count
    if fields.extras_count + flat.count > 2 * EXTRAS:
        return False
    start_walk(&m.memory, flat, &walk)
    key = step(&m.memory, &walk)
    while key != NULL:
        if not is_text(key) or key.look != PLAIN or says(key, b"extra"):
            return False
        count = fields.extras_count
        for index in range(0, count, 2):
            if same_text(fields.extras[index], key):
                return False
        m.text_left -= 2 * key.size
        fields.extras[count] = key
        fields.extras[count + 1] = step(&m.memory, &walk)
        fields.extras_count = count + 2
        key = step(&m.memory, &walk)
    return m.nodes_left >= 0 and m.text_left >= 0


cdef bint settle(Fields* fields) noexcept nogil:
    """Tell whether each value fits its field; None means no value."""
    cdef Node* value
    cdef int slot
    for slot in range(STORED):
        value = fields.slot[slot]
        if value == NULL:
            continue
        if not is_fit(slot, value):
            return False
        if value.kind == NONE:
            fields.nones |= 1 << slot
    return settle_fitting(fields)


cdef inline bint settle_fitting(Fields* fields) noexcept nogil:
    """Do `settle` for fields of which all that are stored as they were sent fit, and `nones` are known."""
    cdef Node* value
    cdef int slot
    cdef uint32_t nones = fields.nones & ((1 << STORED) - 1)
    while nones:
        fields.slot[__builtin_ctz(nones)] = NULL
        nones &= nones - 1
    if fields.slot[MESSAGE] == NULL:
        return False
    for slot in range(CUTS, EXCEPTIONS + 1):
        value = fields.slot[slot]
        if value != NULL and value.kind != LIST:
            if value.kind != NONE:
                return False
            fields.slot[slot] = NULL
    value = fields.slot[CREATED]
    if value == NULL:
        return False
    if value.kind == INT:
        fields.created = <double> value.value.integer
    elif value.kind == FLOAT:
        fields.created = value.value.real
    else:
        return False
    return 0 <= fields.created < 7_258_118_400.0


cdef struct Second:
    # The latest second that was written.
    int64_t second
    char[20] text


cdef Second LATEST_UTC
cdef Second LATEST_LOCAL
LATEST_UTC.second = LATEST_LOCAL.second = -1


cdef enum:
    TIME_BYTES = 27


cdef bint put_time_utc(Out* out, double created) noexcept nogil:
    """Write RFC 3339, UTC, microseconds (record.rfc3339)."""
    if not reserve(out, TIME_BYTES):
        return False
    spell_time_utc(out.data + out.size, created)
    out.size += TIME_BYTES
    return True


cdef inline uint8_t* spell_time_utc(uint8_t* to, double created) noexcept nogil:
    """Write what put_time_utc writes, which takes TIME_BYTES; return its end."""
    cdef int64_t microseconds = <int64_t> rint(created * 1e6)
    cdef int64_t second = microseconds // 1_000_000
    cdef unsigned int rest = <unsigned int> (microseconds - second * 1_000_000)
    if second != LATEST_UTC.second:
        spell_utc(second, LATEST_UTC.text)
        LATEST_UTC.second = second
    memcpy(to, LATEST_UTC.text, 19)
    to[19] = 46
    two(two(two(to + 20, rest // 10_000), rest // 100 % 100), rest % 100)
    to[26] = 90
    return to + TIME_BYTES


cdef void spell_utc(int64_t second, char* text) noexcept nogil:
    """Write a second since 1970 as a date and a time (Howard Hinnant's civil_from_days)."""
    cdef int64_t days = second // 86_400 + 719_468
    cdef unsigned int left = <unsigned int> (second % 86_400)
    cdef unsigned int era = <unsigned int> (days // 146_097)
    cdef unsigned int day_of_era = <unsigned int> (days - <int64_t> era * 146_097)
    cdef unsigned int year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    cdef unsigned int day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    cdef unsigned int shifted = (5 * day_of_year + 2) // 153
    cdef unsigned int month = shifted + 3 if shifted < 10 else shifted - 9
    cdef unsigned int year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    cdef uint8_t* to = two(two(<uint8_t*> text, year // 100), year % 100)
    to[0] = 45
    to = two(to + 1, month)
    to[0] = 45
    to = two(to + 1, day_of_year - (153 * shifted + 2) // 5 + 1)
    to[0] = 84
    to = two(to + 1, left // 3600)
    to[0] = 58
    to = two(to + 1, left // 60 % 60)
    to[0] = 58
    two(to + 1, left % 60)


cdef inline bint put_slots(Fields* fields, Out* out, int slot, int end) noexcept nogil:
    """Write a range of fields as members of a JSON object, each behind a comma; leave out empty ones."""
    while slot < end:
        if fields.slot[slot] != NULL and not put_slot(fields, out, slot):
            return False
        slot += 1
    return True


cdef inline bint put_slot(Fields* fields, Out* out, int slot) noexcept nogil:
    """Write a field as put_slots does, if it is not NULL."""
    cdef Node* node = fields.slot[slot]
    cdef uint8_t* to
    if node.kind != INT and not node.size:
        return True
    if not reserve(out, PREFIX_ROOM + <size_t> node.size + 2):
        return False
    to = out.data + out.size
    memcpy(to, PREFIXES[slot], PREFIX_ROOM)
    to += PREFIX_SIZES[slot]
    if node.look == PLAIN and node.kind != INT:
        to[0] = 34
        copy_octets(to + 1, node.value.text, node.size)
        to[node.size + 1] = 34
        out.size = to + node.size + 2 - out.data
        return out.size <= fields.output_end
    out.size = to - out.data
    if node.kind == INT:
        return put_integer(out, node.value.integer)
    return (
        put_string(out, node.value.text, node.size, node.look, node.kind == OCTETS)
        and out.size <= fields.output_end
    )


cdef inline bint put_plain_slots(Machine* m, Fields* fields, Out* out, int slot, int end) noexcept nogil:
    """Do what put_slots does, for fields of groups that are in `plain_groups`: they are parts of the frame."""
    cdef Node* node
    cdef uint8_t* to
    if not reserve(out, m.size + (end - slot) * (PREFIX_ROOM + SLACK + INTEGER_ROOM)):
        return False
    to = out.data + out.size
    while slot < end:
        node = fields.slot[slot]
        memcpy(to, PREFIXES[slot], PREFIX_ROOM)
        to += PREFIX_SIZES[slot]
        slot += 1
        if node.kind == INT:
            to = spell_integer(to, node.value.integer)
        else:
            to[0] = 34
            copy_run(to + 1, node.value.text, node.size)
            to += node.size + 2
            (to - 1)[0] = 34
    out.size = to - out.data
    return out.size <= fields.output_end


cdef inline bint has_extra(Fields* fields, const Added* added) noexcept nogil:
    """Tell whether a record has an attribute with the name of one of its sender's fields."""
    cdef size_t index
    cdef Node* name
    for index in range(0, fields.extras_count, 2):
        name = fields.extras[index]
        if name.size == added.name_size and memcmp(name.value.text, added.name, name.size) == 0:
            return True
    return False


cdef bint put_added(Fields* fields, Out* out, bint first) noexcept nogil:
    """Write the sender's own fields as members of `extra`; `first`: no member is written yet."""
    cdef size_t index
    cdef Added* added
    for index in range(fields.added_count):
        added = &fields.added[index]
        if has_extra(fields, added):
            continue
        if not first and not put_byte(out, 44):
            return False
        first = False
        if not put(out, added.json, added.json_size):
            return False
    return True


cdef inline bint put_beginning(Out* out, double created) noexcept nogil:
    """Write a line of JSON up to the end of `time`."""
    cdef uint8_t* to
    if not reserve(out, 11 + FLOAT_ROOM + 9 + TIME_BYTES + 1):
        return False
    to = out.data + out.size
    memcpy(to, b'{"created":', 11)
    to = spell_float(to + 11, created, True)
    memcpy(to, b',"time":"', 9)
    to = spell_time_utc(to + 9, created)
    to[0] = 34
    out.size = to + 1 - out.data
    return True


cdef bint put_record(Machine* m, Fields* fields, Out* out, const uint8_t* ending, size_t ending_size) noexcept nogil:
    """Write the record's line of JSON. `ending` is the part behind `exception`: host to received, brace, newline."""
    cdef size_t index
    cdef Node* node
    cdef Stretch* site
    m.output_end = fields.output_end = out.size + output_for(m.size)
    if not put_beginning(out, fields.created):
        return False
    if fields.slot[NAME] != NULL and not put_slot(fields, out, NAME):
        return False
    if fields.site != NULL:
        site = fields.site
        if not put(out, site.octets + site.size, site.before) or not put_slot(fields, out, MESSAGE):
            return False
        if fields.slot[MSG] != NULL and not put_slot(fields, out, MSG):
            return False
        if not put(out, site.octets + site.size + site.before, site.json_size - site.before):
            return False
    elif fields.plain_groups & 1 << SITE:
        if not put_plain_slots(m, fields, out, LEVELNO, MESSAGE) or not put_slot(fields, out, MESSAGE):
            return False
        if fields.slot[MSG] != NULL and not put_slot(fields, out, MSG):
            return False
        if not put_plain_slots(m, fields, out, PATHNAME, PROCESS):
            return False
    elif not put_slots(fields, out, LEVELNO, PROCESS):
        return False
    if fields.origin != NULL:
        if not put(out, fields.origin.octets + fields.origin.size, fields.origin.json_size):
            return False
    elif fields.plain_groups & 1 << ORIGIN:
        if not put_plain_slots(m, fields, out, PROCESS, TASKNAME):
            return False
    elif not put_slots(fields, out, PROCESS, TASKNAME):
        return False
    if fields.slot[TASKNAME] != NULL and not put_slot(fields, out, TASKNAME):
        return False
    if not put_slots(fields, out, EXC_TEXT, STORED):
        return False
    if fields.extras_count or fields.added_count:
        if not put(out, <const uint8_t*> b',"extra":{', 10):
            return False
        for index in range(0, fields.extras_count, 2):
            node = fields.extras[index]
            if is_secret_value(m, fields, node) or may_have_form(m.secrets, node.value.text, node.size):
                return False
            if not put_name(out, node, index != 0):
                return False
            if not put_under(m, out, node, fields.extras[index + 1], 1):
                return False
        if fields.added_count and not put_added(fields, out, fields.extras_count == 0):
            return False
        if not put_byte(out, 125):
            return False
    node = fields.slot[CUTS]
    if node != NULL and not is_empty(m, node):
        if not put(out, <const uint8_t*> b',"truncated":', 13) or not put_value(m, out, node, 1):
            return False
    node = fields.slot[EXCEPTIONS]
    if node != NULL and not is_empty(m, node):
        if not put(out, <const uint8_t*> b',"exception":', 13) or not put_value(m, out, node, 1):
            return False
    return (
        m.nodes_left >= 0 and m.text_left >= 0 and out.size + ending_size <= fields.output_end + fields.sender_bytes
        and put(out, ending, ending_size)
    )


cdef inline bint may_hold_form(const Machine* m, const Fields* fields, int slot) noexcept nogil:
    """Tell whether a field may hold a secret by its form."""
    cdef const Node* node = fields.slot[slot]
    return (
        node != NULL and node.size >= m.secrets.shortest and is_text(node)
        and has_beginning(m.secrets, node.value.text, node.size)
    )


cdef inline bint may_hold_forms(const Machine* m, Fields* fields) noexcept nogil:
    """Tell whether a field may hold a secret by its form; put_record and can_pay check `extra`."""
    if (
        may_hold_form(m, fields, MESSAGE) or may_hold_form(m, fields, MSG) or may_hold_form(m, fields, EXC_TEXT)
        or may_hold_form(m, fields, STACK_INFO) or may_hold_form(m, fields, NAME) or may_hold_form(m, fields, TASKNAME)
    ):
        return True
    if fields.origin == NULL:
        return may_hold_form(m, fields, PROCESSNAME) or may_hold_form(m, fields, THREADNAME)
    if fields.origin.searched != m.secrets.number:
        if has_form_in_names(m.secrets, fields.origin):
            return True
        fields.origin.searched = m.secrets.number
    return False


cdef bint has_form_in_names(const Secrets* secrets, const Stretch* origin) noexcept nogil:
    """Tell whether the name of the process or of the thread may hold a secret, in a stretch that was not read."""
    cdef size_t index
    cdef const Node* node
    for index in range(origin.pairs):
        node = origin.nodes + index
        if is_text(node) and may_have_form(secrets, origin.octets + node.value.integer, node.size):
            return True
    return False


cdef inline bint is_secret_value(Machine* m, Fields* fields, const Node* key) noexcept nogil:
    """Tell whether extra is the name of a secret and, under this key, its value, as `{"key": "token", "value": "x"}` is."""
    return is_value_key(key.value.text, key.size) and has_secret_name(m, fields)


cdef bint has_secret_name(Machine* m, Fields* fields) noexcept nogil:
    """Tell whether extra has a name or a key that names a secret."""
    cdef size_t index
    cdef Node* key
    if not m.secrets.patterns_count:
        return False
    for index in range(0, fields.extras_count, 2):
        key = fields.extras[index]
        if is_name_key(key.value.text, key.size) and names_secret(m, fields.extras[index + 1]):
            return True
    return False


cdef inline bint may_hold_any(const Machine* m, const Node* value) noexcept nogil:
    """Tell whether a value without containers may hold a secret by its form."""
    if value.kind == INT:
        return m.secrets.forms & CARD and may_be_card(value.value.integer)
    return is_text(value) and may_have_form(m.secrets, value.value.text, value.size)


cdef bint can_pay(Machine* m, Fields* fields) noexcept nogil:
    """Tell whether a record without containers is within its budget, without writing it as put_record does."""
    cdef int secret
    cdef size_t index
    cdef Node* value
    for index in range(1, fields.extras_count, 2):
        value = fields.extras[index]
        if is_secret_value(m, fields, fields.extras[index - 1]):
            return False
        if may_have_form(m.secrets, fields.extras[index - 1].value.text, fields.extras[index - 1].size):
            return False
        if may_hold_any(m, value):
            return False
        if not is_kept(value):
            secret = is_secret(m.secrets, fields.extras[index - 1])
            if secret < 0:
                return False
            m.redacted = m.redacted or secret
        if is_text(value):
            m.text_left -= value.size
        elif value.kind == BIG or value.kind == BYTES:
            m.text_left -= 10 * value.size + 8
    return m.nodes_left >= 0 and m.text_left >= 0
