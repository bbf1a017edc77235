"""A configuration is taken whole, or every reason against it is told with its place."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from prefork_logd import config
from prefork_logd.errors import ConfigError, StoreError
from prefork_logd.settings import OWN_FILES, OutputSettings, Settings
from prefork_logd.store_settings import CustomStoreSettings, SqliteStoreSettings

STATE = {"state_dir": "/state"}


def problems(text: str, source: str = "x.toml", **overrides: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.loads(text, source, {**STATE, **overrides})
    return [str(problem) for problem in caught.value.problems]


def test_an_empty_file_is_valid() -> None:
    """Every key has a default: one JSON output in the state directory."""
    settings = config.loads("", "", STATE)
    assert [(output.name, output.path, output.format) for output in settings.output] == [
        ("records", "/state/records.jsonl", "json")
    ]
    assert settings.server.bind == ("127.0.0.1:9020",)
    assert settings.limits.max_record_bytes == 1_048_576


def test_the_whole_example_of_the_contract_is_valid() -> None:
    """Every key that is promised is taken."""
    settings = config.loads(
        """
        [server]
        bind = ["127.0.0.1:9020", "[::1]:0", "unix:/run/x.sock"]
        workers = "auto"
        state_dir = "/state"
        durability = "synced"
        user = ""
        [limits]
        max_record_bytes = 1_048_576
        max_connections = 10_000
        [[output]]
        name = "all"
        path = "/var/log/prefork-logd/all.jsonl"
        format = "json"
        template = "%(asctime)s %(levelname)s %(name)s %(message)s"
        level = "NOTSET"
        loggers = []
        rotate_bytes = 0
        rotate_every = ""
        keep = 10
        compress = "none"
        """
    )
    assert settings.output[0].name == "all"
    assert settings.server.worker_count >= 1
    assert config.loads("store = []").output == config.loads("").output


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
    assert "must be one of sqlite, postgresql" in told[5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nbind = []", "name an address"),
        ('[server]\nbind = ["nowhere"]', "is no address"),
        ('[server]\nbind = ["::1:9020"]', "brackets"),
        ('[server]\nbind = ["[::g]:1"]', "no IPv6 address"),
        ('[server]\nbind = ["h:70000"]', "no port"),
        ('[server]\nbind = ["unix:"]', "names no path"),
        ('[server]\nbind = ["a:1", "a:1"]', "twice"),
        ('[server]\nstate_dir = "a\\u0000b"', "NUL"),
        ('[server]\ndurability = "maybe"', "server.durability"),
        ("[limits]\nmax_record_bytes = 10", ">= 1024"),
        ('[limits]\nrecord_timeout = "soon"', "is no duration"),
        ('[limits]\ndrain_timeout = "0s"', "longer than nothing"),
        ('[[output]]\ntemplate = "%(message)q"', "is no directive"),
        ('[[output]]\ntemplate = "100%"', "is no directive"),
        ('[[output]]\ntemplate = "%(message)99999s"', "is no directive"),
        ('[[output]]\ntemplate = " "', "is empty"),
        ('[[output]]\nloggers = [""]', "empty name"),
        ('[[output]]\nname = "a b"', "output.name"),
        ('[[output]]\nmode = "rw"', "output.mode"),
        ('[[output]]\npath = "rejected.jsonl"', "the collector's own file"),
        ('[[output]]\npath = "a"\n[[output]]\nname = "b"\npath = "./a"', "the file of output"),
        ('[[output]]\nname = "a"\n[[output]]\nname = "a"\npath = "c"', "taken by an output above"),
        ('[[output]]\nrotate_every = "10ms"', "one second or more"),
        ("output = []", "every record would be lost"),
        ("output = 3", "[[output]]"),
        ("server = 3", "must be a table"),
        ("listener = 3", "[[listener]]"),
        ('[[listener]]\naddress = "nowhere"', "is no address"),
        ('[[listener]]\naddress = "127.0.0.1:9020"', "listened on already"),
        ('[[listener]]\naccept = "friends"', "listener.accept"),
        ('[[listener]]\naccept = "authenticated"', "server.keys_file: is needed"),
        ('[server]\nkeys_file = "/nonexistent"\n[[listener]]\naccept = "authenticated"', "cannot read it"),
        ("[server\nx = 1", "x.toml:1"),
    ],
)
def test_a_value_that_cannot_be_used_is_explained(text: str, said: str) -> None:
    """Each problem names its key, and says what would do."""
    assert any(said in problem for problem in problems(text)), problems(text)


def test_flags_take_the_place_of_keys_and_are_named_when_wrong() -> None:
    """The command line counts more than the file."""
    settings = config.loads("[server]\nworkers = 3", "", {**STATE, "workers": 5, "bind": ("h:1",)})
    assert (settings.server.workers, settings.server.bind) == (5, ("h:1",))
    assert problems("", bind=("nowhere",))[0].startswith("--bind: ")
    assert problems("", workers="many")[0].startswith("--workers: ")


def test_an_output_is_called_after_its_file_and_a_file_after_its_output() -> None:
    """Every key has a default, with several outputs, too."""
    settings = config.loads(
        '[[output]]\npath = "/a/all.jsonl"\n[[output]]\npath = "/b/all.jsonl"\n'
        '[[output]]\nname = "errors"\nformat = "text"',
        "",
        STATE,
    )
    assert [(output.name, output.path) for output in settings.output] == [
        ("all", "/a/all.jsonl"),
        ("all-2", "/b/all.jsonl"),
        ("errors", "/state/errors.log"),
    ]


def test_what_is_printed_is_what_is_meant() -> None:
    """The effective configuration, read again, is the same."""
    settings = config.loads('[[output]]\nname = "e"\nlevel = 35\nloggers = ["a.b"]', "", STATE)
    again = config.loads(config.effective(settings))
    assert again == settings
    assert [store["type"] for store in tomllib.loads(config.effective(settings))["store"]] == ["sqlite"]
    none = config.loads("store = []", "", STATE)
    assert config.loads(config.effective(none)) == none


def test_files_are_looked_for_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag, environment, working directory, system."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "system.toml")
    assert config.find_file(None, {}) is None
    (tmp_path / "system.toml").touch()
    assert config.find_file(None, {}) == tmp_path / "system.toml"
    Path(config.FILE_NAME).touch()
    assert config.find_file(None, {}) == Path(config.FILE_NAME)
    assert config.find_file(None, {config.ENVIRONMENT_VARIABLE: "e.toml"}) == Path("e.toml")
    assert config.find_file("f.toml", {config.ENVIRONMENT_VARIABLE: "e.toml"}) == Path("f.toml")


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A file that was named and is missing, or is no text, is an error and not an empty one."""
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml"):
        config.load(path)


