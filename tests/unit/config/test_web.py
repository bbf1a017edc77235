"""The tables [web] and [[web.user]]: safe by default, and each unsafe combination is refused or warned about."""

from __future__ import annotations

import base64

import pytest

from prefork_logd.config.changes import changes
from prefork_logd.config.checks import warnings
from prefork_logd.config.load import loads
from prefork_logd.config.show import effective, printable
from prefork_logd.config.web import WebSettings, is_local, network_of, parse_hash
from tests.support.settings import STATE, problems

PART = base64.b64encode(bytes(range(33))).decode()
HASH = f"scrypt$ln=15,r=8,p=1${PART}${PART}"
USER = f'[[web.user]]\nname = "ada"\npassword = "{HASH}"\nrole = "admin"\n'


def test_the_page_is_on_loopback_by_default() -> None:
    """Without users: only this host can reach it, and the one-time token lets in."""
    web = loads("", "", STATE).web
    assert web.bind == ("127.0.0.1:9021",)
    assert web.is_by_default
    assert not web.is_public
    assert web.scheme == "http"
    assert (web.searches, web.deadline_s, web.session_lifetime_s) == (2, 10.0, 7 * 86_400)


def test_no_address_is_no_page() -> None:
    """It is the way to turn the page off."""
    assert loads("[web]\nbind = []", "", STATE).web.bind == ()


def test_a_relative_socket_is_seen_from_the_file() -> None:
    """As that of server.bind; files with secrets are seen from the state directory."""
    text = '[web]\nbind = ["unix:page.sock"]\ncertificate = "page.pem"\nkey = "page.key"'
    web = loads(text, "x.toml", STATE, directory="/etc/x").web
    assert web.bind == ("unix:/etc/x/page.sock",)
    assert (web.certificate, web.key, web.scheme) == ("/state/page.pem", "/state/page.key", "https")


@pytest.mark.parametrize("address", ["0.0.0.0:9021", "[::]:9021", "192.0.2.1:9021", "logs.example.org:9021"])
def test_an_address_that_others_reach_demands_a_log_in(address: str) -> None:
    """Otherwise everybody in the network could read the records."""
    bind = f'[web]\nbind = ["{address}"]\n'
    (problem,) = problems(bind)
    assert problem.startswith("x.toml:2: web.bind: ")
    assert "prefork-logd web user" in problem
    proxy = f'{bind}proxy_header = "X-User"\ntrusted_proxies = ["10.0.0.1"]\n'
    for text in (bind + USER, proxy):
        (warning,) = warnings(loads(text, "", STATE))
        assert "without TLS" in warning
    assert warnings(loads(f'{bind}certificate = "a"\nkey = "b"\n{USER}', "", STATE)) == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1", "unix:/run/x", "a.localhost:1"]
)
def test_an_address_of_this_host_does_not(address: str) -> None:
    """Loopback, by name or number, and Unix sockets."""
    assert is_local(address)
    assert loads(f'[web]\nbind = ["{address}"]', "", STATE).web.is_public is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web = 1", "web: must be a table"),
        ("[web]\nuser = 1", "web.user: must be a list of tables"),
        ('[web]\nbind = ["nowhere"]', "x.toml:2: web.bind: 'nowhere' is not an address"),
        ('[web]\nbind = ["[::1]:1", "[::1]:1"]', "lists an address twice"),
        ('[web]\nhosts = ["a b"]', "is not a host name"),
        ('[web]\nhosts = ["a.example:80"]', "without a port"),
        ('[web]\ncertificate = "a"', "TLS needs both files"),
        ('[web]\nkey = "a"', "TLS needs both files"),
        ('[web]\nproxy_header = "X-User"', "everybody could send proxy_header"),
        ('[web]\nproxy_header = "X User"\ntrusted_proxies = ["unix"]', "is not the name of a header"),
        ('[web]\ntrusted_proxies = ["proxy"]', "is not an address, a network"),
        ('[web]\ndeadline = "0s"', "must be longer than 0"),
        ("[web]\nsearches = 0", "x.toml:2: web.searches: "),
        ("[web]\nserches = 1", "did you mean 'searches'?"),
        ('[web]\nbind = ["127.0.0.1:9020"]', "takes records already"),
        ("[[web.user]]\npasword = 1", "x.toml:2: web.user.pasword: unknown key; did you mean 'password'?"),
        (f"{USER}{USER}", "x.toml:6: web.user[2].name: 'ada' is taken by a table above"),
    ],
)
def test_what_cannot_be_used_is_a_problem(text: str, said: str) -> None:
    """With its place and the remedy."""
    assert any(said in problem for problem in problems(text)), problems(text)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "ä", "a\\u0000"])
