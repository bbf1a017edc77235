"""Checks passwords against scrypt hashes (RFC 7914), and makes such hashes.

Does not know requests. The form of a hash is in config/web.py.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING

from prefork_logd.config.web import ScryptHash, parse_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.config.web import WebUserSettings

LOG_N, R, P = 15, 8, 1
"""32 MiB and about 80 ms for each log-in."""
_SALT_BYTES, _KEY_BYTES = 16, 32
MOST_PASSWORD_BYTES = 1024
_SPARE_BYTES = 1 << 20


def hash_password(password: str) -> str:
    """Return the hash of a password, with a new salt, as `[[web.user]]` has it."""
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _derive(password, ScryptHash(LOG_N, R, P, salt, bytes(_KEY_BYTES)))
    return f"scrypt$ln={LOG_N},r={R},p={P}${_text(salt)}${_text(key)}"


def find_user(users: Iterable[WebUserSettings], name: str, password: str) -> WebUserSettings | None:
    """Return the user with this name and password; None if there is none.

    Takes as long for a name that does not exist, and has no branch on the password's content.
    """
    user = next((user for user in users if user.name == name), None)
    expected = parse_hash(user.password) if user is not None else _NOBODY
    is_right = secrets.compare_digest(_derive(password, expected), expected.key)
    return user if is_right and user is not None else None


def password_mark(user: WebUserSettings) -> str:
    """Return a short text that changes with a user's password. A session holds it, so a new password ends sessions."""
    return hashlib.sha256(user.password.encode()).hexdigest()[:16]


def _derive(password: str, parameters: ScryptHash) -> bytes:
    n, r, p = 1 << parameters.log_n, parameters.r, parameters.p
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass")[:MOST_PASSWORD_BYTES],
        salt=parameters.salt,
        n=n,
        r=r,
        p=p,
        maxmem=128 * r * (n + p) + _SPARE_BYTES,
        dklen=len(parameters.key),
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


_NOBODY = ScryptHash(LOG_N, R, P, bytes(_SALT_BYTES), secrets.token_bytes(_KEY_BYTES))
