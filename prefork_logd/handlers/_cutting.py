"""Cuts a record that is too large: each value gets its share of the room, and a mark names each cut.

Knows nothing of classes: the values are plain data.
"""
from __future__ import absolute_import, division

from ._compat import PY2, TEXT, text_of
from ._messages import OWN_ATTRIBUTES
from ._pickler import dump_plain
from ._usual import PLAIN_KINDS
from ._values import MOST_PATHS, MOST_VALUES, REST

TRUNCATED = "prefork_logd.truncated"
"""The attribute with the paths of what was cut; the collector stores it as the field `truncated`."""
_MEASURE = 2 if PY2 else 3
"""Protocol without frames, in which a value takes what it takes in a record, and _FRAME bytes more."""
_FRAME = 3
_MARK = 64
_MARKS = 4096
_LEAST = 256
_TRACEBACK_HEAD = 0.25
_INTEGERS = (int, type(1 << 64))
_MOST_BITS = 4096
"""To make the text of a longer integer takes the square of its length; newer Pythons refuse it."""
_FIELDS = {
    "msg": u"message",
    "exc_text": u"exc_text",
    "stack_info": u"stack_info",
    "prefork_logd.msg": u"msg",
    "prefork_logd.exception": u"exception",
}
"""Attributes that are fields of a record, and their names there; others are in its `extra`."""
_KEPT = ("name", "levelno", "levelname", "created", "process")


def add_truncated(attributes, paths):
    """Add paths to those of the record: as many as the collector keeps, and then a mark."""
    known = attributes.get(TRUNCATED)
    known = known[:] if isinstance(known, list) else []
    for path in paths:
        if len(known) > MOST_PATHS:
            break
        if path not in known:
            known.append(path if len(known) < MOST_PATHS else REST)
    attributes[TRUNCATED] = known


def cut_record(attributes, max_bytes, protocol):
    """Return a pickle of at most max_bytes, with the largest values cut. Changes `attributes`. Raises nothing."""
    room = max_bytes - _MARKS if max_bytes > 2 * _MARKS else max_bytes // 2
    _drop_attributes(attributes)
    for _ in range(3):
        sizes = dict((name, _size(value)) for name, value in attributes.items() if name != TRUNCATED)
        share = _share(sizes, room - sum(len(text_of(name)) + 4 for name in sizes))
        large = [name for name, size in sizes.items() if size > share]
        for name in large:
            attributes[name] = _cut(attributes[name], max(share, _LEAST), name)
        add_truncated(attributes, [_FIELDS.get(name) or u"extra." + text_of(name)[:_LEAST] for name in large])
        data = dump_plain(attributes, protocol)
        if len(data) <= max_bytes:
            return data
        room = room * 3 // 4
    kept = dict((name, attributes.get(name)) for name in _KEPT)
    kept["msg"] = u"(a record of more than %d bytes, too many values to keep)" % max_bytes
    kept[TRUNCATED] = [u"extra"]
    return dump_plain(kept, protocol)


def _drop_attributes(attributes):
    """Keep the first MOST_VALUES of a record's additional attributes, and count the others."""
    if len(attributes) <= MOST_VALUES:
        return
    more = [name for name in attributes if name not in OWN_ATTRIBUTES and name not in _FIELDS and name != TRUNCATED]
    for name in more[MOST_VALUES:]:
        del attributes[name]
    if len(more) > MOST_VALUES:
        attributes[REST] = len(more) - MOST_VALUES
        add_truncated(attributes, [u"extra"])


def _size(value):
    return len(dump_plain(value, _MEASURE)) - _FRAME


def _share(sizes, room):
    """Return how many bytes the largest values may have each, so that all others are kept as they are."""
    left = len(sizes)
    for size in sorted(sizes.values()):
        if size * left > room:
            return room // left
        room -= size
        left -= 1
    return room


def _cut(value, room, name=None):
    """Return a value that takes about `room` bytes: the head and tail of a text, the first values of others."""
    if isinstance(value, (TEXT, bytes)):
        return _cut_text(value, room, _TRACEBACK_HEAD if name == "exc_text" else 0.5)
    if isinstance(value, dict):
        return _cut_object(value, room - _MARK)
    if type(value) not in PLAIN_KINDS:
        return _cut_items(list(value), room - _MARK)
    if isinstance(value, _INTEGERS) and value.bit_length() > _MOST_BITS:
        return u"(an integer of %d bits)" % value.bit_length()
    return _cut_text(text_of(value), room, 0.5)


def _cut_text(text, room, head_share):
    is_text = isinstance(text, TEXT)
    data = text.encode("utf-8", "replace" if PY2 else "surrogatepass") if is_text else text
    if len(data) <= room:
        return text
    kept = max(room - _MARK, 0)
    head = int(kept * head_share)
    head, tail = data[:head], data[len(data) - (kept - head) :]
    if not is_text:
        return head + ("... (%d bytes cut) ..." % (len(data) - kept)).encode("ascii") + tail
    head, tail = _decode(head), _decode(tail)
    return u"%s... (%d characters cut) ...%s" % (head, len(text) - len(head) - len(tail), tail)


def _decode(data):
    """Return UTF-8 as text, without the pieces of characters at its ends; lone surrogates stay."""
    if PY2:
        return data.decode("utf-8", "ignore")
    while data and data[0] & 0xC0 == 0x80:
        data = data[1:]
    for end in range(4):
        try:
            return data[: len(data) - end].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "ignore")


def _cut_items(items, room):
    """Return the first items, and how many are missing: those that were left out before count, too."""
    missing = 0
    if items and isinstance(items[-1], dict) and list(items[-1]) == [REST]:
        missing = items.pop()[REST]
    result = []
    for item in items:
        size = _size(item)
        if size > room:
            if not result or room > _LEAST:
                result.append(_cut(item, max(room, _LEAST)))
            break
        result.append(item)
        room -= size
    missing += len(items) - len(result)
    if missing:
        result.append({REST: missing})
    return result


def _cut_object(values, room):
    """As `_cut_items`, of keys with their values."""
    values = dict(values)
    missing = values.pop(REST, 0)
    result, left = {}, len(values)
    for key, value in values.items():
        size = _size(key) + _size(value)
        if size <= room:
            result[key] = value
            room -= size
            left -= 1
        elif room > _LEAST:
            result[key] = _cut(value, max(room // 2, _LEAST))
            room -= min(room, _size(result[key]))
            left -= 1
        if room <= 0:
            break
    if left or missing:
        result[REST] = left + missing if isinstance(missing, int) else left
    return result
