# Finds the secrets of a record: records/redaction.py in C.
#
# Owns the comparison of keys with patterns. Texts are only searched for the beginnings of secret forms: Python decides
# about a record with such a text, and replaces the secret.

cdef enum:
    MOST_PATTERNS = 64
    MOST_ALLOWED = 64
    PLAIN_KEY = 256          # Python decides about longer keys
    VERDICTS = 256
    VERDICT_BYTES = 48       # the verdicts on longer keys are not kept
    MOST_PREFIXES = 64       # of tokens of providers

cdef enum Form:
    BEARER = 1
    CARD = 2
    JWT = 4
    URL_PASSWORD = 8
    KEY_VALUE = 16
    PRIVATE_KEY = 32
    PROVIDER_TOKEN = 64
    OF_WORDS = 31            # those of which each octet of a text is looked at

cdef struct Pattern:
    const uint8_t* text
    size_t size
    bint before              # whether anything may stand before it
    bint behind

cdef struct Prefix:
    const uint8_t* text
    size_t size
    size_t anchor            # index of its octet that ANCHORS has
    size_t least             # number of octets that follow it
    int next                 # index of the next one with the same octet before the anchor; -1: there is none

cdef struct Verdict:
    uint32_t size            # of the key; 0: the place is empty
    bint is_secret
    uint8_t[VERDICT_BYTES] text

cdef enum:
    FLAT_KEYS = 1024         # most keys of the tree (flat.pxi)

cdef uint64_t tree_number = 1    # number of the present tree of keys
cdef uint32_t secrets_number = 0 # number of the latest Secrets


cdef struct Secrets:
    size_t patterns_count
    size_t allowed_count
    int forms
    bint has_pattern_of_digits             # whether the text of a UUID or of a time may fit a pattern
    uint32_t number                        # different for each of them
    size_t shortest                        # octets of the shortest text that may have a form
    size_t prefixes_count
    Prefix[MOST_PREFIXES] prefixes
    int16_t[256] before_anchor             # index of the first prefix with this octet before its anchor, plus one
    Pattern[MOST_PATTERNS] patterns
    Pattern[MOST_ALLOWED] allowed
    Verdict[VERDICTS] verdicts
    uint64_t tree                          # number of the tree of keys that `tagged` is about
    uint8_t[FLAT_KEYS] tagged              # verdict on each key of that tree, plus one; 0: not known yet

cdef extern from *:
    """
    /* Mark the octets of 16, one bit for each. */
    static inline uint32_t bits16(octets16_t marked) {
    #ifdef __SSE2__
        return __builtin_ia32_pmovmskb128((char __attribute__((vector_size(16)))) marked);
    #else
        uint32_t index, bits = 0;
        for (index = 0; index < 16; index++)
            bits |= (uint32_t)(marked[index] & 1) << index;
        return bits;
    #endif
    }

    /* Return the next 16 octets of a text, or those that are left. */
    static inline octets16_t next16(const uint8_t *text, size_t left) {
        octets16_t octets = {0};
        if (left >= 16)
            return load16(text);
        memcpy(&octets, text, left);
        return octets;
    }

    /* Return whether 64 octets have no dash. */
    static inline int no_dash64(const uint8_t *text) {
        return !any16((load16(text) == '-') | (load16(text + 16) == '-') | (load16(text + 32) == '-') | (load16(text + 48) == '-'));
    }

    /* Mark dashes beside another one. Of four, two stand beside each other within the same 16 octets. */
    static inline uint32_t dashes16(const uint8_t *text, size_t left) {
        uint32_t found = bits16(next16(text, left) == '-');
        return found & found >> 1;
    }

    /* Mark the octets of which each prefix of a token has one. */
    static inline uint32_t anchors16(const uint8_t *text, size_t left) {
        octets16_t octets = next16(text, left);
        return bits16((octets == '_') | (octets == '-') | (octets == '.') | (octets == 'I'));
    }
    """
    bint no_dash64(const uint8_t* text) noexcept nogil
    uint32_t dashes16(const uint8_t* text, size_t left) noexcept nogil
    uint32_t anchors16(const uint8_t* text, size_t left) noexcept nogil

cdef bytes ANCHORS = b"_-.I"

