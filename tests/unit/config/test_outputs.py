"""The tables [[output]]: what is written, in which form, and when a file is rotated."""

from __future__ import annotations

import importlib.util

import msgspec
import pytest

from prefork_logd.config.outputs import DEFAULT_TEMPLATE, OutputSettings, template_problems
from tests.support.settings import problems


def test_defaults_have_no_problem() -> None:
    """A table without keys is an output of all records."""
    output = OutputSettings()
    assert [*output.problems()] == []
    assert (output.levelno, output.rotate_every_s, output.file_mode) == (0, 0.0, 0o640)


@pytest.mark.parametrize(
    "template",
    [
        DEFAULT_TEMPLATE,
        "%(message)s",
        "100%% %(levelname)-8s|%(name).20s|%(lineno)05d",
        "%(created).6f %(process)#x %(thread)+d %(message)r %(message)a",
        "%(any key of extra)9999.9999s",
        "no field at all",
        "%%%(message)s%%",
    ],
)
def test_a_template_of_loggings_names_is_taken(template: str) -> None:
    """Flags, widths below 10,000, and every conversion that has a meaning for a record."""
    assert [*template_problems(template)] == []


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("50% of it", "'% of it'"),
        ("%", "'%'"),
        ("%(message)", "'%(message)'"),
        ("%()s", "'%()s'"),
        ("%(message)q", "'%(message)q'"),
        ("%(message)10000s", "'%(message)10"),
        ("%(message).10000s", "'%(message).1"),
        ("%(message)*s", "'%(message)*s'"),
        ("%s", "'%s'"),
        ("%(a(b)c)s", "'%(a(b)c)s'"),
        ("%%%", "'%'"),
        ("%(%(message)s)s", "'%()s'"),
    ],
)
def test_a_directive_that_cannot_be_filled_in_is_named(template: str, place: str) -> None:
    """By its beginning."""
    (problem,) = template_problems(template)
    assert problem.startswith(place)
    assert "is not a directive" in problem


@pytest.mark.parametrize("template", ["", " ", "\n\t"])
def test_an_empty_template_is_a_problem(template: str) -> None:
    """All its lines would be empty."""
    assert ["is empty" in problem for problem in template_problems(template)] == [True]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"path": "a\0b"}, ["path"]),
        ({"level": "LOUD"}, ["level"]),
        ({"level": ""}, ["level"]),
        ({"level": 10**9}, ["level"]),
        ({"level": -(10**9)}, ["level"]),
        ({"level": "1000000000"}, ["level"]),
        ({"level": 10**9 - 1}, []),
        ({"level": " warning "}, []),
        ({"loggers": ("a", "")}, ["loggers"]),
        ({"rotate_every": "999ms"}, ["rotate_every"]),
        ({"rotate_every": "1s"}, []),
        ({"rotate_every": "36500d"}, []),
        ({"rotate_every": "36501d"}, ["rotate_every"]),
        ({"rotate_every": "daily"}, ["rotate_every"]),
        ({"path": "\0", "level": "x", "template": "%", "loggers": ("",)}, ["path", "level", "template", "loggers"]),
    ],
)
def test_every_value_that_cannot_be_used_is_named(changes: dict[str, object], expected: list[str]) -> None:
    """Each key once, and all at once."""
    output = msgspec.structs.replace(OutputSettings(), **changes)
    assert [key for key, _ in output.problems()] == expected


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; gzip needs none."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (problem,) = OutputSettings(compress="zstd").problems()
    assert problem[0] == "compress"
    assert 'pip install "prefork-logd[zstd]"' in problem[1]
    assert [*OutputSettings(compress="gzip").problems()] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("mode", '"0888"'), ("mode", '"07777"'), ("mode", "640"), ("mode", '"640\\n"'), ("path", '""'), ("name", '""'),
     ("name", '"a/b"'), ("name", '"a\\n"'), ("keep", "-1"), ("keep_bytes", "-1"), ("rotate_bytes", "-1"),
     ("format", '"xml"'), ("level", "true"), ("level", "1.5"), ("loggers", '"a"')],
)  # fmt: skip
def test_a_value_of_the_wrong_form_is_named_with_its_line(key: str, value: str) -> None:
    """By the types and patterns of the table."""
    assert [problem.split(": ")[:2] for problem in problems(f"[[output]]\n{key} = {value}")] == [
        ["x.toml:2", f"output.{key}"]
    ]


@pytest.mark.parametrize(("mode", "number"), [("600", 0o600), ("0644", 0o644), ("000", 0)])
def test_a_mode_is_octal(mode: str, number: int) -> None:
    """With and without its zero."""
    assert OutputSettings(mode=mode).file_mode == number


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('path = "logs/{servce}.jsonl"', "output.path: has an unknown field {servce}; known ones are {service}"),
        ('path = "logs/{peer}.jsonl"', "output.path: has the field {peer}, which differs for each connection"),
        ('path = "logs/{service"', "output.path: has a '{' without its partner"),
        ('keep_for = "1d"', "output.keep_for: is for a path with fields, such as {service}; use keep or keep_bytes"),
        ('path = "logs/{date}.log"\nkeep_for = "0.5s"', "output.keep_for: must be one second or more"),
        ('path = "logs/{date}.log"\nmax_open_files = 0', "output.max_open_files: "),
        ('path = "logs/{date}.log"\nmax_new_files = 0', "output.max_new_files: "),
    ],
)
def test_a_path_with_fields_that_cannot_be_used(toml: str, said: str) -> None:
    """The problem names the key and the remedy."""
    assert any(said in problem for problem in problems(f"[[output]]\n{toml}\n"))


def test_a_path_with_fields() -> None:
    """Its batches are small enough for its open files; its name comes from its fields."""
    output = OutputSettings(path="logs/{service}/{date}.jsonl", keep_for="1d", max_open_files=16)
    assert [*output.problems()] == []
    assert (output.has_fields, output.keep_for_s, output.files_a_batch) == (True, 86_400.0, 4)
    assert OutputSettings(max_open_files=1).files_a_batch == 1
    assert OutputSettings(path="a{{b}}").file_path == "a{b}"
