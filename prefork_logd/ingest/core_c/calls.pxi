# Handles the opcodes of names and calls: opcodes.py in C. No name is looked up, and no function is called.
#
# Owns the present names of modules that were renamed, the callables that only construct a value, and the known names.

cdef enum Known:
    UNKNOWN = 0
    OTHER          # only known.py reads it
    MEMBER         # a member of an enumeration, pickled by name
    RECONSTRUCTOR  # from here on: callables that only name the class to make
    NEW_OBJECT
    NEW_OBJECT_EX
    GET_ATTRIBUTE
    BARE_OBJECT    # the classes object and tuple
    BARE_TUPLE
    BASE_TEXT      # builtin types whose subclasses are written as their base
    BASE_INT
    BASE_FLOAT
    BASE_LIST
    BASE_DICT
    BASE_OF_NEW    # stands for no name: the class of a NEWOBJ
    ENCODE         # from here on: the names that known.pxi reads
    OCTET_STRING
    DECIMAL
    UNIVERSAL_ID
    SEQUENCE
    MAPPING
    DEFAULT_MAPPING
    PATH
    EXCEPTION
    DATETIME
    DATE
    TIME
    TIMEDELTA
    TIMEZONE
    ZONE

cdef struct Entry:
    uint32_t module_size
    uint32_t name_size
    int known
    char* text        # module and name, one behind the other

cdef enum:
    NAME_SLOTS = 1024

cdef Entry[NAME_SLOTS] NAMES
_NAME_TEXTS = []


cdef inline uint32_t hash_text(uint32_t hash, const uint8_t* data, size_t size) noexcept nogil:
    cdef size_t index
    for index in range(size):
        hash = (hash ^ data[index]) * 16777619
    return hash


cdef inline uint32_t hash_name(const uint8_t* module, size_t module_size, const uint8_t* name, size_t size) noexcept nogil:
    cdef uint32_t hash = hash_text(hash_text(2166136261U, module, module_size) * 31, name, size)
    return (hash ^ hash >> 16) & (NAME_SLOTS - 1)


def _add_name(module, name, int known):
    cdef uint32_t at
    text = module.encode() + name.encode()
    _NAME_TEXTS.append(text)
    at = hash_name(module.encode(), len(module), name.encode(), len(name))
    while NAMES[at].text != NULL:
        at = (at + 1) & (NAME_SLOTS - 1)
    NAMES[at].module_size = len(module)
    NAMES[at].name_size = len(name)
    NAMES[at].known = known
    NAMES[at].text = text


def _fill_names():
    mine = {
        ("copyreg", "_reconstructor"): RECONSTRUCTOR,
        ("copyreg", "__newobj__"): NEW_OBJECT,
        ("copyreg", "__newobj_ex__"): NEW_OBJECT_EX,
        ("builtins", "getattr"): GET_ATTRIBUTE,
        ("builtins", "object"): BARE_OBJECT,
        ("builtins", "tuple"): BARE_TUPLE,
        ("builtins", "str"): BASE_TEXT,
        ("builtins", "int"): BASE_INT,
        ("builtins", "float"): BASE_FLOAT,
        ("builtins", "list"): BASE_LIST,
        ("builtins", "dict"): BASE_DICT,
        ("_codecs", "encode"): ENCODE,
        ("builtins", "bytes"): OCTET_STRING,
        ("builtins", "bytearray"): OCTET_STRING,
        ("decimal", "Decimal"): DECIMAL,
        ("uuid", "UUID"): UNIVERSAL_ID,
        ("builtins", "set"): SEQUENCE,
        ("builtins", "frozenset"): SEQUENCE,
        ("collections", "deque"): SEQUENCE,
        ("collections", "OrderedDict"): MAPPING,
        ("collections", "Counter"): MAPPING,
        ("collections", "defaultdict"): DEFAULT_MAPPING,
        ("pathlib", "PosixPath"): PATH,
        ("pathlib", "PurePosixPath"): PATH,
        ("datetime", "datetime"): DATETIME,
        ("datetime", "date"): DATE,
        ("datetime", "time"): TIME,
        ("datetime", "timedelta"): TIMEDELTA,
        ("datetime", "timezone"): TIMEZONE,
        ("zoneinfo", "ZoneInfo"): ZONE,
        ("zoneinfo", "ZoneInfo._unpickle"): ZONE,
    }
    exception = known.KNOWN["builtins", "ValueError"]
    for path, reader in known.KNOWN.items():
        mine.setdefault(path, EXCEPTION if reader is exception else OTHER)
    for path in known.MEMBERS:
        mine[path] = MEMBER
    for (module, name), number in mine.items():
        _add_name(module, name, number)


_fill_names()


