"""Counts the errors of a batch by their groups, in memory.

Owns the reading of an error's line, and the memory of fingerprints that were computed. Does not know databases, or
which groups there are.

Most errors of a service come from few places. The fingerprint of a traceback is computed once for each text up to its
message, or for each value of our handler's data, and remembered for the latest ones. A batch has a bound of what is
computed, and of its groups: errors beyond it count together, so that a flood of distinct errors cannot make the shipper
lag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prefork_logd.query.fingerprints import ALGORITHMS, ERROR, fingerprint, form_of, key_of, kind_of, place_of
from prefork_logd.records.record import Created, Integer
from prefork_logd.records.stored import read_fields

if TYPE_CHECKING:
    from prefork_logd.stores.errors.splitting import Splits

MOST_REMEMBERED = 2_000
LONGEST_REMEMBERED = 16_384
"""Bytes of a traceback, or of the data of exceptions, that are remembered."""
MOST_GROUPS = 1_000
"""Groups that are told apart in a batch: each takes ten statements."""
MOST_READ = 8_000_000
"""Bytes that are read for fingerprints in a batch, in 0.2 to 0.3 s of CPU; each error counts ERROR_BYTES more."""
ERROR_BYTES = 250
LONGEST_MESSAGE, LONGEST_LINE = 2_000, 400_000
"""Bytes that count at most: no more is read of a message alone, or of a line with an exception."""
TOO_MANY = (key_of("g1", ("overflow", "\1")),)
"""Stands for the keys of errors beyond these bounds."""
MOST_FORMS = 20
"""Forms of messages that are told apart in a group; further ones are counted together, without a name."""
MOST_FORMS_COMPUTED = 1_000
"""Forms that are computed in a batch, in 20 ms of CPU; a message that came before has its form already."""
LONGEST_VALUE = 500
"""Characters of a message that its form depends on."""
OTHERS = ""
MOST_NAME = 200
"""Characters of a service, an environment, a version or a place that are kept."""
HOUR_S = 3600
_HEADER = "Traceback (most recent call last):\n"
_BEHIND_FRAMES = re.compile(r"\n(?!  |[ \t]*\n)")
_TYPE = re.compile(r"\n[\w.<>]{1,500}(?=:|\n|\Z)")
_NO_EXCEPTION = ("", "NoneType: None")
_OWN = b'"fingerprint":'
_NONE = msgspec.Raw()


class _Line(msgspec.Struct, gc=False):
    """The fields of a stored line that most errors need."""

    created: Created
    name: str = ""
    levelno: Integer = 0
    message: str = ""
    msg: str = ""
    module: str = ""
    lineno: Integer = 0
    exc_text: str = ""
    extra: msgspec.Raw = _NONE
    exception: msgspec.Raw = _NONE
    service: str = ""
    environment: str = ""
    version: str = ""


_decode = msgspec.json.Decoder(_Line).decode


class Sender(NamedTuple):
    """The senders of a group's errors, of one version of a service."""

    service: str
    environment: str
    version: str


class Sample(NamedTuple):
    """An error of a group."""

    number: int
    """The journal's number of the record."""
    created: float
    line: bytes


class Span(msgspec.Struct, gc=False):
    """How often and when something happened."""

    count: int
    first: float
    last: float

    def merge(self, other: Span) -> None:
        """Count those of another span."""
        self.count += other.count
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)


@dataclass
class Tally:
    """The errors of one group in a batch."""

    keys: tuple[str, ...]
    """The keys of the group, by each version of the algorithm, the oldest first."""
    span: Span
    first: Sample
    latest: Sample
    levelno: int
    """The highest level."""
    senders: dict[Sender, Span] = field(default_factory=dict)
    hours: dict[int, int] = field(default_factory=dict)
    """Number of errors by the hour in which they were logged, in hours since 1970."""
    variants: dict[str, Span] = field(default_factory=dict)
    """By the place in the code: the last part of the module's name, and the line."""
    forms: dict[str, Span] = field(default_factory=dict)
    """By the form of the message, with placeholders for its values; MOST_FORMS and OTHERS at most."""
    place_hours: dict[tuple[str, int], int] = field(default_factory=dict)
    place_senders: dict[tuple[str, Sender], Span] = field(default_factory=dict)
    place_forms: dict[tuple[str, str], Span] = field(default_factory=dict)

    def merge(self, other: Tally) -> None:
        """Count those of another tally."""
        self.span.merge(other.span)
        self.first, self.latest = min(self.first, other.first), max(self.latest, other.latest, key=_arrival)
        self.levelno = max(self.levelno, other.levelno)
        for sender, span in other.senders.items():
            _merge(self.senders, sender, span)
        for hour, count in other.hours.items():
            self.hours[hour] = self.hours.get(hour, 0) + count
        for place, span in other.variants.items():
            _merge(self.variants, place, span)
        for form, span in other.forms.items():
            _merge(self.forms, _kept_form(self.forms, form), span)
        for part, count in other.place_hours.items():
            self.place_hours[part] = self.place_hours.get(part, 0) + count
        for part_of, span in other.place_senders.items():
            _merge(self.place_senders, part_of, span)
        for form_of_place, span in other.place_forms.items():
            _merge(self.place_forms, form_of_place, span)


