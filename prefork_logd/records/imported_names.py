"""Maps the keys of another program's JSON to the fields of a record.

Owns the names, in their order of precedence, and the forms of whole objects (GELF, journald, docker, loguru). One pure
function, `adopt`, makes a record of an object. Nothing is lost: keys without a field go to `extra`, and so does the
original of a value that its field cannot hold exactly. Does not know JSON text, files or clocks.

Longer than other modules: a fifth of it is the tables of names.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.records.imported_values import level_of_name, level_of_number, name_of, read_time
from prefork_logd.records.record import DERIVED, INTEGER_FIELDS, TEXT_FIELDS, Record, make_record, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMES = (
    "created", "@timestamp", "timestamp", "ts", "time.timestamp", "time", "asctime", "datetime", "@t", "date",
    "__REALTIME_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP", "timeUnixNano", "observedTimeUnixNano",
)  # fmt: skip
MESSAGES = (
    "message", "msg", "event", "short_message", "MESSAGE", "@m", "renderedMessage", "@mt", "messageTemplate", "body",
    "body.stringValue", "textPayload", "jsonPayload.message", "log",
)  # fmt: skip
LEVEL_NAMES = (
    "levelname", "level", "severity", "log.level", "lvl", "level.name", "level_name", "loglevel", "severityText", "@l",
)  # fmt: skip
LEVEL_NUMBERS = (
    "level", "severity", "log.level", "lvl", "PRIORITY", "log.syslog.severity.code", "severityNumber"
)  # fmt: skip
LOGGERS = ("logger", "logger_name", "loggerName", "log.logger", "LOGGER", "channel", "SourceContext")
OTHERS: dict[str, tuple[str, ...]] = {
    "pathname": ("pathname", "file.path", "CODE_FILE", "code.filepath", "code.file.path", "file"),
    "filename": ("filename", "file.name", "log.origin.file.name"),
    "module": ("module",),
    "lineno": ("lineno", "line", "log.origin.file.line", "CODE_LINE", "code.lineno", "code.line.number"),
    "funcName": ("funcName", "func_name", "function", "log.origin.function", "func", "CODE_FUNC", "code.function"),
    "process": ("process", "process.id", "process.pid", "pid", "_PID"),
    "processName": ("processName", "process.name", "process_name", "PROCESS_NAME"),
    "thread": ("thread", "thread.id", "process.thread.id", "thread_id"),
    "threadName": ("threadName", "thread.name", "process.thread.name", "thread_name", "THREAD_NAME", "thread"),
    "taskName": ("taskName", "task_name"),
    "exc_text": (
        "exc_text", "error.stack_trace", "exception", "exc_info", "stack_trace", "stacktrace", "traceback",
        "err.stack", "error.stack", "@x", "EXCEPTION_TEXT",
    ),
    "stack_info": ("stack_info", "stack"),
}  # fmt: skip
"""The names for each field. A dot leads into an object, or is part of the key."""
SENDER: dict[str, tuple[str, ...]] = {
    "host": ("host", "host.name", "hostname", "_HOSTNAME"),
    "service": ("service", "service.name"),
    "environment": (
        "environment", "service.environment", "deployment.environment.name", "deployment.environment"
    ),
    "version": ("version", "service.version"),
}  # fmt: skip
"""The names for the fields about the sender, which are texts of at most MOST_SENDER_CHARS characters."""

_OURS = frozenset(Record.__struct_fields__)
MOST_SENDER_CHARS = 255
_LOG_RECORDS = frozenset({"levelno", "levelname", "funcName", "processName", "relativeCreated"})


def _index(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names by the key in lower case with which they may begin."""
    found: dict[str, list[str]] = {}
    for name in names:
        words = name.lower().split(".")
        for count in range(1, len(words) + 1):
            found.setdefault(".".join(words[:count]), []).append(name)
    return {key: tuple(names) for key, names in found.items()}


_FIELD_OF: dict[str, set[str]] = {}
for _field, _names in OTHERS.items():
    for _name in _names:
        _FIELD_OF.setdefault(_name, set()).add(_field)
_ALL_LOGGERS = ("name", *LOGGERS, "SYSLOG_IDENTIFIER")
_SENDER_NAMES = frozenset(name for names in SENDER.values() for name in names)
_NAMES_OF = _index(
    {
        *_SENDER_NAMES,
        *TIMES,
        *MESSAGES,
        *LEVEL_NAMES,
        *LEVEL_NUMBERS,
        *_ALL_LOGGERS,
        *_FIELD_OF,
        "levelno",
        "level.no",
        "time.repr",
    }
)


