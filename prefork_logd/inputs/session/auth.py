"""Computes and checks the proof that both ends know a shared secret, without sending it.

Owns the hashed bytes, and the comparison of hashes. Does not know sockets, files or random numbers: nonces and keys are
passed in. docs/protocol.md specifies the exchange.

Fields go into the hash with their lengths in front, so that no two different exchanges hash the same bytes; each
direction has a label of its own, so that neither end's answer can be sent back to it as the other's.
"""

from __future__ import annotations

import hmac
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NONCE_BYTES = 32
MAC_BYTES = 32

_CLIENT = b"prefork-logd client 1"
_SERVER = b"prefork-logd server 1"
_NO_KEY = bytes(MAC_BYTES)


def client_mac(key: bytes, server_nonce: bytes, client_nonce: bytes, session: bytes, key_id: bytes) -> bytes:
    """Return a client's answer to a challenge: 32 bytes."""
    return _mac(key, _CLIENT, server_nonce, client_nonce, session, key_id)


def server_proof(key: bytes, client_nonce: bytes, server_nonce: bytes, session: bytes) -> bytes:
    """Return the collector's proof in return: 32 bytes."""
    return _mac(key, _SERVER, client_nonce, server_nonce, session)


def verify(
    keys: Mapping[bytes, bytes], key_id: bytes, server_nonce: bytes, client_nonce: bytes, session: bytes, mac: bytes
) -> bool:
    """Return whether `mac` was made with the key that `key_id` names; every key in `keys` is valid.

    An unknown key costs the same work as a wrong mac, so that neither the answer nor its time shows which it was.
    """
    key = keys.get(key_id)
    right = client_mac(_NO_KEY if key is None else key, server_nonce, client_nonce, session, key_id)
    return hmac.compare_digest(right, mac) and key is not None


def _mac(key: bytes, *fields: bytes) -> bytes:
    return hmac.digest(key, b"".join(struct.pack(">I", len(field)) + field for field in fields), "sha256")