cdef int find_name(const Node* module, const Node* name) noexcept nogil:
    cdef uint32_t at = hash_name(module.value.text, module.size, name.value.text, name.size)
    while NAMES[at].text != NULL:
        if (
            NAMES[at].module_size == module.size
            and NAMES[at].name_size == name.size
            and memcmp(NAMES[at].text, module.value.text, module.size) == 0
            and memcmp(NAMES[at].text + module.size, name.value.text, name.size) == 0
        ):
            return NAMES[at].known
        at = (at + 1) & (NAME_SLOTS - 1)
    return UNKNOWN


cdef inline bint says(const Node* node, const char* text) noexcept nogil:
    return node.size == strlen(text) and memcmp(node.value.text, text, node.size) == 0


cdef inline void respell(Node* node, const char* text) noexcept nogil:
    node.value.text = <const uint8_t*> text
    node.size = <uint32_t> strlen(text)
    node.look = PLAIN


cdef bint new_symbol(Machine* m, Node module, Node name) noexcept nogil:
    """Make a symbol; it is the last box then."""
    cdef Box* box = new_box(&m.memory, SYMBOL)
    if box == NULL:
        return False
    if says(&module, b"__builtin__") or says(&module, b"exceptions"):
        respell(&module, b"builtins")
    elif says(&module, b"copy_reg"):
        respell(&module, b"copyreg")
    elif says(&module, b"pathlib._local"):
        respell(&module, b"pathlib")
    if says(&module, b"builtins"):
        if says(&name, b"xrange"):
            respell(&name, b"range")
        elif says(&name, b"long"):
            respell(&name, b"int")
        elif says(&name, b"unicode"):
            respell(&name, b"str")
    box.module = module
    box.name = name
    box.known = find_name(&module, &name)
    return True


cdef bint push_last_box(Machine* m, uint8_t kind) noexcept nogil:
    cdef Node* node
    m.containers_left -= 1
    if m.containers_left < 0:
        return False
    node = push(m, kind)
    if node == NULL:
        return False
    node.value.box = m.memory.boxes_size - 1
    return True


cdef bint take_name(Machine* m, Node* name) noexcept nogil:
    cdef size_t size
    if not take_line(m, MAX_NAME, &name.value.text, &size):
        return False
    name.kind = TEXT
    name.size = <uint32_t> size
    name.look = look_at(name.value.text, size)
    return not name.look & (INVALID | SURROGATES)


cdef inline bint is_name(const Node* node) noexcept nogil:
    return node.kind == TEXT and node.size <= MAX_NAME and not node.look & SURROGATES


cdef bint push_call(Machine* m, Node callee, Chain args, bint has_kwargs, Node kwargs) noexcept nogil:
    """Push the object of a call. Callables that only name the class to make are replaced by a call of that class."""
    cdef Box* box
    cdef int helper, base = UNKNOWN
    if callee.kind != OBJECT and callee.kind != SYMBOL:
        return False  # checked before its value is used as an index: the peer chooses the value of a number
    box = m.memory.boxes + callee.value.box
    if callee.kind == OBJECT:
        if box.module.kind != SYMBOL:
            return False
    elif RECONSTRUCTOR <= box.known <= GET_ATTRIBUTE:
        # Keyword arguments of these callables are dropped, as in opcodes.py.
        helper = read_through(m, box.known, &args, &callee, &has_kwargs, &kwargs, &base)
        if helper < 0:
            return False
        if helper == 2:
            return push_last_box(m, SYMBOL)
        if helper == 1 and callee.kind != SYMBOL:
            return False
    box = new_box(&m.memory, OBJECT)
    if box == NULL:
        return False
    box.module = callee
    box.args = args
    box.has_kwargs = has_kwargs
    box.name = kwargs
    box.known = base
    return push_last_box(m, OBJECT)