LEADING = frozenset(_NAMES_OF)
"""The keys, in lower case, that may be the name of a field, or the beginning of one."""


def leading_to_fields(keys: Iterable[str]) -> list[str]:
    """Return the keys that may be the name of a field, in any case, or the beginning of one."""
    return [key for key in keys if key.lower() in LEADING]


class Adopted(NamedTuple):
    """A record made of an object."""

    record: Record
    has_time: bool
    """Whether the object has a time; otherwise `created` is the time that was passed in."""
    has_level: bool


class _Rest:
    """The rest of an object after names are taken out of it. The object itself is not changed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.left = dict(document)
        self.names: set[str] = set()
        """The names that it may have; it has no key for others."""
        self._lower: dict[str, str] = {}
        for key in document:
            lower = key.lower()
            self._lower.setdefault(lower, key)
            self.names.update(_NAMES_OF.get(lower, ()))

    def find(self, name: str) -> tuple[Any, ...] | None:
        """Return the keys that lead to a name's value; None if there is none. Case counts if our own key is there."""
        if name not in self.names:
            return None
        key = name if name in self.left else self._lower.get(name.lower())
        if key is not None and key in self.left and (key == name or key not in _OURS):
            return (key,)
        if "." not in name:
            return None
        path: list[str] = []
        value: Any = self.left
        words = name.split(".")
        while words:
            if not isinstance(value, dict):
                return None
            # "log.origin" may be one key with an object as its value.
            for count in range(len(words), 0, -1):
                key = ".".join(words[:count])
                if key in value:
                    path.append(key)
                    value, words = value[key], words[count:]
                    break
            else:
                return None
        return tuple(path)

    def among(self, names: Iterable[str]) -> list[str]:
        """Return those of some names that may be in it."""
        return [name for name in names if name in self.names]

    def value(self, path: Iterable[str]) -> Any:
        value: Any = self.left
        for key in path:
            value = value[key]
        return value

    def take(self, path: tuple[str, ...]) -> Any:
        """Remove the value at a path and return it; remove objects that become empty, too."""
        *outer, last = path
        value, holders = self.left, [self.left]
        for key in outer:
            value[key] = dict(value[key])
            value = value[key]
            holders.append(value)
        taken = value.pop(last)
        for index in range(len(outer) - 1, -1, -1):
            if not holders[index + 1]:
                del holders[index][outer[index]]
        return taken


def adopt(document: dict[str, Any], now: float, beside: dict[str, Any] | None = None) -> Adopted | None:
    """Return the record of an object, at the time `now`; None if it has neither a message nor a time.

    The values are JSON's, with finite floats; text may hold lone surrogates. `beside` goes to `extra`, too.

    Each step takes names away from the one after it.
    """
    kept: dict[str, Any] = {}
    document, around = _unwrapped(document)
    rest = _Rest(document)
    created = _take_time(rest, kept)
    attributes = _take_level(rest, kept, document) | _take_names(rest)
    sender = _take_sender(rest)
    template = _take_template(rest)
    has_message = _take_message(rest, attributes)
    if not has_message and created is None:
        return None
    arrived = _take_received(rest)
    if created is not None:
        attributes["created"] = created
        if "created" in document:
            for name in DERIVED - {"message"}:
                rest.left.pop(name, None)
    peer = rest.left.pop("peer", "")
    peer_name = rest.left.pop("peer_name", None) if isinstance(rest.left.get("peer_name"), str) else None
    own = rest.left.pop("extra", {})
    received = arrived if arrived is not None else created if created is not None else now
    record = make_record(attributes, peer if isinstance(peer, str) else json.dumps(peer), received)
    record.extra = _merged(own, rest.left, kept, around, beside or {}, record.extra)
    record.msg = template
    record.peer_name = peer_name
    for name, text in sender.items():
        setattr(record, name, text)
    return Adopted(record, created is not None, record.levelno is not None)


