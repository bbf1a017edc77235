"""Every problem of a document is reported at once, with its place and a remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
import pytest

from prefork_logd.config.document import Document, LineIndex
from prefork_logd.config.load import loads
from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.server import LimitSettings, ServerSettings
from prefork_logd.config.values import TableSettings
from prefork_logd.errors import ConfigError
from tests.support.settings import problems

if TYPE_CHECKING:
    from collections.abc import Iterator


def _kinds(of: type[TableSettings] = TableSettings) -> Iterator[type[TableSettings]]:
    """Yield every kind of table, the bases of others included."""
    for kind in of.__subclasses__():
        if kind.__module__.startswith("prefork_logd."):
            yield kind
            yield from _kinds(kind)


def test_every_problem_is_told_at_once_with_its_line() -> None:
    """One run of `check` is enough to mend a file."""
    told = problems(
        "\n".join(
            [
                "[server]",
                "workers = 0",
                'bindd = ["x"]',
                "[limits]",
                'max_record_bytes = "a"',
                "[[output]]",
                'path = "a"',
                'level = "X"',
                "[[output]]",
                'path = "b"',
                'rotate_every = "3"',
                "[[store]]",
                'type = "oracle"',
                "[foo]",
            ]
        )
    )
    assert [problem.split(": ")[0] for problem in told] == [
        "x.toml:2",
        "x.toml:3",
        "x.toml:5",
        "x.toml:8",
        "x.toml:11",
        "x.toml:13",
        "x.toml:14",
    ]
    assert "did you mean 'bind'" in told[1]
    assert told[4].startswith("x.toml:11: output[2].rotate_every: ")
    assert "must be one of parquet, postgresql" in told[5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nbind = []", "name an address"),
        ('[server]\nbind = ["nowhere"]', "is not an address"),
        ('[server]\nbind = ["::1:9020"]', "brackets"),
        ('[server]\nbind = ["[::g]:1"]', "needs an IPv6 address"),
        ('[server]\nbind = ["h:70000"]', "needs a port"),
        ('[server]\nbind = ["unix:"]', "does not name a path"),
        ('[server]\nbind = ["a:1", "a:1"]', "twice"),
        ('[server]\nstate_dir = "a\\u0000b"', "NUL"),
        ('[server]\ndurability = "maybe"', "server.durability"),
        ("[limits]\nmax_record_bytes = 10", ">= 1024"),
        ('[limits]\nrecord_timeout = "soon"', "is not a duration"),
        ('[limits]\ndrain_timeout = "0s"', "longer than 0"),
        ('[[output]]\ntemplate = "%(message)q"', "is not a directive"),
        ('[[output]]\ntemplate = "100%"', "is not a directive"),
        ('[[output]]\ntemplate = "%(message)99999s"', "is not a directive"),
        ('[[output]]\ntemplate = " "', "is empty"),
        ('[[output]]\nloggers = [""]', "empty name"),
        ('[[output]]\nservices = ["shop", ""]', "empty name"),
        ('[[store]]\ntype = "nats"\nenvironments = [""]', "empty name"),
        ('[[output]]\nname = "a b"', "output.name"),
        ('[[output]]\nmode = "rw"', "output.mode"),
        ('[[output]]\npath = "rejected.jsonl"', "the collector's own file"),
        ('[[output]]\npath = "a"\n[[output]]\nname = "b"\npath = "./a"', "the file of output"),
        ('[[output]]\nname = "a"\n[[output]]\nname = "a"\npath = "c"', "taken by a table above"),
        ('[[output]]\nrotate_every = "10ms"', "one second or more"),
        ("output = []", "every record would be lost"),
        ("output = 3", "[[output]]"),
        ("server = 3", "must be a table"),
        ("listener = 3", "[[listener]]"),
        ('[[listener]]\naddress = "nowhere"', "is not an address"),
        ('[[listener]]\naddress = "127.0.0.1:9020"', "named twice"),
        ('[[listener]]\naccept = "friends"', "listener.accept"),
        ('[[listener]]\naccept = "session"\nprotocol = "json"', "has no acknowledgements"),
        ('[[listener]]\nprotocol = "morse"', "listener.protocol"),
        ('[[listener]]\naccept = "authenticated"', "server.keys_file: is needed"),
        ('[server]\nkeys_file = "/nonexistent"\n[[listener]]\naccept = "authenticated"', "cannot read it"),
        ("[server\nx = 1", "x.toml:1"),
        ("[limits]\nqueue_bytes = 1" + 5000 * "0", "a number that is too long"),
        ("[[sample]]\nfields = " + 5000 * "[" + 5000 * "]", "nested too deeply"),
    ],
)
def test_a_value_that_cannot_be_used_is_explained(text: str, said: str) -> None:
    """Each problem names its key, and says what would do."""
    assert any(said in problem for problem in problems(text)), problems(text)


def _numbers(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield name and type of each setting that is a number."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        told = msgspec.inspect.type_info(hints[field.name])
        told = told.type if isinstance(told, msgspec.inspect.Metadata) else told
        if isinstance(told, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            yield field.encode_name, hints[field.name]


@pytest.mark.parametrize("kind", [*_kinds()])
def test_every_number_has_bounds(kind: type) -> None:
    """A number that no machine can have is a problem, whichever setting it is for."""
    for _, hint in _numbers(kind):
        for nonsense in (10**30, 2**64, -(10**30)):
            with pytest.raises(msgspec.ValidationError, match=r"Expected `(int|float)` [<>]"):
                msgspec.convert(nonsense, hint)


def test_numbers_are_among_the_settings() -> None:
    """The test before looks at them."""
    assert {name for name, _ in _numbers(LimitSettings)} >= {"journal_bytes", "max_sessions", "min_free_bytes"}
    assert "rotate_bytes" in {name for name, _ in _numbers(OutputSettings)}


def test_a_value_to_choose_comes_with_the_choices() -> None:
    """Of words, and of words beside numbers."""
    with pytest.raises(ConfigError) as caught:
        loads('server.workers = "x"\n[[output]]\non_error = "wait"\n')
    assert [problem.message for problem in caught.value.problems] == [
        "invalid value 'x'; write \"auto\" or a whole number",
        'invalid value \'wait\'; write "block" or "skip"',
    ]


def test_the_line_of_a_key_is_found_however_its_table_is_written() -> None:
    """Headers, arrays of tables, dotted keys; a key without a line of its own has that of its table."""
    index = LineIndex(
        'server.workers = 1\n[limits]\n"queue_bytes" = 2\n[[output]]\nname = "a"\n\n[[output]]\nname = "b"\n'
    )
    assert index.find("server", 0, "workers") == 1
    assert index.find("limits", 0, "queue_bytes") == 3
    assert [index.find("output", at, "name") for at in (0, 1)] == [5, 8]
    assert index.find("output", 1, "path") == 7
    assert index.find("nothing", 0, "x") == 0


def test_a_text_that_is_not_toml_has_one_problem_with_its_line() -> None:
    """And nothing else of it is looked at."""
    with pytest.raises(ConfigError) as caught:
        Document("[server]\nworkers = = 1\n", "c.toml")
    assert [str(problem).startswith("c.toml:2: ") for problem in caught.value.problems] == [True]


def test_values_that_are_taken_are_not_refused() -> None:
    """What is left at the end is unknown; a near name is suggested."""
    document = Document("[server]\n[outptu]\n", "c.toml")
    assert document.take("server", None) == {}
    assert document.take("limits", 7) == 7
    document.refuse_rest({"output": None, "store": None})
    assert [str(problem) for problem in document.problems] == [
        "c.toml:2: outptu: unknown key or table; did you mean 'output'?"
    ]


def test_a_table_with_a_problem_keeps_the_default_there() -> None:
    """So that all the other problems are found, too."""
    document = Document("[server]\nworkers = []\nbind = []\n", "c.toml")
    server = document.read_table(ServerSettings, "server", 0, document.take("server", {}))
    assert (server.workers, server.bind) == (ServerSettings().workers, ())
    assert len(document.problems) == 1
    assert document.read_table(ServerSettings, "server", 0, 5) == ServerSettings()
    assert "must be a table" in str(document.problems[-1])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a]\nx = 1\nx = 2\ny = 3\n", "c:3: column 6: cannot overwrite a value; the key is set above already; remove"),
        ("[a]\n[a]\n", "c:2: column 3: cannot declare ('a',) twice; the table is above already; join the two"),
        ("[a]\nx = yes\n", "c:2: column 5: invalid value; write a text in quotes, a number, true, false or a list"),
        ('[a]\nx = "b\n', "c:2: column 7: illegal character '\\n'; close the quotes"),
        ("[a]\nx\n", "c:2: column 2: expected '=' after a key in a key/value pair; write KEY = VALUE"),
    ],
)
def test_a_common_mistake_in_toml_has_a_remedy(text: str, problem: str) -> None:
    """The place is named once, in the form of all other problems."""
    with pytest.raises(ConfigError) as caught:
        Document(text, "c")
    assert str(caught.value.problems[0]).startswith(problem)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ('output = [{mode = "999"}]', 'output.mode: is not of the right form; write one such as "0640"'),
        ('output = [{name = "a b"}]', 'output.name: is not of the right form; write one such as "shop"'),
        ("limits.drain_timeout = 10", "expected a string, got a whole number; write it in quotes"),
        ("limits.journal_bytes = 1.5", "expected a whole number, got a number; write it without a fraction"),
    ],
)
def test_a_value_of_another_form_has_a_remedy(line: str, remedy: str) -> None:
    """A person does not read regular expressions."""
    with pytest.raises(ConfigError, match=re.escape(remedy)):
        loads(f"{line}\n")


def test_every_form_has_an_example() -> None:
    """It is shown for a value of another form, and has the form itself."""
    found = 0
    for kind in _kinds():
        hints = get_type_hints(kind, include_extras=True)
        for name in (field.name for field in msgspec.structs.fields(kind)):
            schema = msgspec.json.schema(hints[name])
            if "pattern" in schema:
                assert re.search(schema["pattern"], schema["examples"][0]), (kind, name)
                found += 1
    assert found >= 6
