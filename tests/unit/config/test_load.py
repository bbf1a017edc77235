"""A configuration is taken whole, or every reason against it is told with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefork_logd.config.changes import changes
from prefork_logd.config.load import (
    ENVIRONMENT_VARIABLE,
    FILE_NAME,
    ConfigSource,
    absolute,
    find_file,
    load,
    loads,
    state_dir_of,
)
from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.settings import Settings
from prefork_logd.config.show import effective
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import ConfigError
from tests.support.settings import STATE, STORES, problems


def test_an_empty_file_is_valid() -> None:
    """Every key has a default: one JSON output in the state directory."""
    settings = loads("", "", STATE)
    assert [(output.name, output.path, output.format) for output in settings.output] == [
        ("records", "/state/records.jsonl", "json")
    ]
    assert settings.server.bind == ("127.0.0.1:9020",)
    assert settings.limits.max_record_bytes == 1_048_576


def test_the_whole_example_of_the_contract_is_valid() -> None:
    """Every key that is promised is taken."""
    settings = loads(
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
    assert loads("store = []").output == loads("").output


def test_flags_take_the_place_of_keys_and_are_named_when_wrong() -> None:
    """The command line counts more than the file."""
    settings = loads("[server]\nworkers = 3", "", {**STATE, "workers": 5, "bind": ("h:1",)})
    assert (settings.server.workers, settings.server.bind) == (5, ("h:1",))
    assert problems("", bind=("nowhere",))[0].startswith("--bind: ")
    assert problems("", workers="many")[0].startswith("--workers: ")


def test_an_output_is_called_after_its_file_and_a_file_after_its_output() -> None:
    """Every key has a default, with several outputs, too."""
    settings = loads(
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


def test_files_are_looked_for_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag, environment, working directory, system."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prefork_logd.config.load.SYSTEM_FILE", tmp_path / "system.toml")
    assert find_file(None, {}) is None
    (tmp_path / "system.toml").touch()
    assert find_file(None, {}) == tmp_path / "system.toml"
    Path(FILE_NAME).touch()
    assert find_file(None, {}) == Path(FILE_NAME)
    assert find_file(None, {ENVIRONMENT_VARIABLE: "e.toml"}) == Path("e.toml")
    assert find_file("f.toml", {ENVIRONMENT_VARIABLE: "e.toml"}) == Path("f.toml")


@pytest.mark.parametrize("harm", ["owner", "link", "mode"])
def test_a_file_of_another_user_is_not_found_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """It could name commands that root then runs; a person who names the file wants it."""
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.toml"
    mine.touch()
    here = Path(FILE_NAME)
    if harm == "link":
        here.symlink_to(mine)
    else:
        here.touch(0o644)
    assert find_file(None, {}) == here
    if harm == "mode":
        here.chmod(0o666)
        what = "can be written by every user"
    else:
        monkeypatch.setattr(os, "geteuid", lambda: here.lstat().st_uid + 1)
        pretend_owner(monkeypatch, here, is_link=harm == "link")
        what = "belongs to another user"
    with pytest.raises(ConfigError, match=rf"{what}.*to use it, write --config prefork-logd.toml"):
        find_file(None, {})
    assert find_file(FILE_NAME, {}) == here


def pretend_owner(monkeypatch: pytest.MonkeyPatch, path: Path, *, is_link: bool) -> None:
    """Let a file, or the link alone, belong to a user who is neither root nor this one."""
    real = Path.lstat if is_link else Path.stat

    def status(self: Path, **flags: bool) -> os.stat_result:
        found = list(real(self, **flags))
        if self == path:
            found[4] = 54321
        return os.stat_result(found)

    monkeypatch.setattr(Path, real.__name__, status)


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A file that was named and is missing, or is no text, is an error and not an empty one."""
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml"):
        load(path)