cdef int read_through(
    Machine* m, int helper, Chain* args, Node* callee, bint* has_kwargs, Node* kwargs, int* base
) noexcept nogil:
    """Replace a call by the value that it makes; return 1.

    Return 2 if it is a symbol, the last box; 0 for an ordinary call; -1 if Python has to decide.
    """
    cdef Node[3] given
    cdef Node* node
    cdef Walk walk
    cdef Node name
    cdef Box* owner
    cdef uint8_t* room
    cdef size_t first, index
    start_walk(&m.memory, args, &walk)
    for index in range(3):
        given[index].kind = UNSET
        node = step(&m.memory, &walk) if index < args.count else NULL
        if node != NULL:
            given[index] = node[0]
    if given[0].kind != SYMBOL:
        return 0
    if helper == RECONSTRUCTOR:
        if args.count != 3 or given[1].kind != SYMBOL:
            return 0
        callee[0] = given[0]
        has_kwargs[0] = False
        owner = m.memory.boxes + given[1].value.box
        if owner.known == BARE_OBJECT:
            memset(args, 0, sizeof(Chain))
        elif owner.known == BARE_TUPLE and given[2].kind == TUPLE:
            args[0] = m.memory.boxes[given[2].value.box].items
        else:
            if BASE_TEXT <= owner.known <= BASE_DICT:
                base[0] = owner.known
            memset(args, 0, sizeof(Chain))
            if not extend(&m.memory, args, &given[2], 1):
                return -1
        return 1
    if helper == NEW_OBJECT_EX:
        if args.count != 3 or given[1].kind != TUPLE or given[2].kind != DICT:
            return 0
        callee[0] = given[0]
        args[0] = m.memory.boxes[given[1].value.box].items
        has_kwargs[0] = True
        kwargs[0] = given[2]
        return 1
    if helper == NEW_OBJECT:
        base[0] = BASE_OF_NEW
        # The copy counts against the budget: one tuple can be the argument of any number of calls.
        m.containers_left -= args.count // 4
        callee[0] = given[0]
        has_kwargs[0] = False
        first = m.top
        start_walk(&m.memory, args, &walk)
        step(&m.memory, &walk)
        for index in range(1, args.count):
            node = push(m, NONE)
            if node == NULL:
                return -1
            node[0] = step(&m.memory, &walk)[0]
        memset(args, 0, sizeof(Chain))
        if not extend(&m.memory, args, m.memory.stack + first, m.top - first):
            return -1
        m.top = first
        return 1
    if args.count != 2 or given[1].kind != TEXT:
        return 0
    owner = m.memory.boxes + given[0].value.box
    if not is_name(&given[1]) or owner.name.size + given[1].size >= MAX_NAME:
        return -1
    room = keep_text(&m.memory, owner.name.size + 1 + given[1].size)
    if room == NULL:
        return -1
    name = owner.name
    memcpy(room, name.value.text, name.size)
    room[name.size] = 46
    memcpy(room + name.size + 1, given[1].value.text, given[1].size)
    name.value.text = room
    name.size += 1 + given[1].size
    name.look = look_at(room, name.size)
    return 2 if new_symbol(m, owner.module, name) else -1


cdef bint rarest(Machine* m, uint8_t opcode) noexcept nogil:
    """Do an opcode of names and calls. Return False for one that refers outside the record, and for an unknown one."""
    cdef Node callee, args, kwargs, name
    cdef Node* target
    cdef Box* box
    cdef size_t first = 0
    cdef Chain chain
    memset(&kwargs, 0, sizeof(Node))
    memset(&chain, 0, sizeof(Chain))
    if opcode == 0x63:  # GLOBAL
        if not take_name(m, &callee) or not take_name(m, &name):
            return False
        return new_symbol(m, callee, name) and push_last_box(m, SYMBOL)
    if opcode == 0x93:  # STACK_GLOBAL
        if not has(m, 2):
            return False
        m.top -= 2
        callee = m.memory.stack[m.top]
        name = m.memory.stack[m.top + 1]
        if not is_name(&callee) or not is_name(&name):
            return False
        return new_symbol(m, callee, name) and push_last_box(m, SYMBOL)
    if opcode == 0x52 or opcode == 0x81:  # REDUCE, NEWOBJ
        if not has(m, 2):
            return False
        m.top -= 2
        callee = m.memory.stack[m.top]
        args = m.memory.stack[m.top + 1]
        if args.kind != TUPLE or not push_call(m, callee, m.memory.boxes[args.value.box].items, False, kwargs):
            return False
        if opcode == 0x81 and m.memory.stack[m.top - 1].kind == OBJECT:
            last_box(m).known = BASE_OF_NEW
        return True
    if opcode == 0x92:  # NEWOBJ_EX
        if not has(m, 3):
            return False
        m.top -= 3
        callee = m.memory.stack[m.top]
        args = m.memory.stack[m.top + 1]
        kwargs = m.memory.stack[m.top + 2]
        if args.kind != TUPLE or kwargs.kind != DICT:
            return False
        return push_call(m, callee, m.memory.boxes[args.value.box].items, True, kwargs)
    if opcode == 0x6F:  # OBJ
        if not pop_mark(m, &first) or first == m.top:
            return False
        callee = m.memory.stack[first]
        if not extend(&m.memory, &chain, m.memory.stack + first + 1, m.top - first - 1):
            return False
        m.top = first
        return push_call(m, callee, chain, False, kwargs)
    if opcode == 0x69:  # INST
        if not take_name(m, &callee) or not take_name(m, &name) or not new_symbol(m, callee, name):
            return False
        callee.kind = SYMBOL
        callee.value.box = m.memory.boxes_size - 1
        if not pop_mark(m, &first) or not extend(&m.memory, &chain, m.memory.stack + first, m.top - first):
            return False
        m.top = first
        return push_call(m, callee, chain, False, kwargs)
    if opcode == 0x62:  # BUILD
        if not has(m, 2):
            return False
        target = m.memory.stack + m.top - 2
        if target.kind != OBJECT:
            return False
        box = m.memory.boxes + target.value.box
        if box.has_state:
            return False
        box.has_state = True
        box.state = m.memory.stack[m.top - 1]
        m.top -= 1
        return True
    return False