def test_a_name_has_plain_letters(name: str) -> None:
    """It stands in logs, headers and pages."""
    (problem,) = problems(f'[[web.user]]\nname = "{name}"\npassword = "{HASH}"')
    assert "needs 1 to 64 letters" in problem


@pytest.mark.parametrize(
    "text",
    [
        "",
        "geheim",
        f"scrypt$ln=9,r=8,p=1${PART}${PART}",
        f"scrypt$ln=19,r=8,p=1${PART}${PART}",
        f"scrypt$ln=18,r=16,p=1${PART}${PART}",
        f"scrypt$ln=15,r=17,p=1${PART}${PART}",
        f"scrypt$ln=15,r=8,p=5${PART}${PART}",
        f"scrypt$ln=15,r=8,p=1$AAAA${PART}",
        f"scrypt$ln=15,r=8,p=1${PART}$AAAA",
        f"scrypt$ln=15,r=8,p=1${PART}A${PART}",
        f"scrypt$ln=15,r=8,p=1${PART}${PART}\\n",
    ],
)
def test_a_hash_has_bounds(text: str) -> None:
    """A password itself is refused and not shown; a hash that would cost the page its memory, too."""
    (problem,) = problems(f'[[web.user]]\nname = "ada"\npassword = "{text}"')
    assert "prefork-logd web user NAME" in problem
    assert not text or "geheim" not in problem


def test_a_hash_is_read_whole() -> None:
    found = parse_hash(HASH)
    assert (found.log_n, found.r, found.p, found.salt, found.key) == (15, 8, 1, bytes(range(33)), bytes(range(33)))


def test_the_default_address_gives_way_to_a_listener() -> None:
    """A configuration that was written before there was a page keeps its meaning, and `check` warns."""
    settings = loads('[[listener]]\naddress = "127.0.0.1:9021"', "", STATE)
    assert settings.web.is_by_default
    (warning,) = warnings(settings)
    assert "there is no page" in warning


def test_a_listener_without_an_address_leaves_the_page_its_own() -> None:
    """The two defaults differ."""
    assert warnings(loads("[[listener]]", "", STATE)) == []


def test_settings_are_printed_and_read_again() -> None:
    """Users too; for people without the hashes."""
    settings = loads(f'[web]\nhosts = ["logs.example.org"]\n{USER}', "", STATE)
    assert loads(effective(settings)) == settings
    assert PART not in printable(settings)
    assert "ada" in printable(settings)
    assert "logs.example.org" in printable(settings)


def test_a_reload_takes_every_key() -> None:
    """Addresses and users change without a restart."""
    new = loads(f'[web]\nbind = ["[::1]:1"]\nsearches = 4\n{USER}', "", STATE)
    assert changes(loads("", "", STATE), new) == (["web.bind", "web.searches", "web.user"], [])


def test_no_output_may_be_written_beside_the_secrets() -> None:
    """A client that chooses a file name could replace one."""
    (problem,) = problems('[[output]]\npath = "page/x.jsonl"')
    assert "page is the collector's own directory" in problem


def test_networks() -> None:
    assert str(network_of("10.0.0.1")) == "10.0.0.1/32"
    assert str(network_of("10.0.0.0/8")) == "10.0.0.0/8"
    assert str(network_of("2001:db8::1/32")) == "2001:db8::/32"
    assert network_of("x") is None
    assert WebSettings(deadline="2m").deadline_s == 60.0