def test_a_broken_file_still_tells_the_state_directory(tmp_path: Path) -> None:
    """`status` and `reload` find the running collector although its file became invalid."""
    path = tmp_path / "c.toml"
    path.write_text('[server]\nstate_dir = "/there"\nnonsense = 1')
    assert config.state_dir_of(path) == "/there"
    path.write_text("[server")
    assert config.state_dir_of(path) is None
    assert config.state_dir_of(None) is None


def test_changes_are_told_apart_by_whether_they_can_be_live() -> None:
    """Reload names what it took and what waits for a restart, and keeps the latter."""
    old = config.loads('[server]\nbind = ["h:1"]\nworkers = 1', "", STATE)
    new = config.loads(
        '[server]\nbind = ["h:2"]\nworkers = 2\n[limits]\nmax_connections = 5\n[[output]]\nlevel = "INFO"', "", STATE
    )
    assert config.changes(old, new) == (["server.workers", "limits.max_connections", "output"], ["server.bind"])
    merged = config.with_live_changes(old, new)
    assert merged.server.bind == ("h:1",)
    assert (merged.server.workers, merged.limits.max_connections) == (2, 5)
    assert config.changes(old, old) == ([], [])


def test_levels_and_durations_mean_what_logging_and_people_mean() -> None:
    """Names of logging's, numbers, and the usual units."""
    assert OutputSettings(level="warning").levelno == 30
    assert OutputSettings(level="-5").levelno == -5
    assert OutputSettings(level=25).levelno == 25
    assert OutputSettings(rotate_every="1h").rotate_every_s == 3600
    assert Settings().limits.record_timeout_s == 30


