"""Counting the errors of a batch."""

from __future__ import annotations

import json

import pytest

from prefork_logd.errors import NotARecord
from prefork_logd.query.fingerprints import fingerprint, summary_of
from prefork_logd.stores.errors import tally
from prefork_logd.stores.errors.tally import Counter, Sender
from tests.support.searching import make_lines
from tests.support.stores import NOW, line
from tests.support.tracebacks import corpus

TRACE = 'Traceback (most recent call last):\n  File "/srv/shop/cart.py", line 9, in add\n    x()\nShopError: {}'


def error(number: int, **fields: object) -> bytes:
    """Return the line of an error of one place."""
    given = {"levelno": 40, "msg": f"order {number} failed", "module": "cart", "lineno": 9, "created": NOW + number}
    return line(**given | fields)  # type: ignore[arg-type]


def test_one_group_of_a_batch() -> None:
    """Counts, times, senders, hours, places and samples."""
    counter = Counter()
    for number in (5, 3, 9, 3600):
        counter.add(100 + number, error(number, levelno=50 if number == 9 else 40))
    (found,) = counter.tallies().values()
    assert (found.span.count, found.span.first, found.span.last) == (4, NOW + 3, NOW + 3600)
    assert (found.first.number, found.latest.number, found.levelno) == (105, 3700, 50)
    assert {sender: span.count for sender, span in found.senders.items()} == {Sender("", "", ""): 4}
    assert found.hours == {int(NOW // 3600): 3, int(NOW // 3600) + 1: 1}
    assert {place: span.count for place, span in found.variants.items()} == {"cart:9": 4}


def test_every_traceback_has_the_key_of_its_record() -> None:
    """What is remembered of tracebacks changes no key: the corpus twice, forwards and backwards."""
    counter = Counter()
    lines = [
        json.dumps({"created": NOW, "levelno": 40, kind: one[kind]}).encode()
        for one in corpus.read()[::3]
        for kind in ("exc_text", "exception")
    ]
    for number, one in enumerate(lines + lines[::-1]):
        counter.begin_batch()
        counter.add(number, one)
        (keys,) = counter.tallies()
        assert keys == (fingerprint(json.loads(one)),)


def test_the_form_of_a_message_is_the_title() -> None:
    """Of the corpus, by our handler's data and by text alone; of several errors of a group each has its own."""
    counter = Counter()
    for one in corpus.read()[::3]:
        for given in ({"exc_text": one["exc_text"]}, {"exc_text": one["exc_text"], "exception": one["exception"]}):
            record = {"created": NOW, "levelno": 40, **given}
            counter.begin_batch()
            counter.add(1, json.dumps(record).encode())
            (found,) = counter.tallies().values()
            assert list(found.forms) == [summary_of(record).title], record["exc_text"]


def test_messages_of_one_group_are_told_apart() -> None:
    """By their form: numbers and quoted values make no difference."""
    counter = Counter()
    reasons = ("card declined", "limit of 5 reached", "limit of 7 reached", "card declined\nagain")
    for number, reason in enumerate(reasons):
        record = {"created": NOW, "levelno": 40, "message": f"payment: {reason}", "msg": "payment: %s"}
        counter.add(number, json.dumps(record).encode())
    for number, text in enumerate(("no stock", "no stock", "gone")):
        counter.add(number, error(number, exc_text=TRACE.format(text)))
    found = [{form: span.count for form, span in one.forms.items()} for one in counter.tallies().values()]
    assert found == [
        {"payment: card declined": 2, "payment: limit of <number> reached": 2},
        {"ShopError: no stock": 2, "ShopError: gone": 1},
    ]


def test_forms_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a group and in a batch; their counts stay whole. A form that came before costs nothing."""
    monkeypatch.setattr(tally, "MOST_FORMS", 3)
    counter = Counter()
    words = ("apple", "pear", "plum", "fig", "date", "apple")

    def count() -> dict[str, int]:
        for number, word in enumerate(words):
            counter.add(number, error(number, exc_text=TRACE.format(word), service=f"s{number % 2}"))
        (found,) = counter.tallies().values()
        return {form: span.count for form, span in found.forms.items()}

    found = count()
    assert (len(found), sum(found.values()), found["ShopError: apple"]) == (4, 6, 2)
    monkeypatch.setattr(tally, "MOST_FORMS_COMPUTED", 0)
    counter.begin_batch()
    assert count() == found
    words = ("kiwi", "apple")
    counter.begin_batch()
    assert count() == {"": 1, "ShopError: apple": 1}


def test_odd_lines_have_the_key_of_their_record() -> None:
    """Lone surrogates, missing fields and own fingerprints."""
    counter = Counter()
    own = [error(1, fingerprint="a"), error(2, fingerprint="b"), error(3, exc_text="\udcff"), error(4, name="\udc80")]
    for number, one in enumerate(make_lines(200) + own * 2):
        counter.begin_batch()
        counter.add(number, one)
        key = fingerprint(json.loads(one))
        assert list(counter.tallies()) == ([(key,)] if key else [])


def test_a_line_that_is_no_record_is_refused() -> None:
    """As every store refuses it."""
    with pytest.raises(NotARecord):
        Counter().add(1, b'{"levelno":40}\n')


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client sends a new traceback each time: the latest ones are remembered."""
    monkeypatch.setattr(tally, "MOST_REMEMBERED", 10)
    counter = Counter()
    for number in range(50):
        text = f'Traceback (most recent call last):\n  File "/a.py", line {number}, in f\n    x()\nValueError: 1'
        counter.add(number, error(number, exc_text=text))
    assert len(counter._known) == 10
    assert len(counter.tallies()) == 1
    counter.add(99, error(1, exc_text='Traceback (most recent call last):\n  File "/a.py", line 1, in '
                          + "f" * tally.LONGEST_REMEMBERED + "\nValueError: 1"))  # fmt: skip
    assert len(counter._known) == 10


def test_a_batch_reads_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distinct errors beyond it count together; one that is remembered costs nothing."""
    monkeypatch.setattr(tally, "MOST_READ", 10 * (tally.ERROR_BYTES + 100))
    counter = Counter()
    counter.begin_batch()
    for number in range(50):
        counter.add(number, line(levelno=40, message=f"order of {'abcdefghij' * 9}" + "x" * number, name=f"n{number}"))
    told = {keys: one.span.count for keys, one in counter.tallies().items()}
    assert sum(told.values()) == 50
    assert 5 < len(told) < 15
    assert told[tally.TOO_MANY] == 50 - (len(told) - 1)
    counter.begin_batch()
    text = 'Traceback (most recent call last):\n  File "cart.py", line 9, in add\n    x()\nKeyError: %d'
    for number in range(50, 100):
        counter.add(number, error(number, exc_text=text % number))
    assert [one.span.count for one in counter.tallies().values()] == [50]


def test_a_batch_tells_so_many_groups_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further groups count together, and the first ones go on counting."""
    monkeypatch.setattr(tally, "MOST_GROUPS", 3)
    counter = Counter()
    for number in range(8):
        counter.add(number, error(number, msg=f"failure of {'abcdefgh'[number]}"))
    counter.add(8, error(8, msg="failure of a"))
    assert [one.span.count for one in counter.tallies().values()] == [2, 1, 1, 5]
    assert list(counter.tallies())[-1] == tally.TOO_MANY
