"""Declares the settings of `[[listener]]`, among them the names of inputs that `protocol` takes.

Owns their types, defaults, bounds and help. Opens no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from prefork_logd.config.values import (
    NOT_LIVE,
    split_address,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