def test_the_collectors_own_files_cannot_be_outputs() -> None:
    """Nobody's records go into the pid file."""
    for name in OWN_FILES:
        assert "own file" in problems(f'[[output]]\npath = "{name}"')[0]


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"a 0123456789abcdef\n", 0o640, "chmod 600"),
        (b"a short\n", 0o600, ":1: write an id"),
        (b"# nothing\n\n", 0o600, "holds no key"),
        (b"a 0123456789abcdef\na 0123456789abcdef\n", 0o600, ":2: this id is taken"),
        (b"a 0123456789abcdef more\n", 0o600, ":1: write an id"),
    ],
)
def test_keys_that_cannot_be_used_are_explained(tmp_path: Path, content: bytes, mode: int, said: str) -> None:
    """A secret that others could read or find is none."""
    path = tmp_path / "keys"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ValueError, match=said):
        config.load_keys(path)


def test_several_keys_are_valid_at_once(tmp_path: Path) -> None:
    """A key can be replaced without a moment in which nobody is let in."""
    path = tmp_path / "keys"
    path.write_bytes(b"# rotated in May\nold 0123456789abcdef\nnew  fedcba9876543210\n")
    path.chmod(0o600)
    assert config.load_keys(path) == {b"old": b"0123456789abcdef", b"new": b"fedcba9876543210"}
    settings = config.loads(
        f'[server]\nbind = []\nkeys_file = "{path}"\n[[listener]]\naccept = "authenticated"', "", STATE
    )
    assert settings.listeners == (("127.0.0.1:9021", "authenticated"),)


STORES = """
[[store]]
type = "sqlite"
path = "db/all.db"
[[store]]
type = "sqlite"
level = "ERROR"
path = "errors.db"
[[store]]
name = "archive"
type = "custom"
factory = "company.logs:Archive"
options = { tier = 2 }
"""


def test_stores_are_called_after_their_type() -> None:
    """Each has a name, absolute paths, and the keys of its own type."""
    settings = config.loads(STORES, "", STATE)
    assert [(store.type, store.name) for store in settings.store] == [
        ("sqlite", "sqlite"),
        ("sqlite", "sqlite-2"),
        ("custom", "archive"),
    ]
    first, second, third = settings.store
    assert isinstance(first, SqliteStoreSettings)
    assert first.path == "/state/db/all.db"
    assert not first.is_filtered
    assert second.is_filtered
    assert isinstance(third, CustomStoreSettings)
    assert third.options == {"tier": 2}
    assert config.loads(config.effective(settings)) == settings
    assert config.loads("store = []", "", STATE).store == ()


def test_by_default_records_go_to_sqlite() -> None:
    """Beside the files: in state_dir, for thirty days, with a full-text index; what is written out means the same."""
    (store,) = config.loads("", "", STATE).store
    assert isinstance(store, SqliteStoreSettings)
    assert (store.name, store.path, store.retain, store.full_text) == ("sqlite", "/state/records.db", "30d", True)
    assert config.loads('[[store]]\ntype = "sqlite"', "", STATE).store == (store,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[store]]\ntype = "nats"\npath = "x"', "x.toml:3: store.path: unknown key"),
        ("[[store]]\npath = 1", "store.type: must be one of sqlite, postgresql, nats, custom"),
        ('[[store]]\ntype = "sqlite"\npath = "a"\n[[store]]\ntype = "sqlite"\npath = "a"', "is the file of 'sqlite'"),
        ('[[store]]\ntype = "sqlite"\npath = "records.jsonl"', "is the file of 'records'"),
        ('[[store]]\ntype = "sqlite"\npath = "journal"', "is the collector's own file"),
        ('[[store]]\ntype = "nats"\nname = "a"\n[[store]]\ntype = "nats"\nname = "a"', "is taken by a store above"),
        ('[[store]]\ntype = "nats"\nlevel = "LOUD"', "store.level: 'LOUD' is no level"),
        ('[[store]]\ntype = "nats"\nloggers = [""]', "store.loggers: holds an empty name"),
        ('[[store]]\ntype = "nats"\nbatch_time = "2m"', "must be 60s or less"),
        ('[[store]]\ntype = "sqlite"\nretain = "0s"', "must be longer than nothing"),
        ('[[store]]\ntype = "custom"', 'must name what makes the store, such as "company.logs:Archive"'),
        ("store = 1", "must be a list of tables"),
        ("store = [1]", "must be a table"),
        ("[limits]\njournal_bytes = 1_048_576", "must hold two of limits.journal_segment_bytes or more"),
    ],
)
def test_a_store_that_cannot_be_used_is_explained(text: str, said: str) -> None:
    """Each mistake has a sentence that says what to do."""
    assert said in "\n".join(problems(text))


