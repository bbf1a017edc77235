"""Messages that are dicts, and fields within one attribute, as structlog and loguru leave them."""

from __future__ import annotations

import pickle
import time
from typing import Any

from prefork_logd.handlers import make_pickle
from tests.support.log_records import record


def told(message: Any, **extra: Any) -> dict[str, Any]:
    found: dict[str, Any] = pickle.loads(make_pickle(record(message, **extra)))
    return found


def test_a_dict_becomes_message_and_fields() -> None:
    for key in ("event", "message", "msg"):
        found = told({key: "paid", "user": 17, "order": {"id": 3}})
        assert (found["msg"], found["user"], found["order"]) == ("paid", 17, {"id": 3})


def test_a_dict_without_a_text_is_named_by_its_keys() -> None:
    found = told({"user": 17, "password": "hunter2"})
    assert (found["msg"], found["user"]) == ("user, password", 17)


def test_no_field_takes_the_place_of_a_records_own() -> None:
    found = told({"event": "paid", "name": "ada", "process": "checkout"}, name_="kept")
    assert (found["name"], found["name_"], found["name__"]) == ("shop", "kept", "ada")
    assert isinstance(found["process"], int)
    assert found["process_"] == "checkout"


class Same:
    """A key whose text all of them have."""

    def __str__(self) -> str:
        return "same"


def test_thousands_of_keys_with_the_same_text_take_no_longer_than_they_are() -> None:
    """Within `log.info` of a service: the square of their number would take minutes."""
    message = {Same(): number for number in range(20_000)}
    began_s = time.process_time()
    made = record(message)
    found = pickle.loads(make_pickle(made, None, 1 << 30))
    assert time.process_time() - began_s < 5
    assert [found[key] for key in ("same", "same_", "same__", "same_2", "same_9998")] == [0, 1, 2, 3, 9999]


def test_an_exception_in_the_dict_is_the_records() -> None:
    try:
        {}["first"]
    except KeyError as error:
        found = told({"event": "failed", "exc_info": True})
        again = told({"event": "failed", "exc_info": error})
    assert "KeyError: 'first'" in found["exc_text"]
    assert "KeyError: 'first'" in again["exc_text"]


def test_what_structlog_adds_for_its_formatter_is_left_out() -> None:
    found = told({"event": "paid", "_record": object()}, _logger=object(), _name="info")
    assert not {"_logger", "_name", "_record"} & set(found)


def test_the_fields_of_loguru_are_not_nested_again() -> None:
    found = told("paid", extra={"user": 17, "name": "ada"})
    assert (found["user"], found["name"], found["name_"]) == (17, "shop", "ada")
    assert "extra" not in found


def test_an_extra_that_says_it_is_a_dict_is_a_value() -> None:
    class Unbound:
        """As a proxy of werkzeug is outside of a request."""

        @property
        def __class__(self) -> Any:
            raise RuntimeError("outside of a request")

    found = told("hello", extra=Unbound(), y=7)
    assert (found["msg"], found["y"]) == ("hello", 7)
    assert found["extra"]["__class__"].endswith("Unbound")