cdef const char* REDACTED = b'"<redacted>"'
cdef bint[256] OF_INTEREST       # octets at which may_have_form looks closer
cdef bint[256] IN_CARD           # octets of what may stand between the groups of a card's number
cdef uint8_t[256] PLAIN_OCTET    # the octet as it is compared; 0: it is passed over

for _octet in bytearray(b"0123456789 -e:@.+%\t=,<\"'\\\xc2\xa0\xe2\x80\x90\x91\x92\x93"):
    OF_INTEREST[_octet] = True
for _octet in bytearray(b" -.+%\xc2\xa0\xe2\x80\x90\x91\x92\x93"):
    IN_CARD[_octet] = True
for _octet in range(256):
    PLAIN_OCTET[_octet] = _octet if _octet >= 128 else ord(chr(_octet).lower()) if chr(_octet).isalnum() else 0


cdef bint has_inside(const uint8_t* text, size_t size, const uint8_t* wanted, size_t wanted_size) noexcept nogil:
    cdef size_t at
    if wanted_size > size:
        return False
    for at in range(size - wanted_size + 1):
        if text[at] == wanted[0] and memcmp(text + at, wanted, wanted_size) == 0:
            return True
    return False


cdef bint fits_pattern(const uint8_t* text, size_t size, const Pattern* pattern) noexcept nogil:
    if pattern.size > size:
        return False
    if pattern.before and pattern.behind:
        return has_inside(text, size, pattern.text, pattern.size)
    if not pattern.before and not pattern.behind and size != pattern.size:
        return False
    return memcmp(text + (size - pattern.size if pattern.before else 0), pattern.text, pattern.size) == 0


cdef inline void begin_tags(Secrets* secrets) noexcept nogil:
    """Prepare for a record. If the tree begins anew while it is read, its keys' tags are not used."""
    if secrets.tree != tree_number:
        secrets.tree = tree_number
        memset(secrets.tagged, 0, sizeof(secrets.tagged))


cdef bint is_invisible(const uint8_t* text, size_t size) noexcept nogil:
    """Tell whether a text begins with a character that is not compared (records/redacted.py, INVISIBLE)."""
    if size >= 2 and text[0] == 0xC2:
        return text[1] == 0xAD
    if size < 3:
        return False
    if text[0] == 0xE2:
        return (text[1] == 0x80 and 0x8B <= text[2] <= 0x8D) or (text[1] == 0x81 and text[2] == 0xA0)
    return text[0] == 0xEF and text[1] == 0xBB and text[2] == 0xBF


cdef int compare_key(const Secrets* secrets, const uint8_t* key, size_t size) noexcept nogil:
    """Return whether the value of a key is a secret; -1 if Python has to decide."""
    cdef uint8_t[PLAIN_KEY] plain
    cdef size_t index, unnumbered, count = 0
    if size > PLAIN_KEY or (size and key[size - 1] == 41):
        # Of `token (bytes)`, the later one of two equal keys, Python compares the part before the parenthesis.
        return -1
    for index in range(size):
        if key[index] >= 0xC2 and is_invisible(key + index, size - index):
            return -1
        plain[count] = PLAIN_OCTET[key[index]]
        count += plain[count] != 0
    for index in range(secrets.allowed_count):
        if secrets.allowed[index].size == count and memcmp(secrets.allowed[index].text, plain, count) == 0:
            return 0
    unnumbered = count
    while unnumbered and 48 <= plain[unnumbered - 1] <= 57:
        unnumbered -= 1
    for index in range(secrets.patterns_count):
        if fits_pattern(plain, count, &secrets.patterns[index]):
            return 1
        if unnumbered != count and fits_pattern(plain, unnumbered, &secrets.patterns[index]):
            return 1
    return 0


cdef inline int is_secret(Secrets* secrets, const Node* key) noexcept nogil:
    """Return whether the value of a key is a secret; -1 if Python has to decide.

    Verdicts are kept, as a service has few keys.
    """
    cdef int found
    cdef const uint8_t* text = key.value.text
    cdef bint has_tag = key.tag and secrets.tree == tree_number
    if has_tag and secrets.tagged[key.tag]:
        return secrets.tagged[key.tag] - 1
    if not secrets.patterns_count or not key.size:
        return 0
    if has_tag:
        found = compare_key(secrets, text, key.size)
        secrets.tagged[key.tag] = 1 + found
        return found
    return find_verdict(secrets, text, key.size)


