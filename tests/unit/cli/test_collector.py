"""Where `send` sends to when no address is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.cli.collector import choose_address
from prefork_logd.config.load import names_addresses

if TYPE_CHECKING:
    from pathlib import Path


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


def test_the_first_address_for_plain_records_is_chosen() -> None:
    """One with a port, for which no key is needed; there may be none."""
    keyed, picked, plain = ("a:1", "authenticated"), ("b:0", "any"), ("c:2", "any")
    assert choose_address([keyed, picked, plain]) == "c:2"
    assert choose_address([("unix:/x", "any"), plain]) == "unix:/x"
    assert choose_address([keyed, picked]) == ""
