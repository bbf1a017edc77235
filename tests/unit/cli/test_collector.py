"""Where `send` sends to when no address is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.cli.app import Flags
from prefork_logd.cli.collector import choose_address, warn_of_other_configuration
from prefork_logd.config.load import names_addresses
from prefork_logd.errors import ProcessError
from prefork_logd.system.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_whether_a_file_names_an_address(tmp_path: Path) -> None:
    """The default is no name; what cannot be read names none."""
    file = tmp_path / "c.toml"
    for text, named in (
        ("", False),
        ("[server]\nworkers = 1\n", False),
        ('[server]\nbind = ["127.0.0.1:9020"]\n', True),
        ("[[listener]]\n", True),
        ("[server\n", False),
    ):
        file.write_text(text)
        assert names_addresses(file) is named
    assert not names_addresses(None)


def test_a_command_without_the_collectors_file_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only where it would take the defaults; a collector that does not answer is no reason to fail."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFORK_LOGD_CONFIG", raising=False)
    monkeypatch.setattr("prefork_logd.config.load.SYSTEM_FILE", tmp_path / "none")
    monkeypatch.setattr("prefork_logd.cli.collector.find_running", lambda _: Running(1))
    flags = Flags()
    flags.update(None, str(tmp_path), (), None)
    settings = flags.load()

    def warned(answer: str | ProcessError) -> str:
        def ask(*_: object) -> dict[str, str]:
            if isinstance(answer, ProcessError):
                raise answer
            return {"config": answer}

        monkeypatch.setattr("prefork_logd.cli.collector.ask", ask)
        warn_of_other_configuration(flags, settings)
        return capsys.readouterr().err

    assert warned("/srv/c\x1b.toml").endswith("give --config /srv/c\\x1b.toml\n")
    assert warned("") == warned(ProcessError("hangs")) == ""
    (tmp_path / "prefork-logd.toml").write_text("")
    assert warned("/srv/c.toml") == ""


def test_a_user_without_a_state_directory_is_led_to_that_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service has it; `query` of a member of its group would find nothing, and not say where to look."""
    monkeypatch.chdir(tmp_path)
    own, system = tmp_path / "own", tmp_path / "system"
    monkeypatch.setattr("prefork_logd.cli.collector.find_running", lambda _: None)
    monkeypatch.setattr("prefork_logd.config.paths.SYSTEM_STATE_DIR", str(system))
    monkeypatch.setattr("prefork_logd.config.paths.default_state_dir", lambda: str(own))

    def warned(state_dir: Path) -> str:
        flags = Flags()
        flags.update(None, str(state_dir), (), None)
        warn_of_other_configuration(flags, flags.load())
        return capsys.readouterr().err

    assert warned(own) == ""
    system.symlink_to(tmp_path / "private")
    assert warned(tmp_path / "other") == ""
    assert warned(own) == f"prefork-logd: {own} is not there; for the system's collector give --state-dir {system}\n"
    own.mkdir()
    assert warned(own) == ""


def test_the_first_address_for_plain_records_is_chosen() -> None:
    """One with a port, for which no key is needed; there may be none."""
    keyed, picked, plain = ("a:1", "authenticated"), ("b:0", "any"), ("c:2", "any")
    assert choose_address([keyed, picked, plain]) == "c:2"
    assert choose_address([("unix:/x", "any"), plain]) == "unix:/x"
    assert choose_address([keyed, picked]) == ""
