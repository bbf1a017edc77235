"""Both ends prove that they know the key, and neither says it."""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.inputs.session import auth

KEYS = {b"old": b"k" * 32, b"new": b"n" * 32}
SERVER, CLIENT, SESSION = b"S" * 32, b"C" * 32, b"I" * 16


def test_the_mac_is_made_as_specified() -> None:
    """A client written from the specification alone computes the same."""

    def fields(*parts: bytes) -> bytes:
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    hashed = fields(b"prefork-logd client 1", SERVER, CLIENT, SESSION, b"old")
    assert auth.client_mac(KEYS[b"old"], SERVER, CLIENT, SESSION, b"old") == (
        hmac.new(KEYS[b"old"], hashed, hashlib.sha256).digest()
    )
    hashed = fields(b"prefork-logd server 1", CLIENT, SERVER, SESSION)
    assert auth.server_proof(KEYS[b"old"], CLIENT, SERVER, SESSION) == (
        hmac.new(KEYS[b"old"], hashed, hashlib.sha256).digest()
    )


@pytest.mark.parametrize("key_id", KEYS)
def test_every_key_is_valid_at_once(key_id: bytes) -> None:
    """Keys are changed by having both for a while."""
    mac = auth.client_mac(KEYS[key_id], SERVER, CLIENT, SESSION, key_id)
    assert auth.verify(KEYS, key_id, SERVER, CLIENT, SESSION, mac)


@given(st.integers(0, 5), st.integers(0, 31), st.integers(1, 255))
def test_a_change_of_any_field_is_refused(which: int, place: int, change: int) -> None:
    """The mac stands for this key, these nonces, this session and nothing else."""
    fields = [b"old", SERVER, CLIENT, SESSION, auth.client_mac(KEYS[b"old"], SERVER, CLIENT, SESSION, b"old")]
    keys = dict(KEYS)
    target = bytearray(fields[which] if which < 5 else keys[b"old"])
    target[place % len(target)] ^= change
    if which < 5:
        fields[which] = bytes(target)
    else:
        keys[b"old"] = bytes(target)
    assert not auth.verify(keys, *fields)


def test_no_key_is_guessed_for_an_unknown_one() -> None:
    """What an unknown key is compared with opens nothing, even to those who have read the source."""
    for guess in (b"", bytes(32)):
        mac = auth.client_mac(guess, SERVER, CLIENT, SESSION, b"unknown")
        assert not auth.verify(KEYS, b"unknown", SERVER, CLIENT, SESSION, mac)
        assert not auth.verify({}, b"unknown", SERVER, CLIENT, SESSION, mac)


def test_an_unknown_key_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash over as many bytes and one comparison, whether the key is known or not."""
    work: list[tuple[int, int]] = []
    digest = hmac.digest

    def counted(key: bytes, data: bytes, name: str) -> bytes:
        work.append((len(key), len(data)))
        return digest(key, data, name)

    monkeypatch.setattr(hmac, "digest", counted)
    for key_id in (b"old", b"odd"):
        assert not auth.verify(KEYS, key_id, SERVER, CLIENT, SESSION, bytes(32))
    assert work[0] == work[1]
    assert len(work) == 2


def test_one_sides_answer_is_none_of_the_others() -> None:
    """A proof cannot be sent back as a mac, whatever the nonces."""
    proof = auth.server_proof(KEYS[b"old"], CLIENT, SERVER, SESSION)
    for nonces in ((SERVER, CLIENT), (CLIENT, SERVER)):
        assert not auth.verify(KEYS, b"old", *nonces, SESSION, proof)


@given(st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_fields_cannot_be_shifted(session: bytes, key_id: bytes, other_session: bytes, other_id: bytes) -> None:
    """Two exchanges hash the same bytes only if they are the same, wherever their fields are cut."""
    key = b"k" * 32
    same = (session, key_id) == (other_session, other_id)
    first = auth.client_mac(key, SERVER, CLIENT, session, key_id)
    assert (first == auth.client_mac(key, SERVER, CLIENT, other_session, other_id)) == same


@pytest.mark.parametrize("mac", [b"", b"x", bytes(31), bytes(33)])
def test_a_mac_of_another_length_is_refused(mac: bytes) -> None:
    """And raises nothing."""
    assert not auth.verify(KEYS, b"old", SERVER, CLIENT, SESSION, mac)