class _Known(NamedTuple):
    """What is remembered of a traceback."""

    keys: tuple[str, ...]
    place: str
    kind: str
    """The type of its exception; empty without one."""


class _Cell:
    """The errors of a batch with one place and sender, in one hour: all that counting one of them changes."""

    __slots__ = (
        "count", "first", "first_seen", "forms", "keys", "last_seen", "latest_line", "latest_number", "levelno",
        "parts",
    )  # fmt: skip

    def __init__(self, keys: tuple[str, ...], parts: tuple[Sender, int, str], sample: Sample, levelno: int) -> None:
        self.keys, self.parts = keys, parts
        self.count = 0
        self.first = sample
        self.first_seen = self.last_seen = sample.created
        self.latest_number, self.latest_line = sample.number, sample.line
        self.levelno = levelno
        self.forms: dict[str, Span] = {}

    def add(self, number: int, created: float, line: bytes, levelno: int, form: str) -> None:
        """Count an error."""
        self.count += 1
        if created >= self.last_seen:
            self.last_seen, self.latest_number, self.latest_line = created, number, line
        elif created < self.first_seen:
            self.first_seen = created
        self.levelno = max(self.levelno, levelno)
        form = _kept_form(self.forms, form)
        span = self.forms.get(form)
        if span is None:
            self.forms[form] = Span(1, created, created)
        else:
            span.count += 1
            span.first, span.last = min(span.first, created), max(span.last, created)

    def tally(self) -> Tally:
        """Return the same as a tally."""
        sender, hour, place = self.parts
        spans = [Span(self.count, self.first_seen, self.last_seen) for _ in range(4)]
        latest = Sample(self.latest_number, self.last_seen, self.latest_line)
        parts = {sender: spans[1]}, {hour: self.count}, {place: spans[2]}, self.forms
        forms = {(place, form): Span(span.count, span.first, span.last) for form, span in self.forms.items()}
        of_places = {(place, hour): self.count}, {(place, sender): spans[3]}, forms
        return Tally(self.keys, spans[0], self.first, latest, self.levelno, *parts, *of_places)


