"""Paths with fields: whatever a client sends as a value, its file is in the pattern's directory, and its own."""

from __future__ import annotations

import os.path
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config import output_paths
from prefork_logd.config.output_paths import (
    FIELDS,
    LEAST_VALUE_BYTES,
    MISSING,
    MOST_VALUE_BYTES,
    OTHER,
    PathPattern,
    escape,
    has_fields,
    literal_path,
    may_meet,
    parse,
    value_name,
)

VALUES = st.one_of(
    st.text(max_size=300),
    st.text("./%_-~ab\0\n", max_size=120),
    st.sampled_from(["", ".", "..", "../../etc/passwd", "/", "a/b", MISSING, OTHER, "%2E", "%-", "-", "~", "\ud800"]),
)


@pytest.mark.slow
@given(VALUES, VALUES, st.integers(LEAST_VALUE_BYTES, MOST_VALUE_BYTES))
def test_a_value_is_one_safe_name_of_its_own(one: str, other: str, room: int) -> None:
    """No directory, no dot at the beginning, not too long; and two values never share it."""
    name = value_name(one, room)
    assert re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9._%-]*", name)
    assert len(name) <= room
    assert (name == value_name(other, room)) == (one == other)
    assert name != OTHER
    assert (name == MISSING) == (one == "")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("shop", "shop"),
        ("__main__", "__main__"),
        ("a.b-c_d", "a.b-c_d"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("m\u00fcller", "m%C3%BCller"),
        ("100%", "100%25"),
        ("", "_none"),
        ("_none", "%5Fnone"),
        ("_other", "%5Fother"),
        ("\ud800", "%ED%A0%80"),
        ("x" * 100, "x" * 100),
    ],
)
def test_names_of_values(value: str, name: str) -> None:
    """As docs/outputs.md describes them."""
    assert value_name(value) == name


def test_a_long_value_ends_in_its_hash() -> None:
    """It is not cut within the digits of a byte."""
    assert re.fullmatch("x{74}%-[0-9a-f]{24}", value_name("x" * 101))
    for shift in range(3):
        name = value_name("x" * shift + "\u00fc" * 200)
        assert re.fullmatch("(x|%[0-9A-F]{2})*%-[0-9a-f]{24}", name), name


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{peer}.jsonl", "differs for each connection; use {host}"),
        ("{name}.jsonl", "has an unknown field {name}; known ones are {service}"),
        ("{}.jsonl", "has an unknown field {}"),
        ("{service!r}.jsonl", "has an unknown field {service!r}"),
        ("{service.jsonl", "has a '{' without its partner; write '{{' for the character itself"),
        ("service}.jsonl", "has a '}' without its partner; write '}}'"),
        ("{a/b}.jsonl", "has a '{' without its partner"),
        ("{service}", "needs an extension after its last field"),
        ("{service}.gz", "needs an extension after its last field"),
        ("{service}.000001", "needs an extension after its last field"),
        ("{service}/../all.jsonl", 'has an empty, "." or ".." component after a field'),
        ("{service}{logger}{level}{host}{version}.log", "has too many fields between two slashes"),
        ("x" * 130 + "{service}{logger}.log", "has too many fields between two slashes"),
    ],
)
def test_paths_that_cannot_be_used(path: str, said: str) -> None:
    """Each problem is one sentence with its remedy."""
    (problem,) = output_paths.problems(path)
    assert said in problem


@pytest.mark.parametrize("path", ["all.jsonl", "a{{b}}.jsonl", "logs/{service}/{logger}-{date}.jsonl", "{date}.log"])
def test_paths_that_can_be_used(path: str) -> None:
    """With and without fields."""
    assert list(output_paths.problems(path)) == []
    assert has_fields(path) == ("{" in path.replace("{{", ""))


def test_doubled_braces_are_braces() -> None:
    """A directory may have any name."""
    assert literal_path("a{{b}}") == "a{b}"
    assert not has_fields("a{{service}}.jsonl")
    assert literal_path(escape("/tmp/{x}/{")) == "/tmp/{x}/{"
    pattern = PathPattern("/tmp/{{x}}/{{{service}}}.jsonl")
    assert pattern.base == "/tmp/{x}"
    assert pattern.render(["shop"]) == "{shop}.jsonl"


@pytest.mark.slow
@given(st.lists(VALUES, min_size=3, max_size=3))
def test_a_rendered_path_stays_below_its_directory(values: list[str]) -> None:
    """It has as many components as the pattern, and none of them is too long."""
    pattern = PathPattern("/var/log/{service}/{level}-{logger}-{date}.jsonl")
    service, level, logger = values
    relative = pattern.render([service, level, logger, "2026-11-29"])
    assert os.path.normpath(f"/var/log/{relative}") == f"/var/log/{relative}"
    assert relative.count("/") == 1
    assert max(len(name) for name in relative.split("/")) <= 215
    assert pattern.has(relative)
    assert pattern.date_of(relative) == "2026-11-29"
    assert pattern.is_directory(0, relative.split("/")[0])
    assert pattern.is_file(relative.split("/")[1])
    assert pattern.begins(relative.split("/")[1] + ".20261129T000000Z.000001")


def test_names_of_other_files_do_not_belong_to_the_pattern() -> None:
    """Neither rotated files nor those of other programs."""
    pattern = PathPattern("/var/log/{service}-{date}.jsonl")
    assert pattern.render_other("2026-11-29") == "_other-2026-11-29.jsonl"
    for name in ("shop.jsonl", "shop-2026-11-29.jsonl.gz", "shop-2026-11-29.log", "sh op-2026-11-29.jsonl", "a/b"):
        assert not pattern.has(name)
    assert not pattern.begins("other.txt")


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("/l/{service}.jsonl", "/l/a.jsonl", True),
        ("/l/{service}.jsonl", "/l/a.log", False),
        ("/l/{service}.jsonl", "/m/a.jsonl", False),
        ("/l/{service}/{logger}.jsonl", "/l/{service}/all.jsonl", True),
        ("/l/{service}.jsonl", "/l/{service}/{logger}.log", True),
        ("/l/a-{service}.log", "/l/b{logger}.log", False),
        ("/l/{service}-a.log", "/l/b-{logger}.log", True),
        ("/l/{service}-a.log", "/l/{service}-b.log", False),
        ("/l/a", "/l/a/b", True),
    ],
)
def test_paths_that_may_meet(one: str, other: str, *, meet: bool) -> None:
    """Also a file that is a directory of the other path."""
    assert may_meet(parse(one), parse(other)) is meet
    assert may_meet(parse(other), parse(one)) is meet


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(["a", "b", "-", *(f"{{{name}}}" for name in FIELDS[:2])]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b", "-", *(f"{{{name}}}" for name in FIELDS[:2])]), min_size=1, max_size=6),
    st.lists(st.text("ab-", min_size=1, max_size=3), min_size=12, max_size=12),
)
def test_paths_that_lead_to_one_file_are_found(one: list[str], other: list[str], values: list[str]) -> None:
    """No pair of values leads two paths to one file that were said not to meet."""
    left = [values.pop() if part.startswith("{") else part for part in one]
    right = [values.pop() if part.startswith("{") else part for part in other]
    if "".join(left) == "".join(right):
        assert may_meet(parse("".join(one)), parse("".join(other)))