def test_another_store_is_taken_live() -> None:
    """A reload adds, changes and removes stores."""
    assert config.changes(config.loads("store = []"), config.loads(STORES)) == (["store"], [])


@pytest.mark.parametrize(
    "dsn",
    [
        "host=db1 password=geheim dbname=logs",
        "host=db1 password = 'geheim \\' geheim' dbname=logs",
        "postgresql://collector:geheim@db1/logs?sslmode=verify-full",
        "postgresql://db1/logs?password=geheim&sslpassword=geheim",
    ],
)
def test_no_password_is_printed(dsn: str) -> None:
    """What `check` prints may be shown to others; where the database is can still be read in it."""
    settings = config.loads(f'[[store]]\ntype = "postgresql"\ndsn = {json.dumps(dsn)}', "", STATE)
    text = config.printable(settings)
    assert "geheim" not in text
    assert "***" in text
    assert "db1" in text
    assert "logs" in text
    assert "geheim" in config.effective(settings)
    tomllib.loads(text)


RELATIVE = """
[server]
state_dir = "state"
bind = ["unix:run/a.sock"]
[[listener]]
address = "unix:b.sock"
[[output]]
path = "all.jsonl"
[[store]]
type = "sqlite"
"""


def paths(settings: Settings) -> list[str]:
    """Return every path of the settings that RELATIVE has."""
    store = settings.store[0]
    assert isinstance(store, SqliteStoreSettings)
    addresses = [*settings.server.bind, settings.listener[0].address]
    return [settings.server.state_dir, settings.output[0].path, store.path, *addresses]


def test_relative_paths_are_seen_from_the_directory_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay the same when a daemon, whose working directory is /, reads them again."""
    file = tmp_path / "etc" / "c.toml"
    file.parent.mkdir()
    file.write_text(RELATIVE)
    home = f"{tmp_path}/etc"
    expected = [
        f"{home}/state",
        f"{home}/state/all.jsonl",
        f"{home}/state/records.db",
        f"unix:{home}/run/a.sock",
        f"unix:{home}/b.sock",
    ]
    monkeypatch.chdir(tmp_path)
    assert paths(config.load(Path("etc/c.toml"))) == expected
    source = config.Source(file, {})
    monkeypatch.chdir("/")
    assert paths(source()) == expected
    assert config.state_dir_of(file) == f"{home}/state"


def test_what_is_in_the_state_directory_stays_there_over_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new state directory waits for a restart, and so does what is relative to it; the user's default is no other."""
    file = tmp_path / "c.toml"
    file.write_text('[server]\nstate_dir = "old"\n')
    source = config.Source(file, {})
    old = source()
    source.pin(old.server.state_dir)
    file.write_text('[server]\nstate_dir = "new"\n')
    new = source()
    assert config.changes(old, new) == ([], ["server.state_dir"])
    assert new.output == old.output
    file.write_text("")
    monkeypatch.setattr("os.geteuid", lambda: 65_534)
    assert config.changes(old, source()) == ([], [])


