"""Routes agree with logging's own handlers and filters, and cost no unbounded memory."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.ingest import routing
from prefork_logd.ingest.routing import Router

NAMES = st.lists(st.sampled_from(["shop", "shop2", "sho", "pay", ""]), max_size=4).map(".".join)


def test_a_logger_lets_its_children_through_but_no_namesake():
    routes = Router([OutputSettings(loggers=("shop", "pay.card"))])
    assert routes.route("shop", 10) == (0,)
    assert routes.route("shop.cart.items", 10) == (0,)
    assert routes.route("shopping", 10) == ()
    assert routes.route("pay", 10) == ()
    assert routes.route("pay.card", 10) == (0,)


def test_a_record_goes_to_every_output_that_lets_it_through_in_order():
    routes = Router([OutputSettings(), OutputSettings(level="ERROR"), OutputSettings(loggers=("a",))])
    assert routes.route("a.b", logging.ERROR) == (0, 1, 2)
    assert routes.route("a.b", logging.INFO) == (0, 2)
    assert routes.route("b", logging.WARNING) == (0,)


@pytest.mark.slow
@given(st.lists(NAMES.filter(bool), max_size=3), st.integers(-50, 60), NAMES, st.integers(-60, 70))
def test_routes_agree_with_logging(loggers, level, name, levelno):
    """The verdict is that of a handler with this level and one logging.Filter per logger."""
    record = logging.makeLogRecord({"name": name, "levelno": levelno})
    by_level = level == logging.NOTSET or levelno >= level
    by_name = not loggers or any(logging.Filter(logger).filter(record) for logger in loggers)
    routes = Router([OutputSettings(level=level, loggers=tuple(loggers))])
    expected = (0,) if by_level and by_name else ()
    assert routes.route(name, levelno) == expected
    assert routes.route(name, levelno) == expected


def test_only_outputs_that_take_everything_are_unconditional():
    assert Router([OutputSettings(), OutputSettings(level="NOTSET")]).unconditional
    assert Router([OutputSettings(), OutputSettings()]).everywhere == (0, 1)
    assert not Router([OutputSettings(), OutputSettings(level=1)]).unconditional
    assert not Router([OutputSettings(loggers=("a",))]).unconditional


def test_a_client_that_invents_names_does_not_fill_the_memory():
    """Names without end are answered right, and few of them are kept; long ones never."""
    routes = Router([OutputSettings(loggers=("n1",))])
    for number in range(2 * routing.MAX_CACHED_ROUTES):
        assert routes.route(f"n{number}", number) == ((0,) if number == 1 else ())
    assert len(routes._routes) <= routing.MAX_CACHED_ROUTES
    long_name = "n1." + "x" * 100_000
    assert routes.route(long_name, 0) == (0,)
    assert (long_name, 0) not in routes._routes


def test_services_and_environments() -> None:
    """A record passes whose sender is named in both; a record without one passes no list."""
    routes = Router([OutputSettings(), OutputSettings(services=("shop", "cart"), environments=("prod",))])
    assert not routes.unconditional
    assert routes.route("a", 20, "cart", "prod") == (0, 1)
    assert routes.route("a", 20, "cart", "test") == (0,)
    assert routes.route("a", 20, "shopping", "prod") == (0,)
    assert routes.route("a", 20) == (0,)
    assert not Router([OutputSettings(environments=("prod",))]).unconditional


def test_a_route_is_found_once_and_then_remembered(monkeypatch):
    """Until so many others came that all of them are forgotten."""
    monkeypatch.setattr(routing, "MAX_CACHED_ROUTES", 2)
    routes = Router([OutputSettings(loggers=("a",))])
    found = []
    find = routes._find
    monkeypatch.setattr(routes, "_find", lambda *key: (found.append(key[0]), find(*key))[1])
    for name in ("a", "b", "a", "b", "c", "c", "a"):
        assert routes.route(name, 10) == ((0,) if name == "a" else ())
    assert found == ["a", "b", "c", "a"]