def _merged(own: Any, *others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object `own`, or another value of this name, with the members of others beside it.

    A member whose key is taken gets a similar one, so that both are kept.
    """
    merged: dict[str, Any] = dict(own) if isinstance(own, dict) else {"extra": own}
    numbers = itertools.count(2)

    def free_key(key: str) -> str:
        for suffix in ("", "_", "__"):
            if key + suffix not in merged:
                return key + suffix
        # Each number is tried once, whatever keys a client sends, so that the work stays linear.
        return next(name for number in numbers if (name := f"{key}_{number}") not in merged)

    for more in others:
        for key, value in more.items():
            merged[free_key(key)] = value
    return merged


def _take_received(rest: _Rest) -> float | None:
    found = read_time(rest.left.get("received"))
    if found is None:
        return None
    del rest.left["received"]
    return found[0]


def _take_time(rest: _Rest, kept: dict[str, Any]) -> float | None:
    """Return the time of logging. Further times stay, except a `time` that is equal."""
    created = None
    for name in rest.among(TIMES):
        path = rest.find(name)
        if path is None:
            continue
        value = rest.value(path)
        found = read_time(value)
        if found is None:
            continue
        if created is None:
            created, is_whole = found
            rest.take(path)
            if not is_whole:
                kept[name] = value
            if name == "time.timestamp":
                repeated = rest.find("time.repr")
                if repeated:
                    rest.take(repeated)
        elif name == "time" and value == rfc3339(created):
            rest.take(path)
    return created


def _take_level(rest: _Rest, kept: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return `levelno` and `levelname`; a number on another scale is kept."""
    taken: dict[str, Any] = {}
    for name in ("levelno", "level.no"):
        path = rest.find(name)
        levelno = rest.take(path) if path is not None else None
        if levelno is not None:
            taken.setdefault("levelno", levelno)
    _take_level_name(rest, taken, known=True)
    for name in rest.among(LEVEL_NUMBERS):
        path = rest.find(name) if "levelno" not in taken else None
        number = _number(rest.value(path)) if path is not None else None
        if path is None or number is None:
            continue
        scale = _scale(name, document)
        levelno = level_of_number(number, scale)
        if levelno is None:
            continue
        taken["levelno"] = levelno
        called = name_of(taken["levelno"], number, scale)
        if called is not None:
            taken.setdefault("levelname", called)
        kept[name] = rest.take(path)
    # An unknown word may be a level of its own; it is used if no better one was found.
    _take_level_name(rest, taken, known=False)
    return taken


def _take_level_name(rest: _Rest, taken: dict[str, Any], *, known: bool) -> None:
    for name in rest.among(LEVEL_NAMES):
        path = rest.find(name) if "levelname" not in taken else None
        value = rest.value(path) if path is not None else None
        if path is None or not isinstance(value, str) or not value:
            continue
        # Beside a number, LogRecord's name of a level may be any text; elsewhere a numeral is the level itself.
        if _number(value) is not None and not (name == "levelname" and "levelno" in taken):
            continue
        levelno = level_of_name(value)
        if levelno is None and known and name != "levelname":
            continue
        taken["levelname"] = rest.take(path)
        if levelno is not None:
            taken.setdefault("levelno", levelno)


def _scale(name: str, document: dict[str, Any]) -> str:
    if name in {"PRIORITY", "log.syslog.severity.code"} or "short_message" in document:
        return "syslog"
    if name == "severityNumber":
        return "opentelemetry"
    return "node" if name == "level" and "pid" in document and "hostname" in document else "any"


def _number(value: Any) -> float | None:
    if isinstance(value, str) and len(value) <= 19 and value.strip().lstrip("-").isdigit() and value.isascii():
        return int(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _take_names(rest: _Rest) -> dict[str, Any]:
    """Return the logger, the place in the code, the process and the thread."""
    taken: dict[str, Any] = {}
    is_log_record = not rest.left.keys().isdisjoint(_LOG_RECORDS)
    loggers: tuple[str, ...] = ("name", *LOGGERS) if is_log_record else (*LOGGERS, "name")
    if "event" in rest.left and "message" not in rest.left:
        loggers = LOGGERS  # structlog: any `name` may be the caller's.
    for name in (*loggers, "SYSLOG_IDENTIFIER"):
        path = rest.find(name)
        if path is not None and (isinstance(rest.value(path), str) or name == "name"):
            taken["name"] = rest.take(path)
            break
    wanted: set[str] = set().union(*(_FIELD_OF.get(name, ()) for name in rest.names))
    for field in OTHERS if wanted else ():
        for name in OTHERS[field] if field in wanted else ():
            path = rest.find(name)
            if path is None:
                continue
            value = rest.value(path)
            number = _integer(value) if field in INTEGER_FIELDS else None
            if name == field:
                # Any value: `make_record` fits it. Objects, and a thread's name, have names below.
                if not isinstance(value, dict) and (field != "thread" or number is not None or value is None):
                    taken[field] = rest.take(path)
                    break
            elif number is not None or (field in TEXT_FIELDS and isinstance(value, str)):
                rest.take(path)
                taken[field] = value if number is None else number
                break
    return taken


def _take_sender(rest: _Rest) -> dict[str, str]:
    """Return the fields about the sender. GELF's `version` is the version of its own format."""
    taken: dict[str, str] = {}
    for field, names in SENDER.items() if not rest.names.isdisjoint(_SENDER_NAMES) else ():
        for name in names:
            path = rest.find(name)
            value = rest.value(path) if path is not None else None
            is_gelf = name == "version" and "short_message" in rest.left
            if path is not None and isinstance(value, str) and 0 < len(value) <= MOST_SENDER_CHARS and not is_gelf:
                taken[field] = rest.take(path)
                break
    return taken


def _take_template(rest: _Rest) -> str | None:
    """Return the template of a record that has a `message`, too, as this collector writes it."""
    if isinstance(rest.left.get("message"), str) and isinstance(rest.left.get("msg"), str):
        template: str = rest.left.pop("msg")
        return template or None
    return None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return number if isinstance(number, int) else None


def _take_message(rest: _Rest, attributes: dict[str, Any]) -> bool:
    for name in rest.among(MESSAGES):
        path = rest.find(name)
        if path is None or (name == "body" and isinstance(rest.value(path), dict)):
            continue
        message = rest.take(path)
        if name == "log" and isinstance(message, str):
            message = message.removesuffix("\n").removesuffix("\r")
        attributes["msg"] = message
        return True
    return False


# Forms of whole objects


def _unwrapped(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the object with the record's keys, and the keys around it."""
    inner = document.get("record")
    if isinstance(inner, dict) and "text" in document and {"message", "level"} <= inner.keys():  # loguru
        return _with_traceback(inner, document["text"]), {key: document[key] for key in document if key != "record"}
    if "short_message" in document:
        return _without_underscores(document), {}
    if "__REALTIME_TIMESTAMP" in document or "__CURSOR" in document:
        return {key: _octets(value) for key, value in document.items()}, {}
    return document, {}


def _with_traceback(record: dict[str, Any], text: Any) -> dict[str, Any]:
    """Return a record of loguru with its traceback, which is only in its text."""
    start = text.find("Traceback (most recent call last)") if isinstance(text, str) and record.get("exception") else -1
    return record if start < 0 or "exc_text" in record else {**record, "exc_text": text[start:].rstrip("\n")}


_TELLING = frozenset(name.lower() for name in (*MESSAGES, *TIMES) if "." not in name)


def docker_line(document: dict[str, Any]) -> str | None:
    """Return the line printed by a container, if the object is docker's and the line may be JSON."""
    line = document.get("log")
    return line if isinstance(line, str) and "stream" in document and line.startswith("{") else None


def is_telling(document: dict[str, Any]) -> bool:
    """Tell whether an object has a message or a time by name."""
    return any(name.lower() in _TELLING for name in document)


def _without_underscores(document: dict[str, Any]) -> dict[str, Any]:
    """Return a GELF message with its additional fields under their own names, and its traceback in the right field."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        name = key.removeprefix("_")
        found[key if name in document and name != key else name] = value
    if isinstance(found.get("facility"), str) and found.keys().isdisjoint(LOGGERS):
        found["logger"] = found.pop("facility")  # As graypy sends it.
    full = found.get("full_message")
    if isinstance(full, str) and "Traceback (most recent call last)" in full and "exc_text" not in found:
        found["exc_text"] = found.pop("full_message")
    elif full is not None and full == found["short_message"]:
        del found["full_message"]
    return found


def _octets(value: Any) -> Any:
    """Return a value of journald, which writes unprintable text as a list of octets."""
    if isinstance(value, list) and value:
        if all(type(item) is int and 0 <= item < 256 for item in value):
            return bytes(value).decode("utf-8", "surrogateescape")
        return [_octets(item) for item in value]
    return value
