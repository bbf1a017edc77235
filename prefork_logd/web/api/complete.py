"""Answers how a query can go on at the caret: fields that records have, and values of a field.

Owns which ways are offered, and remembers the answers of the store for a moment, as somebody types. Does not know where
the caret stands (query/completion.py).
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.query.completion import find_place, short_field, written_value
from prefork_logd.query.conditions import SHORT_NAMES
from prefork_logd.query.language import parse_field
from prefork_logd.query.long_values import MOST_CHARACTERS
from prefork_logd.query.tree import Compare, all_of, any_of
from prefork_logd.records.levels import LEVELS
from prefork_logd.web.api.analysis import FIELD_RECORDS
from prefork_logd.web.api.answers import Completion, Item
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import DEADLINE, SINCE, STORE, UNTIL, ZONE, Parameter, make_filters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prefork_logd.query.completion import Place
    from prefork_logd.query.filters import Filters
    from prefork_logd.web.search_pool import Lease

MOST_ITEMS = 20
MOST_RECORDS = 100_000
"""Records that are looked at for values."""
TOP = 500
"""Values of a field that are remembered."""
REMEMBERED = 200
"""Fields whose values are remembered."""
REMEMBERED_S = 30.0
_SHORT = ("level", "logger", "exc", "stack", "time")
_KEYWORDS = ("AND", "OR", "NOT")

TEXT = Parameter(name="q", meaning="Text of the query that is being written.", default="")
POSITION = Parameter(
    name="position",
    meaning="Characters (code points) before the caret; else it stands at the end.",
    kind="whole number",
    most=16_384,
)


class _Candidate(NamedTuple):
    """Something that may stand in a query."""

    text: str
    """The text that is compared with what is written."""
    written: str
    """The text as it stands in a query."""
    count: int | None = None  # type: ignore[assignment]  # hides tuple.count, which is not used here


class _Memory:
    """Candidates of the last fields, for a moment."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, tuple[float, list[_Candidate]]] = OrderedDict()

    def get(self, key: Any) -> list[_Candidate] | None:
        """Return what is remembered; None if there is nothing, or it is too old."""
        at_s, found = self._known.get(key, (float("-inf"), []))
        return found if time.monotonic() < at_s + REMEMBERED_S else None

    def put(self, key: Any, found: list[_Candidate]) -> None:
        """Remember candidates, and forget the oldest ones."""
        self._known[key] = time.monotonic(), found
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


async def complete(asked: Asked) -> Completion:
    """Return ways to go on at the caret."""
    text, position = asked.values["q"], asked.values["position"]
    place = find_place(text, len(text) if position is None else position)
    if place.kind == "value":
        found = await _values(asked, place)
        return _completion(place, [Item(one.written, "value", one.count) for one in _fitting(found, place.written)])
    fields = await _candidates(asked, "", _fields)
    sign = "" if place.has_operator else ":"
    items = [Item(f"{one.written}{sign}", "field", one.count) for one in _fitting(fields, place.written)]
    if place.written.isupper() and not place.has_operator:
        items += [Item(word, "operator", None) for word in _KEYWORDS if word.startswith(place.written)]
    return _completion(place, items)


def _completion(place: Place, items: list[Item]) -> Completion:
    return Completion(place.start, place.stop, items[:MOST_ITEMS])


def _fitting(candidates: Iterable[_Candidate], written: str) -> list[_Candidate]:
    """Return the candidates that begin with the written text, then those that contain it; whatever the case."""
    wanted = written.casefold()
    begin, contain = [], []
    for one in candidates:
        text = one.text.casefold()
        if text.startswith(wanted) or text.removeprefix("extra.").startswith(wanted):
            begin.append(one)
        elif wanted in text:
            contain.append(one)
    return [*begin, *contain][:MOST_ITEMS]


async def _candidates(
    asked: Asked, field: str, read: Callable[[Asked, Lease, str], Iterable[_Candidate]]
) -> list[_Candidate]:
    """Return the result of `read` for this field, the range of time and the bounds; remembered for a moment.

    Without a field the candidates are fields.
    """
    memory = _memory(asked)
    names = ("store", "since", "until", "tz")
    key = (field, *(asked.values[name] for name in names), repr(asked.bounds))
    found = memory.get(key)
    if found is None:
        most = MOST_RECORDS if field else FIELD_RECORDS
        found = await asked.search(lambda lease: [*read(asked, lease, field)], most)
        memory.put(key, found)
    return found


def _memory(asked: Asked) -> _Memory:
    state = asked.request.app.state
    if not hasattr(state, "completions"):
        state.completions = _Memory()
    memory: _Memory = state.completions
    return memory


def _filters(asked: Asked, lease: Lease) -> Filters:
    """Return the filters of the range of time and the bounds."""
    return make_filters({**asked.values, "q": ""}, lambda: lease.search().levels(), asked.bounds)


def _fields(asked: Asked, lease: Lease, _: str) -> Iterator[_Candidate]:
    found = lease.search().fields(_filters(asked, lease))
    for short in _SHORT:
        yield _Candidate(short, short)
    for one in found.fields:
        if one.field not in SHORT_NAMES:
            yield _Candidate(one.field, short_field(one.field), one.records)


async def _values(asked: Asked, place: Place) -> list[_Candidate]:
    try:
        parse_field(place.field)
    except ValueError:
        return []
    if place.field == "level":
        return await _candidates(asked, "levelname", _level_names)
    found = await _candidates(asked, place.field, _facet)
    if place.written and len(_fitting(found, place.written)) < min(MOST_ITEMS, len(found)) and len(found) >= TOP:
        return await asked.search(lambda lease: [*_facet(asked, lease, place.field, place.written)], MOST_RECORDS)
    return found


def _facet(asked: Asked, lease: Lease, field: str, prefix: str = "") -> Iterator[_Candidate]:
    """Yield the most frequent values of a field, those that begin so."""
    parsed = parse_field(field)
    filters = _filters(asked, lease)
    if prefix:
        begins = any_of(Compare(path, "^=", prefix) for path in parsed.paths)
        filters = replace(filters, tree=all_of((filters.tree, begins)))
    facet = lease.search().facets(filters, [parsed], TOP).facets[0]
    counts: Counter[str] = Counter()
    for value, count in facet.values:
        if field == "logger" and isinstance(value, str):
            # A logger stands for its children, too.
            parts = value.split(".")
            counts.update({".".join(parts[:end]): count for end in range(1, len(parts) + 1)})
        elif len(str(value)) <= MOST_CHARACTERS and (written := written_value(value)) is not None:
            yield _Candidate(value if isinstance(value, str) else written, written, count)
    for name, count in counts.most_common():
        if (written := written_value(name)) is not None:
            yield _Candidate(name, written, count)


def _level_names(asked: Asked, lease: Lease, field: str) -> Iterator[_Candidate]:
    """Yield the names of levels that records carry, then the other known ones."""
    found = [*_facet(asked, lease, field)]
    yield from found
    seen = {one.text for one in found}
    for name in LEVELS:
        if name not in seen:
            yield _Candidate(name, name)


CALLS = (
    Call(
        path="/complete",
        summary="Offer ways to go on with a query at the caret.",
        handle=complete,
        answer=Completion,
        parameters=(TEXT, POSITION, SINCE, UNTIL, ZONE, STORE, DEADLINE),
    ),
)