@pytest.mark.parametrize("home", [None, "somewhere/else"])
def test_a_user_without_a_home_directory_is_told(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    """Nothing is kept in a directory called ~, or in one that depends on the working directory."""
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    monkeypatch.setattr("os.getuid", lambda: 12_345)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(ConfigError, match="home directory of user 12345 is not known; set HOME, or give --state-dir"):
        config.loads("")
    assert config.loads("", "", STATE).server.state_dir == "/state"


def test_a_working_directory_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only relative paths need one."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert config.absolute("/x") == "/x"
    with pytest.raises(ConfigError, match="x: is relative, and the working directory was removed"):
        config.absolute("x")


@pytest.mark.parametrize("how", ["symlink", "hard link", "linked directory", "link to nothing yet", "dots"])
def test_two_outputs_with_one_file_are_refused(tmp_path: Path, how: str) -> None:
    """By whatever name: each would cut off what the other has written."""
    (tmp_path / "a").mkdir()
    first, second = tmp_path / "a" / "all.jsonl", tmp_path / "b.jsonl"
    if how != "link to nothing yet":
        first.touch()
    if how == "hard link":
        second.hardlink_to(first)
    elif how == "linked directory":
        (tmp_path / "b").symlink_to("a")
        second = tmp_path / "b" / "all.jsonl"
    elif how == "dots":
        second = tmp_path / "a" / ".." / "a" / "all.jsonl"
    else:
        second.symlink_to("a/all.jsonl")
    (said,) = problems(f'[[output]]\npath = "{first}"\n[[output]]\nlevel = "ERROR"\npath = "{second}"\n')
    assert "output[2].path: is the file of output 'all'; choose another" in said


@pytest.mark.parametrize(
    ("made", "output", "said"),
    [
        ("prefork-logd.log", "own.jsonl", "prefork-logd.log is the collector's own file"),
        ("rejected.jsonl", "own.jsonl", "rejected.jsonl is the collector's own file"),
        ("c.toml", "own.jsonl", "is the configuration file"),
        ("keys", "own.jsonl", "is server.keys_file"),
        ("dead-letters-sqlite.jsonl", "own.jsonl", "holds the dead letters of store 'sqlite'"),
        ("", "journal/commits.jsonl", "journal is the collector's own directory"),
        ("", "./journal", "journal is the collector's own file"),
        ("", "records-2026-11-28.db", "is a file of store 'sqlite'"),
        ("", "records-2026-11-28.db-wal", "is a file of store 'sqlite'"),
    ],
)
def test_an_output_is_no_other_file_of_the_collector(tmp_path: Path, made: str, output: str, said: str) -> None:
    """Not by a link either."""
    toml = f'[server]\nstate_dir = "{tmp_path}"\nkeys_file = "keys"\n[[output]]\npath = "{output}"\n'
    (tmp_path / "c.toml").write_text(toml)
    if made:
        (tmp_path / made).touch()
        (tmp_path / output).hardlink_to(tmp_path / made)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "c.toml")
    assert [said in str(problem) for problem in caught.value.problems] == [True]


def test_devices_may_be_several_outputs(tmp_path: Path) -> None:
    """A terminal or /dev/null takes lines of any number of outputs."""
    (tmp_path / "null").symlink_to("/dev/null")
    assert len(config.loads(f'[[output]]\npath = "/dev/null"\n[[output]]\npath = "{tmp_path}/null"\n').output) == 2


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:geheim%zz@127.0.0.1:1/db",
        "postgresql://u:geheim/x@127.0.0.1:1/db",
        "postgresql://u:p@geheim@127.0.0.1:1/db",
        "postgresql://u:ab#geheim?x@127.0.0.1:1/db",
        "postgresql://u:geheim@127.0.0.1:abc/db",
        "postgresql://127.0.0.1:1/db?password=geheim%zz",
        "postgresql://127.0.0.1:1/db?user=u&password=geheim&nonsense=1",
        "postgresql://127.0.0.1:1/db?passwor=geheim",
        "host=127.0.0.1 port=1 password=geheim x",
        "host=127.0.0.1 port=1 password = 'geheim",
        "host=127.0.0.1 port=1 password=a geheim",
        "host=127.0.0.1 port=1 PASSWORD=geheim",
        "host=127.0.0.1 port=geheim",
        "host=127.0.0.1 port=1 sslpassword=geheim",
        "host=u:geheim@127.0.0.1 port=1",
        "geheim",
    ],
)
def test_a_password_in_the_wrong_place_is_not_shown(dsn: str) -> None:
    """Neither by `check` nor in the error of a connection that cannot be made; what to do is."""
    settings = config.loads(f'[[store]]\ntype = "postgresql"\ndsn = {json.dumps(dsn)}', "", STATE)
    assert "geheim" not in config.printable(settings)
    link = pytest.importorskip("prefork_logd.stores.postgresql.link")
    with pytest.raises(StoreError) as caught:
        link.connect(dsn)
    assert "geheim" not in str(caught.value)
    assert len(str(caught.value)) > 30


def test_a_value_to_choose_comes_with_the_choices() -> None:
    """Of words, and of words beside numbers."""
    with pytest.raises(ConfigError) as caught:
        config.loads('server.workers = "x"\n[[output]]\non_error = "wait"\n')
    assert [problem.message for problem in caught.value.problems] == [
        "invalid value 'x'; write \"auto\" or a whole number",
        'invalid value \'wait\'; write "block" or "skip"',
    ]