cdef inline int find_verdict(Secrets* secrets, const uint8_t* key, size_t size) noexcept nogil:
    """Return what compare_key returns, for a key that is not empty; most verdicts are known."""
    cdef Verdict* verdict
    cdef int found
    if size > VERDICT_BYTES:
        return compare_key(secrets, key, size)
    verdict = &secrets.verdicts[(size * 23 + key[0] * 7 + key[size - 1] * 5 + key[size >> 1]) % VERDICTS]
    if verdict.size == size and memcmp(verdict.text, key, size) == 0:
        return verdict.is_secret
    found = compare_key(secrets, key, size)
    if found >= 0:
        verdict.size = size
        verdict.is_secret = found
        memcpy(verdict.text, key, size)
    return found


cdef inline bint is_value_key(const uint8_t* key, size_t size) noexcept nogil:
    """Tell whether a key is `value` in any case (records/redacted.py, VALUE_KEYS)."""
    return size == 5 and (key[0] | 32) == 118 and ends_with_word(key, size, b"value")


cdef inline bint is_name_key(const uint8_t* key, size_t size) noexcept nogil:
    """Tell whether the value of a key may name a secret that is beside it (records/redacted.py, NAME_KEYS)."""
    if size == 4:
        return (key[0] | 32) == 110 and ends_with_word(key, size, b"name")
    if size == 3:
        return (key[0] | 32) == 107 and ends_with_word(key, size, b"key")
    return size == 6 and (key[0] | 32) == 104 and ends_with_word(key, size, b"header")


cdef inline bint is_kept(const Node* value) noexcept nogil:
    """Tell whether a value is null, true or false, which are never secrets."""
    return value.kind == NONE or value.kind == BOOL


cdef inline bint may_be_card(int64_t number) noexcept nogil:
    """Tell whether an integer has the first digit and at least as many digits as the number of a card."""
    if number < 2000000000000LL:
        return False
    while number >= 10:
        number //= 10
    return 2 <= number <= 6


cdef inline bint may_have_form(const Secrets* secrets, const uint8_t* text, size_t size) noexcept nogil:
    """Tell whether a text may hold a secret of one of the forms, by beginnings that few texts have."""
    return size >= secrets.shortest and has_beginning(secrets, text, size)


cdef bint has_beginning(const Secrets* secrets, const uint8_t* text, size_t size) noexcept nogil:
    """Do what may_have_form does, for a text that is long enough."""
    if secrets.forms & PRIVATE_KEY and has_key_line(text, size):
        return True
    if secrets.forms & PROVIDER_TOKEN and has_prefix(secrets, text, size):
        return True
    if secrets.forms & KEY_VALUE and is_option(secrets, text, size):
        return True
    return secrets.forms & OF_WORDS and has_word(secrets, text, size)


cdef inline bint is_option(const Secrets* secrets, const uint8_t* text, size_t size) noexcept nogil:
    """Tell whether a text, with or without quotes, is `--` and the name of a secret: the next one of a list is its value."""
    cdef bint quoted = size > 0 and text[0] == 34
    return (
        size > 2 + <size_t> quoted and text[quoted] == 45 and text[quoted + 1] == 45
        and compare_key(secrets, text, size - (quoted and text[size - 1] == 34)) != 0
    )


cdef bint has_key_line(const uint8_t* text, size_t size) noexcept nogil:
    """Tell whether a text has dashes with BEGIN or END behind them, as the lines around a private key."""
    cdef size_t at = 0, stop
    cdef uint32_t found
    while at < size:
        if size - at >= 64 and no_dash64(text + at):
            at += 64
            continue
        found = dashes16(text + at, size - at)
        at += 16
        if not found:
            continue
        stop = at - 16 + <size_t> __builtin_ctz(found)
        while stop < size and text[stop] == 45:
            stop += 1
        # A blank may stand between, also a percent-encoded one.
        for at in range(stop, min(stop + 9, size)):
            if size - at >= 5 and (memcmp(text + at, b"BEGIN", 5) == 0 or memcmp(text + at, b"END", 3) == 0):
                return True
        at = stop
    return False


