"""A host name is taken apart strictly: other signs would change the URLs that are made of it."""

from __future__ import annotations

import pytest

from prefork_logd.config.web import WebSettings
from prefork_logd.web.headers import HostNames, host_name


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Logs.Example.org:80", "logs.example.org"),
        ("localhost.", "localhost"),
        ("[::1]:9021", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
        ("a/b", ""),
        ("a?b", ""),
        ("a#b", ""),
        ("a@b", ""),
        ("a\\b", ""),
        ("a b", ""),
        ("a:b", ""),
        ("a:123456", ""),
        ("[::1", ""),
        ("[::1]x", ""),
        ("[a/b]", ""),
        ("\u00e4", ""),
    ],
)
def test_names_of_hosts(host: str, name: str) -> None:
    assert host_name(host) == name


def test_the_names_of_a_page() -> None:
    """Those that are bound or configured, and loopback; with a wildcard every address, which cannot be rebound."""
    names = HostNames(
        WebSettings(bind=("logs.example.org:80", "192.0.2.1:80", "unix:/x"), hosts=("[2001:db8::1]", "B."))
    )
    for host in ("logs.example.org", "192.0.2.1:1", "[2001:db8::1]:1", "b", "localhost", "127.9.9.9", "x.localhost"):
        assert names.has(host), host
    for host in ("example.org", "192.0.2.2", "[2001:db8::2]", "localhost.example.org", ""):
        assert not names.has(host), host
    anywhere = HostNames(WebSettings(bind=("0.0.0.0:80",)))
    assert anywhere.has("192.0.2.2")
    assert anywhere.has("[2001:db8::2]")
    assert not anywhere.has("example.org")
