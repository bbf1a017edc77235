"""Makes an operator of NATS, an account and a user, with real keys: the credentials of servers and clients."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

import nkeys


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Key:
    def __init__(self, prefix: int, number: int) -> None:
        self.seed = nkeys.encode_seed(bytes([number]) * 32, prefix).decode()
        self._pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public = self._pair.public_key.decode()

    def signed(self, subject: _Key, name: str, content: dict[str, Any]) -> str:
        """Return a JWT in the form of nats-server."""
        claims = {
            "iat": int(time.time()), "iss": self.public, "name": name, "sub": subject.public,
            "nats": {"version": 2, **content},
        }  # fmt: skip
        digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
        claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
        head = _encoded(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
        signed = f"{head}.{_encoded(json.dumps(claims).encode())}"
        return f"{signed}.{_encoded(self._pair.sign(signed.encode()))}"


class Operator:
    """An operator with an account, which may use JetStream, and a user of it."""

    def __init__(self, number: int) -> None:
        operator, system, account, self._user = (
            _Key(prefix, number + index)
            for index, prefix in enumerate(
                (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT,
                 nkeys.PREFIX_BYTE_USER)
            )
        )  # fmt: skip
        unlimited = {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        }  # fmt: skip
        self._operator = operator.signed(operator, "O", {"type": "operator", "system_account": system.public})
        self._system = system.public
        self._accounts = {
            key.public: operator.signed(key, name, {"type": "account", "limits": limits})
            for key, name, limits in (
                (system, "SYS", {**unlimited, "mem_storage": 0, "disk_storage": 0, "streams": 0, "consumer": 0}),
                (account, "A", unlimited),
            )
        }
        self._user_jwt = account.signed(self._user, "logs", {"type": "user", "subs": -1, "data": -1, "payload": -1})

    def configuration(self) -> str:
        """Return the server configuration that trusts this operator."""
        accounts = "\n".join(f"{public}: {jwt}" for public, jwt in self._accounts.items())
        return (
            f"operator: {self._operator}\nsystem_account: {self._system}\nresolver: MEMORY\n"
            f"resolver_preload: {{\n{accounts}\n}}\n"
        )

    def credentials(self) -> str:
        """Return the user's .creds file."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self._user_jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self._user.seed}\n------END USER NKEY SEED------\n"
        )