def test_a_broken_file_still_tells_the_state_directory(tmp_path: Path) -> None:
    """`status` and `reload` find the running collector although its file became invalid."""
    path = tmp_path / "c.toml"
    path.write_text('[server]\nstate_dir = "/there"\nnonsense = 1')
    assert state_dir_of(path) == "/there"
    path.write_text("[server")
    assert state_dir_of(path) is None
    assert state_dir_of(None) is None


def test_levels_and_durations_mean_what_logging_and_people_mean() -> None:
    """Names of logging's, numbers, and the usual units."""
    assert OutputSettings(level="warning").levelno == 30
    assert OutputSettings(level="-5").levelno == -5
    assert OutputSettings(level=25).levelno == 25
    assert OutputSettings(rotate_every="1h").rotate_every_s == 3600
    assert Settings().limits.record_timeout_s == 30


def test_stores_are_called_after_their_type() -> None:
    """Each has a name, absolute paths, and the keys of its own type."""
    settings = loads(STORES, "", STATE)
    assert [(store.type, store.name) for store in settings.store] == [
        ("parquet", "parquet"),
        ("parquet", "parquet-2"),
        ("custom", "archive"),
    ]
    first, second, third = settings.store
    assert isinstance(first, ParquetStoreSettings)
    assert first.path == "/state/db/all"
    assert not first.is_filtered
    assert second.is_filtered
    assert isinstance(third, CustomStoreSettings)
    assert third.options == {"tier": 2}
    assert loads(effective(settings)) == settings
    assert loads("store = []", "", STATE).store == ()


def test_by_default_records_go_to_parquet_files() -> None:
    """Beside the output: in state_dir, for thirty days, bounded in bytes; what is written out means the same."""
    (store,) = loads("", "", STATE).store
    assert isinstance(store, ParquetStoreSettings)
    assert (store.name, store.path, store.retain) == ("parquet", "/state/records", "30d")
    assert store.retain_bytes == 20_000_000_000
    assert loads('[[store]]\ntype = "parquet"', "", STATE).store == (store,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[store]]\ntype = "nats"\npath = "x"', "x.toml:3: store.path: unknown key"),
        ("[[store]]\npath = 1", "store.type: must be one of parquet, postgresql, nats, custom"),
        (
            '[[store]]\ntype = "parquet"\npath = "a"\n[[store]]\ntype = "parquet"\npath = "a"',
            "is the file of 'parquet'",
        ),
        ('[[store]]\ntype = "sqlite"', 'x.toml:2: store.type: is not a type of store any more; write "parquet"'),
        ('[[store]]\ntype = "parquet"\npath = "records.jsonl"', "is the file of 'records'"),
        ('[[store]]\ntype = "parquet"\npath = "journal"', "is the collector's own file"),
        ('[[store]]\ntype = "nats"\nname = "a"\n[[store]]\ntype = "nats"\nname = "a"', "is taken by a table above"),
        ('[[store]]\ntype = "nats"\nlevel = "LOUD"', "store.level: 'LOUD' is not a level"),
        ('[[store]]\ntype = "nats"\nloggers = [""]', "store.loggers: holds an empty name"),
        ('[[store]]\ntype = "nats"\nbatch_time = "11m"', "must be 600s or less"),
        ('[[store]]\ntype = "parquet"\nretain = "0s"', "must be longer than 0"),
        ('[[store]]\ntype = "custom"', 'must name the callable that makes the store, such as "company.logs:Archive"'),
        ("store = 1", "must be a list of tables"),
        ("store = [1]", "must be a table"),
        ("[limits]\njournal_bytes = 1_048_576", "must be at least twice limits.journal_segment_bytes"),
    ],
)
def test_a_store_that_cannot_be_used_is_explained(text: str, said: str) -> None:
    """Each mistake has a sentence that says what to do."""
    assert said in "\n".join(problems(text))


RELATIVE = """
[server]
state_dir = "state"
bind = ["unix:run/a.sock"]
[[listener]]
address = "unix:b.sock"
[[output]]
path = "all.jsonl"
[[store]]
type = "parquet"
"""


