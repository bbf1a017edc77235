"""Declares the settings of `[[listener]]`, among them the names of inputs that `protocol` takes.

Owns their types, defaults, bounds and help. Opens no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from prefork_logd.config.values import (
    NOT_LIVE,
    TableSettings,
    format_count,
    path_in,
    split_address,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class ListenerSettings(TableSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address to listen on besides those of server.bind, and the clients accepted there."""

    address: Annotated[str, Meta(min_length=1, description="As in server.bind; each address once.", extra=NOT_LIVE)] = (
        "127.0.0.1:9022"
    )
    accept: Annotated[
        Literal["any", "session", "authenticated"],
        Meta(
            description='"any": every client, also of plain frames; "session": only clients with acknowledgements; '
            '"authenticated": only those of them that know a secret of server.keys_file.',
            extra=NOT_LIVE,
        ),
    ] = "any"
    protocol: Annotated[
        Literal["any", "frames", "json", "session"],
        Meta(
            description='Protocol of the clients ([inputs](inputs.md)). "frames": that of SocketHandler; "json": JSON '
            'lines; "session": that of our handler; "any": chosen by the first bytes of a connection.',
            extra=NOT_LIVE,
        ),
    ] = "any"

    tls: Annotated[
        Literal["off", "accept", "require"],
        Meta(
            description='"off": plain connections; "require": TLS only; "accept": both, told apart by the first byte '
            "of a connection ([TLS](tls.md#the-listener)).",
            extra=NOT_LIVE,
        ),
    ] = "off"
    tls_cert: Annotated[
        str | tuple[str, ...],
        Meta(
            description="File with the certificate and its chain (PEM), relative to state_dir. A list of files: a "
            "client gets the certificate with the name that it asks for (SNI), else the first.",
            extra=NOT_LIVE,
        ),
    ] = ""
    tls_key: Annotated[
        str | tuple[str, ...],
        Meta(
            description="File with the private key of `tls_cert` (PEM, without a password); of a list one for each "
            "certificate, in the same order. Files are read again when they change, and at a reload.",
            extra=NOT_LIVE,
        ),
    ] = ""
    tls_client_ca: Annotated[
        str,
        Meta(
            description="File with the certificates of authorities (PEM). A TLS client then needs a certificate of one "
            "of them; the certificate's name is in its records as `peer_name`. Empty: no certificate is asked for.",
            extra=NOT_LIVE,
        ),
    ] = ""
    tls_min_version: Annotated[
        Literal["1.2", "1.3"], Meta(description="Oldest version of TLS that is spoken.", extra=NOT_LIVE)
    ] = "1.2"

    def resolved(self, home: str, address: str) -> ListenerSettings:
        """Return the settings with this address, and with files as absolute paths, seen from the directory `home`."""
        paths: dict[str, str | tuple[str, ...]] = {}
        for key in ("tls_cert", "tls_key", "tls_client_ca"):
            files = getattr(self, key)
            paths[key] = (
                tuple(path_in(home, file) for file in files) if isinstance(files, tuple) else path_in(home, files)
            )
        return msgspec.structs.replace(self, address=address, **paths)

    @property
    def tls_pairs(self) -> tuple[tuple[str, str], ...]:
        """The files of each certificate: (certificate, key)."""
        return tuple(zip(_listed(self.tls_cert), _listed(self.tls_key), strict=False))

    @property
    def admits(self) -> str:
        """`accept` and `protocol` as one word: "any", an input's name, or "authenticated"."""
        return self.protocol if self.accept == "any" else self.accept

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        try:
            split_address(self.address)
        except ValueError as error:
            yield "address", str(error)
        if self.accept != "any" and self.protocol not in ("any", "session"):
            yield (
                "protocol",
                f'"{self.protocol}" has no acknowledgements, and accept = "{self.accept}" demands them; leave one out',
            )
        yield from self._tls_problems()

    def _tls_problems(self) -> Iterator[tuple[str, str]]:
        certificates, keys = _listed(self.tls_cert), _listed(self.tls_key)
        if self.tls == "off":
            for key in ("tls_cert", "tls_key", "tls_client_ca"):
                if getattr(self, key):
                    yield (
                        key,
                        'has no effect with tls = "off"; write tls = "require", or "accept" for plain clients too',
                    )
            return
        if self.address.startswith("unix:"):
            yield "tls", "is for TCP addresses; leave it out for a Unix socket, whose users the kernel names"
        for key, files in (("tls_cert", certificates), ("tls_key", keys)):
            if not files or not all(files):
                yield key, f'is missing; tls = "{self.tls}" needs tls_cert and tls_key'
            elif any("\0" in file for file in files):
                yield key, "holds a NUL character, which a path cannot"
        if certificates and keys and len(certificates) != len(keys):
            yield (
                "tls_key",
                f"names {format_count(len(keys), 'file')}, and tls_cert {len(certificates)}; name as many keys",
            )


def _listed(files: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the files of a setting that is one file or a list of them."""
    return files if isinstance(files, tuple) else (files,) if files else ()
