"""Exceptions as data: the chain, root first, with frames that are bounded, whatever an exception's class does."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from prefork_logd.handlers import _exceptions
from prefork_logd.handlers._exceptions import describe_exceptions


class Cart:
    def add(self) -> None:
        raise KeyError("sku")

    def update(self) -> None:
        try:
            self.add()
        except KeyError as error:
            raise ValueError("no such item") from error


def caught(function: Any, *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:  # noqa: BLE001 - any of them
        return error
    raise AssertionError("it raised nothing")


def test_a_chain_begins_with_its_root() -> None:
    """Each exception has its own frames, outermost first."""
    root, last = describe_exceptions(caught(Cart().update))
    assert (root["type"], root["module"]) == ("KeyError", "builtins")
    assert [(one["function"].rpartition(".")[2], one["in_app"]) for one in root["frames"]] == [
        ("update", True),
        ("add", True),
    ]
    assert (last["type"], [one["function"].rpartition(".")[2] for one in last["frames"]]) == (
        "ValueError",
        ["caught", "update"],
    )
    assert all(one["module"] == __name__ and one["lineno"] > 10 for one in root["frames"] + last["frames"])
    assert root["frames"][1]["function"] == "Cart.add"


def test_a_suppressed_context_is_left_out() -> None:
    def suppress() -> None:
        try:
            raise KeyError(1)  # noqa: TRY301 - the context of the next one
        except KeyError:
            raise ValueError(2) from None

    assert [one["type"] for one in describe_exceptions(caught(suppress))] == ["ValueError"]


def test_the_leaves_of_a_group_come_before_it() -> None:
    """Each distinct one once, groups within groups unwrapped."""
    leaf = caught(Cart().add)
    group = ExceptionGroup("g", [ExceptionGroup("h", [leaf, OSError()]), caught(int, "x"), leaf])  # type: ignore[list-item]
    found = describe_exceptions(group)
    assert [one["type"] for one in found] == ["KeyError", "OSError", "ValueError", "ExceptionGroup"]
    assert [one.get("in_group") for one in found] == [True, True, True, None]


def test_an_exception_of_the_library_is_not_in_app() -> None:
    """Neither are packages that are installed, and code without a file."""
    (found,) = describe_exceptions(caught(json.loads, "{"))
    assert [one["in_app"] for one in found["frames"]] == [True, False, False, False]
    package = Path(sysconfig.get_paths()["purelib"]) / "shop.py"
    for name in (str(package), "/usr/lib/python3/dist-packages/shop.py", "<string>", "<frozen importlib._bootstrap>"):
        assert not _exceptions._is_in_app(name)
    assert _exceptions._is_in_app("/srv/shop/app.py")


def test_frames_are_bounded() -> None:
    """The outermost and the innermost ones are kept."""

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        raise ValueError

    (found,) = describe_exceptions(caught(dive, 500))
    assert len(found["frames"]) == 32
    assert found["frames_left_out"] == 502 - 32
    assert found["frames"][-1]["lineno"] == found["frames"][9]["lineno"] + 1


def test_chains_are_bounded() -> None:
    """The latest and the root are kept; a chain that bites its tail ends there."""
    error: BaseException = KeyError("root")
    for number in range(40):
        outer = ValueError(number)
        outer.__cause__ = error
        error = outer
    found = describe_exceptions(error)
    assert len(found) == 16
    assert (found[0]["type"], found[-1]["type"]) == ("KeyError", "ValueError")
    one, other = KeyError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert [each["type"] for each in describe_exceptions(one)] == ["ValueError", "KeyError"]


def test_an_exception_that_objects_costs_itself_alone() -> None:
    """Nothing is raised for it."""

    class Odd(Exception):  # noqa: N818
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    class Fake(Exception):  # noqa: N818
        exceptions = 5

    Fake.__name__ = "BaseExceptionGroup"
    assert describe_exceptions(Odd()) == []
    assert describe_exceptions(Fake()) == []


@pytest.mark.parametrize("name", [None, 5, "x" * 1000])
def test_names_are_bounded_texts(name: Any) -> None:
    """A module may call itself anything."""
    module: dict[str, Any] = {"__name__": name}
    exec("def fail():\n    raise ValueError", module)
    (found,) = describe_exceptions(caught(module["fail"]))
    assert found["frames"][-1]["module"] == (name[:200] if isinstance(name, str) else None)


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("/srv/shop/charge.py", "charge"),
        ("charge.py", "charge"),
        ("/srv/shop/__main__.py", "__main__"),
        ("/srv/venv/bin/charge", "charge"),
        ("<string>", "<string>"),
        ("/tmp/ipykernel_7/3949012345.py", "__main__"),
    ],
)
@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_the_module_of_a_script_has_the_name_of_its_file(file: str, module: str, name: str) -> None:
    """As in the text of a traceback; so both make one group of errors. A notebook has another number each time."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile("def fail():\n    raise KeyError", file, "exec"), names)
    (found,) = describe_exceptions(caught(names["fail"]))
    assert found["frames"][-1]["module"] == module


def test_other_modules_keep_their_names() -> None:
    """Also where their file has another one."""
    names: dict[str, Any] = {"__name__": "shop.cart"}
    exec(compile("def fail():\n    raise KeyError", "/srv/charge.py", "exec"), names)
    (found,) = describe_exceptions(caught(names["fail"]))
    assert found["frames"][-1]["module"] == "shop.cart"