class Counter:
    """Counts errors; its memory of fingerprints lasts over batches."""

    def __init__(self) -> None:
        self._known: dict[bytes | str, _Known] = {}
        self._forms: dict[tuple[str, str], str] = {}
        self.begin_batch()

    def begin_batch(self, splits: Splits | None = None) -> None:
        """Forget the tallies of the last batch; errors that are split off count in their own group."""
        self._cells: list[_Cell] = []
        self._found: dict[tuple[_Known, str, str, str, int], _Cell] = {}
        self._groups: set[tuple[str, ...]] = set()
        self._left = MOST_READ
        self._forms_left = MOST_FORMS_COMPUTED
        self._splits: Splits = splits or {}

    def add(self, number: int, line: bytes) -> None:
        """Count a record if it is an error. Raises NotARecord."""
        try:
            one = _decode(line)
        except (ValueError, RecursionError):
            one = _from_fields(read_fields(line))
        if one.levelno < ERROR and one.exc_text in _NO_EXCEPTION and len(one.exception) <= 2:
            return
        known = self._identify(one, line)
        name = (known, one.service, one.environment, one.version, int(one.created // HOUR_S))
        cell = self._found.get(name) or self._cell(name, Sample(number, one.created, line), one.levelno)
        if cell is not None:
            cell.add(number, one.created, line, one.levelno, self._form(one, known))

    def _cell(self, name: tuple[_Known, str, str, str, int], sample: Sample, levelno: int) -> _Cell | None:
        """Return the cell of an error that has none yet; None if it has no fingerprint."""
        (keys, place, _), service, environment, version, hour = name
        if not keys:
            return None
        if self._splits and (own := self._splits.get(keys[0], {}).get(place)):
            keys = (own,)
        if keys not in self._groups:
            if len(self._groups) >= MOST_GROUPS and keys != TOO_MANY:
                unknown = (_UNKNOWN, *name[1:])
                cell = self._found.get(unknown) or self._cell(unknown, sample, levelno)
                if cell is not None:
                    self._found[name] = cell
                return cell
            self._groups.add(keys)
        sender = Sender(service[:MOST_NAME], environment[:MOST_NAME], version[:MOST_NAME])
        cell = self._found[name] = _Cell(keys, (sender, hour, place), sample, levelno)
        self._cells.append(cell)
        return cell

    def tallies(self) -> dict[tuple[str, ...], Tally]:
        """Return the errors of the batch by the keys of their groups, in the order in which these occurred first."""
        found: dict[tuple[str, ...], Tally] = {}
        for cell in self._cells:
            tally = cell.tally()
            if cell.keys in found:
                found[cell.keys].merge(tally)
            else:
                found[cell.keys] = tally
        return found

    def _form(self, one: _Line, known: _Known) -> str:
        """Return the form of an error's message; OTHERS if too many were computed in this batch."""
        if known is _UNKNOWN:
            return OTHERS
        raw = known.kind, _value(one, known.kind)
        form = self._forms.get(raw)
        if form is None:
            if not self._forms_left:
                return OTHERS
            self._forms_left -= 1
            form = self._forms[raw] = form_of(*raw)
            if len(self._forms) > MOST_REMEMBERED:
                del self._forms[next(iter(self._forms))]
        return form

    def _identify(self, one: _Line, line: bytes) -> _Known:
        signature = None if _OWN in bytes(one.extra) else _signature(one)
        if signature is None:
            return self._compute(one, line)
        known = self._known.pop(signature, None) or self._compute(one, line)
        if known is _UNKNOWN:
            return known
        self._known[signature] = known
        if len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        return known

    def _compute(self, one: _Line, line: bytes) -> _Known:
        record = _as_message(one)
        cost = min(len(line), LONGEST_LINE) if record is None else min(len(one.message), LONGEST_MESSAGE)
        if self._left < cost + ERROR_BYTES:
            return _UNKNOWN
        self._left -= cost + ERROR_BYTES
        if record is None:
            record = read_fields(line)
        keys = tuple(key for version in ALGORITHMS if (key := fingerprint(record, version)) is not None)
        return _Known(keys, place_of(record)[:MOST_NAME], kind_of(record))


_UNKNOWN = _Known(TOO_MANY, "", "")


def _value(one: _Line, kind: str) -> str:
    """Return the first line of the message of an error, or of its exception: behind the last name of its type."""
    text, at = one.message, 0
    if kind:
        text = one.exc_text
        at = text.rfind(f"{kind}: ") + len(kind) + 2
        if at < len(kind) + 2:
            return ""
    end = text.find("\n", at)
    return text[at : min(end if end >= 0 else len(text), at + LONGEST_VALUE)]


def _kept_form(forms: dict[str, Span], form: str) -> str:
    return form if form in forms or len(forms) < MOST_FORMS else OTHERS


def _as_message(one: _Line) -> dict[str, Any] | None:
    """Return the fields that the key of a message depends on; None if an exception, or the sender, decides."""
    if one.exc_text in _NO_EXCEPTION and len(one.exception) <= 2 and _OWN not in bytes(one.extra):
        names = ("levelno", "name", "message", "msg", "module", "lineno")
        return {name: getattr(one, name) for name in names}
    return None


def _signature(one: _Line) -> bytes | str | None:
    """Return the part of an exception that its fingerprint and its place depend on; None: it is not remembered."""
    if len(one.exception) > 2:
        return bytes(one.exception) if len(one.exception) <= LONGEST_REMEMBERED else None
    text = one.exc_text
    if one.msg and text in _NO_EXCEPTION:
        return f"{one.name}\0{one.module}\0{one.lineno}\0{one.msg[:LONGEST_REMEMBERED]}"
    if not text.startswith(_HEADER) or "\n\n" in text:
        return None  # a chain, a group, or a message of several paragraphs
    behind = _BEHIND_FRAMES.search(text, len(_HEADER) - 1)
    end = _TYPE.match(text, behind.start()) if behind is not None else None
    return text[: end.end()] if end is not None and end.end() <= LONGEST_REMEMBERED else None


def _from_fields(record: dict[str, Any]) -> _Line:
    """Return a line with values that msgspec refuses, such as lone surrogates."""
    values = {name: record[name] for name in _Line.__struct_fields__ if name in record}
    # Raw values that only say that there are some: the whole line is read for the fingerprint.
    if "exception" in values:
        values["exception"] = msgspec.Raw(b"[{}]")
    return _Line(**values | {"extra": msgspec.Raw(_OWN)})


def _arrival(sample: Sample) -> tuple[float, int]:
    return sample.created, sample.number


def _merge(spans: dict[Any, Span], key: Any, span: Span) -> None:
    if key in spans:
        spans[key].merge(span)
    else:
        spans[key] = span