def paths(settings: Settings) -> list[str]:
    """Return every path of the settings that RELATIVE has."""
    store = settings.store[0]
    assert isinstance(store, ParquetStoreSettings)
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
        f"{home}/state/records",
        f"unix:{home}/run/a.sock",
        f"unix:{home}/b.sock",
    ]
    monkeypatch.chdir(tmp_path)
    assert paths(load(Path("etc/c.toml"))) == expected
    source = ConfigSource(file, {})
    monkeypatch.chdir("/")
    assert paths(source()) == expected
    assert state_dir_of(file) == f"{home}/state"


def test_what_is_in_the_state_directory_stays_there_over_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new state directory waits for a restart, and so does what is relative to it; the user's default is no other."""
    file = tmp_path / "c.toml"
    file.write_text('[server]\nstate_dir = "old"\n')
    source = ConfigSource(file, {})
    old = source()
    source.pin(old.server.state_dir)
    file.write_text('[server]\nstate_dir = "new"\n')
    new = source()
    assert changes(old, new) == ([], ["server.state_dir"])
    assert new.output == old.output
    file.write_text("")
    monkeypatch.setattr("os.geteuid", lambda: 65_534)
    assert changes(old, source()) == ([], [])


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
        loads("")
    assert loads("", "", STATE).server.state_dir == "/state"


def test_a_working_directory_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only relative paths need one."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert absolute("/x") == "/x"
    with pytest.raises(ConfigError, match="x: is relative, and the working directory was removed"):
        absolute("x")


def test_limits_of_clients_have_names() -> None:
    """Their own, else their number."""
    settings = loads('[[limit]]\nconnections = 1\n[[limit]]\nname = "x"\nbytes_per_second = 1.5\n', "", STATE)
    assert [(limit.name, limit.bytes_per_second, limit.burst_s) for limit in settings.limit] == [
        ("limit-1", 0, 5.0),
        ("x", 1.5, 5.0),
    ]
    assert loads(effective(settings)) == settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "name = 'a'",
            "x.toml:1: limit: limits nothing; set connections, records_per_second, bytes_per_second or memory",
        ),
        (
            "connections = 1\npeers = ['10.0.0.1/8']",
            "x.toml:3: limit.peers: '10.0.0.1/8' has bits beyond its prefix; write an address",
        ),
        (
            "connections = 1\npeers = ['::ffff:10.0.0.0/104']",
            "'::ffff:10.0.0.0/104' never matches; write the address of IPv4, 10.0.0.0/8",
        ),
        ("name = 'limit-2'\nconnections = 1\n[[limit]]\nconnections = 1", "limit[2].name: 'limit-2' is taken"),
        ("connections = 1\nservices = ['']", "holds an empty name; leave the list empty for all clients"),
        ("records_per_second = 'x'", "x.toml:2: limit.records_per_second: expected a number, got a string"),
        ("records_per_second = nan", "x.toml:2: limit.records_per_second: expected a number >= 0.0"),
        ("records_per_second = 1\nburst = '10ms'", "limit.burst: must be one second or more"),
        ("memory = 5000", "limit.memory: must be at least twice limits.max_record_bytes, which is 1048576"),
        ("connections = 1\naction = 'drop'", '"drop" is for records_per_second and bytes_per_second'),
        ("connections = 1\nper = 'connection'", 'cannot be used with per = "connection"'),
        ("name = 'a'\nconnections = 1\n[[limit]]\nname = 'a'\nconnections = 1", "limit[2].name: 'a' is taken"),
        ("connections = 1\n" + "[[limit]]\nconnections = 1\n" * 64, "limit[65]: exceeds the limit of 64"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_an_error(text: str, problem: str) -> None:
    """With its place and the remedy."""
    assert any(problem in found for found in problems(f"[[limit]]\n{text}\n")), problems(f"[[limit]]\n{text}\n")
