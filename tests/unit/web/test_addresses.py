"""Addresses are printed as a browser takes them."""

from __future__ import annotations

from prefork_logd.web.addresses import page_urls


def test_addresses_are_urls() -> None:
    """A wildcard is reached at loopback; each address once."""
    found = page_urls(["127.0.0.1:9021", "0.0.0.0:9021", "[::]:1", "[2001:db8::1]:2", "unix:/run/x.sock"], "https", "t")
    assert found == [
        "https://127.0.0.1:9021/?token=t",
        "https://[::1]:1/?token=t",
        "https://[2001:db8::1]:2/?token=t",
        "unix:/run/x.sock",
    ]
    assert page_urls(["logs.example.org:80"], "http") == ["http://logs.example.org:80/"]
