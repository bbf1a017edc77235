"""What a proxy says about a request is believed only if the proxy is trusted."""

from __future__ import annotations

from typing import Any

import pytest

from prefork_logd.config.web import WebSettings
from prefork_logd.web.proxies import Proxies, peer


def scope(client: str | None, *headers: tuple[str, str], scheme: str = "http") -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return {"type": "http", "client": (client, 1) if client else None, "scheme": scheme, "headers": raw}


PROXIES = Proxies(WebSettings(proxy_header="X-User", trusted_proxies=("10.0.0.0/8", "2001:db8::1", "unix")))
FOR = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8::1", True),
        ("2001:db8::2", False),
        ("unix", True),
        ("nonsense", False),
        ("", False),
    ],
)
def test_addresses_and_networks_are_trusted(address: str, is_trusted: bool) -> None:
    assert PROXIES.trusts(address) is is_trusted
    assert not Proxies(WebSettings()).trusts(address)


@pytest.mark.parametrize(
    ("request_scope", "client"),
    [
        (scope("192.0.2.1", (FOR, "198.51.100.1")), "192.0.2.1"),
        (scope("10.0.0.1", (FOR, "198.51.100.1")), "198.51.100.1"),
        (scope("10.0.0.1", (FOR, "1.1.1.1, 198.51.100.1, 10.0.0.2")), "198.51.100.1"),
        (scope("10.0.0.1", (FOR, "1.1.1.1"), (FOR, "198.51.100.1")), "198.51.100.1"),
        (scope("10.0.0.1", (FOR, "")), "10.0.0.1"),
        (scope("10.0.0.1"), "10.0.0.1"),
        (scope(None, (FOR, "198.51.100.1")), "198.51.100.1"),
        (scope(None), "unix"),
        (scope("10.0.0.1", (FOR, "x" * 1000)), "x" * 64),
        (scope("10.0.0.1", (FOR, ", ".join(["10.0.0.2"] * 500))), "10.0.0.2"),
    ],
)
def test_the_client_is_the_last_address_that_no_proxy_has(request_scope: dict[str, Any], client: str) -> None:
    """What stands before it is the client's own invention."""
    assert PROXIES.client(request_scope) == client


@pytest.mark.parametrize(
    ("request_scope", "user"),
    [
        (scope("10.0.0.1", ("X-User", "ada")), "ada"),
        (scope("10.0.0.1", ("X-User", " ")), ""),
        (scope("10.0.0.1", ("X-User", "ada"), ("X-User", "eve")), ""),
        (scope("10.0.0.1", ("X-Other", "ada")), ""),
        (scope("192.0.2.1", ("X-User", "ada")), ""),
    ],
)
def test_the_user_is_the_one_whom_the_proxy_names(request_scope: dict[str, Any], user: str) -> None:
    assert PROXIES.user(request_scope) == user
    assert Proxies(WebSettings(trusted_proxies=("10.0.0.0/8",))).user(request_scope) == ""


@pytest.mark.parametrize(
    ("request_scope", "is_secure"),
    [
        (scope("192.0.2.1", scheme="https"), True),
        (scope("192.0.2.1", ("X-Forwarded-Proto", "https")), False),
        (scope("10.0.0.1", ("X-Forwarded-Proto", "HTTPS")), True),
        (scope("10.0.0.1", ("X-Forwarded-Proto", "http")), False),
        (scope("10.0.0.1", ("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")), False),
    ],
)
def test_tls_of_the_browser(request_scope: dict[str, Any], is_secure: bool) -> None:
    assert PROXIES.is_secure(request_scope) is is_secure


def test_the_peer_of_a_unix_socket() -> None:
    assert peer(scope(None)) == "unix"