cdef bint has_prefix(const Secrets* secrets, const uint8_t* text, size_t size) noexcept nogil:
    """Tell whether a text has the prefix of a provider's tokens, and signs behind it."""
    cdef size_t at = 0, anchor
    cdef uint32_t found
    while at < size:
        found = anchors16(text + at, size - at)
        while found:
            anchor = at + <size_t> __builtin_ctz(found)
            found &= found - 1
            if anchor and secrets.before_anchor[text[anchor - 1]] and is_anchor(secrets, text, size, anchor):
                return True
        at += 16
    return False


cdef bint is_anchor(const Secrets* secrets, const uint8_t* text, size_t size, size_t anchor) noexcept nogil:
    """Tell whether an octet is the anchor of a prefix, with enough signs behind it."""
    cdef size_t start, end, before
    cdef const Prefix* prefix
    cdef int index = secrets.before_anchor[text[anchor - 1]] - 1
    while index >= 0:
        prefix = &secrets.prefixes[index]
        index = prefix.next
        if prefix.anchor > anchor:
            continue
        start = anchor - prefix.anchor
        if (
            text[start] != prefix.text[0] or size - start < prefix.size + prefix.least
            or memcmp(text + start, prefix.text, prefix.size) != 0
        ):
            continue
        # A letter or a digit before it may be a part of an escape.
        if start and is_word_octet(text[start - 1]):
            for before in range(start - min(start, <size_t> 6), start):
                if text[before] == 92 or text[before] == 37:
                    break
            else:
                continue
        end = start + prefix.size
        while end < size and (is_word_octet(text[end]) or text[end] in (45, 46, 95, 43, 47, 61)):
            end += 1
            if end - start == prefix.size + prefix.least:
                return True
    return False


cdef inline bint is_word_octet(uint8_t octet) noexcept nogil:
    """Tell whether an octet is a letter or a digit of ASCII."""
    return octet < 128 and PLAIN_OCTET[octet] != 0


cdef bint has_word(const Secrets* secrets, const uint8_t* text, size_t size) noexcept nogil:
    """Tell whether a text may hold a secret that is known by words, signs or digits."""
    cdef size_t at, digits = 0, gap = 0
    cdef uint8_t octet, before = 0
    cdef bint has_scheme = False, has_encoded_scheme = False
    cdef size_t after
    cdef int forms = secrets.forms
    for at in range(size):
        octet = text[at]
        if not OF_INTEREST[octet]:
            digits = 0
            continue
        before = text[at - 1] if at else 0
        if 48 <= octet <= 57:
            # A card number begins with one of a few digits, and no digit stands before it but those of `%20`.
            if digits or (50 <= octet <= 54 and (not 48 <= before <= 57 or (at >= 3 and text[at - 3] == 37))):
                digits += 1
                gap = 0
                if digits == 13 and forms & CARD:
                    return True
            continue
        gap += 1
        if gap > 3 or not IN_CARD[octet]:
            digits = 0
        if octet == 101:  # e
            if forms & JWT and size - at > 3 and text[at + 1] == 121 and text[at + 2] == 74:
                return True
            continue
        if octet == 58:  # :
            has_scheme = has_scheme or (size - at > 2 and (text[at + 1] == 92 or (text[at + 1] == 47 and text[at + 2] == 47)))
        elif octet == 64:  # @
            if has_scheme and forms & URL_PASSWORD:
                return True
            continue
        elif octet == 37 and forms & URL_PASSWORD:  # %
            after = at + 1
            while size - after >= 2 and text[after] == 50 and text[after + 1] == 53 and after - at < 7:
                after += 2
            if size - after >= 2 and text[after] == 52 and text[after + 1] == 48 and has_encoded_scheme:
                return True
            if size - after >= 3 and text[after] == 51 and (text[after + 1] | 32) == 97 and text[after + 2] == 37:
                has_encoded_scheme = True
        if forms & BEARER and at >= 5 and ((before | 32) == 114 or (before | 32) == 99):  # r, c
            if ends_with_word(text, at, b"bearer") or ends_with_word(text, at, b"basic"):
                return True
        if forms & KEY_VALUE and (octet == 58 or octet == 61 or octet == 37 or octet == 44):  # : = % ,
            if ends_with_secret(secrets, text, at, False):
                return True
            if (octet == 58 or octet == 61) and names_beside(secrets, text, size, at):
                return True
        elif forms & KEY_VALUE and (octet == 32 or octet == 9) and ends_with_secret(secrets, text, at, True):
            return True
        elif octet == 60 and forms & KEY_VALUE and closes_secret(secrets, text, size, at):  # <
            return True
    return False


cdef bint names_beside(const Secrets* secrets, const uint8_t* text, size_t size, size_t at) noexcept nogil:
    """Tell whether a secret's name is behind `at` and before it a word such as `name`, as in `"name": "token", "value": "x"`.
    """
    cdef size_t start, end = at, skipped = 0
    while end and skipped < 24 and text[end - 1] in (32, 9, 34, 39, 92):
        end -= 1
        skipped += 1
    start = end
    while start and end - start <= 6 and is_word_octet(text[start - 1]):
        start -= 1
    if not is_name_key(text + start, end - start):
        return False
    start = at
    skipped = 0
    while start < size and skipped < 24 and text[start] in (32, 9, 34, 39, 92, 58, 61, 62):
        start += 1
        skipped += 1
    # What marks a literal of Python, as in u'token'.
    for skipped in range(2):
        if size - start > 1 and text[start + 1] in (34, 39, 92) and (text[start] | 32) in (98, 102, 114, 117):
            start += 2
        elif size - start > 2 and text[start + 2] in (34, 39, 92) and (text[start] | 32) in (98, 102, 114, 117):
            start += 1
    while start < size and text[start] in (34, 39, 92):
        start += 1
    return begins_with_secret(secrets, text, size, start)


cdef bint closes_secret(const Secrets* secrets, const uint8_t* text, size_t size, size_t at) noexcept nogil:
    """Tell whether a text has, at `at`, the end of an element of XML with the name of a secret."""
    cdef size_t start = at + 1
    while start < size and text[start] == 92:
        start += 1
    if start == size or text[start] != 47:
        return False
    at = start + 1
    while at < size and (is_word_octet(text[at]) or text[at] in (45, 46, 95)):
        at += 1
    if at < size and text[at] == 58:
        start = at
    return begins_with_secret(secrets, text, size, start + 1)


cdef bint begins_with_secret(const Secrets* secrets, const uint8_t* text, size_t size, size_t start) noexcept nogil:
    """Tell whether a text has the name of a secret from `start` on."""
    cdef size_t end = start
    while end < size and end - start <= PLAIN_KEY and (is_word_octet(text[end]) or text[end] in (45, 46, 95)):
        end += 1
    if end < size and text[end] >= 128:
        # As in ends_with_secret.
        return True
    return end > start and compare_key(secrets, text + start, end - start) != 0


cdef bint ends_with_secret(const Secrets* secrets, const uint8_t* text, size_t end, bint is_flag) noexcept nogil:
    """Tell whether a text up to `end` ends with the name of a secret and no more than quotes, blanks and backslashes.

    `is_flag`: with a name after `--`.
    """
    cdef size_t start, skipped = 0
    cdef uint8_t octet
    if not is_flag:
        while end and skipped < 24 and text[end - 1] in (32, 9, 34, 39, 92):
            end -= 1
            skipped += 1
    start = end
    while start and end - start <= PLAIN_KEY:
        octet = text[start - 1]
        if octet >= 128:
            # Python knows which of these are letters.
            return True
        if not PLAIN_OCTET[octet] and octet not in (45, 46, 95):
            break
        start -= 1
    if start == end or (is_flag and (end - start < 3 or text[start] != 45 or text[start + 1] != 45)):
        return False
    return compare_key(secrets, text + start, end - start) != 0


cdef bint ends_with_word(const uint8_t* text, size_t end, const char* word) noexcept nogil:
    """Tell whether a text up to `end` ends with a word, which is given in lower case, in any case."""
    cdef size_t index, size = strlen(word)
    if size > end:
        return False
    for index in range(size):
        if (text[end - size + index] | 32) != <uint8_t> word[index]:
            return False
    return True
