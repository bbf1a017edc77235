"""Lists the inputs, and chooses the one of a connection: by its listener, and by its first byte.

Owns the list of inputs, one row each. Does not know sockets, or any input except by its row.

No stdlib frame begins with a byte above 0x0f (frames.LARGEST_HONEST_FRAME), so any protocol whose first byte is larger
can share the port with SocketHandler. A connection pays for the choice once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prefork_logd.inputs.base import Input, InputError, Terms
from prefork_logd.inputs.frames import LARGEST_HONEST_FRAME, FrameInput
from prefork_logd.inputs.json_lines import JsonLinesInput
from prefork_logd.inputs.session import messages
from prefork_logd.inputs.session.session_input import SessionInput
from prefork_logd.inputs.state import InputState

if TYPE_CHECKING:
    from collections.abc import Callable

ANY = "any"
"""A listener that accepts every input of the list."""
AUTHENTICATED = "authenticated"
"""A listener that accepts inputs with acknowledgements, from clients that know a secret."""


class Row(NamedTuple):
    """An input."""

    make: type[Input]
    title: str
    """Its name for people, in the plural."""
    first_byte: int | None = None
    """Its first byte. None: any byte that no other input begins with."""
    acknowledges: bool = False
    """Whether its clients keep records until they are committed, and are answered before they send any."""
    demand_tls: Callable[[bytes], bytes] = lambda _: b""
    """Returns the answer to a client that speaks it without TLS where TLS is required, by its first bytes."""
    way_to_tls: str = "let its program speak TLS as the documentation of TLS shows"
    """How such a client is mended, for people."""

    @property
    def name(self) -> str:
        """The name in listeners' `protocol`."""
        return self.make.tag


INPUTS: tuple[Row, ...] = (
    Row(
        *(SessionInput, "sessions", messages.FIRST_BYTE, True, messages.demand_tls),
        way_to_tls="give its SocketHandler tls=True",
    ),
    Row(JsonLinesInput, "JSON lines", ord("{")),
    Row(FrameInput, "plain frames"),
)
"""Every input; the one without a fixed first byte comes last."""

_BY_NAME = {row.name: row for row in INPUTS}


def choose(data: bytes | memoryview, admits: str, terms: Terms) -> Input:
    """Return the input for a connection whose first bytes are `data` (one or more).

    `admits` is the setting of its listener: the name of an input, ANY or AUTHENTICATED. Raises InputError for another
    protocol.
    """
    spoken = _recognise(data[0])
    if admits == ANY:
        return spoken.make(terms)
    row = _BY_NAME.get(admits)
    if row is not None and not row.acknowledges:
        # An input detects foreign bytes by itself.
        return row.make(terms)
    if spoken.acknowledges and row in (None, spoken):
        return spoken.make(terms)
    what = f"{spoken.title} are not accepted on this listener, only sessions"
    raise InputError("not-accepted", what, b"", [])


def demand_tls(head: bytes) -> tuple[bytes, str]:
    """Return the answer to a plain client where TLS is required, and a sentence for the log with the remedy.

    `head` has its first bytes, one or more. The answer is empty for clients that read none.
    """
    row = _recognise(head[0])
    is_known = row.first_byte is not None or head[0] <= LARGEST_HONEST_FRAME >> 24
    what = row.title if is_known else "something else than TLS"
    return row.demand_tls(head), f'sends {what}, and only TLS is taken; {row.way_to_tls}, or set tls = "accept"'


def is_answered(first: bytes, admits: str) -> bool:
    """Tell by its first byte whether a client waits for an answer before it sends records."""
    if admits == AUTHENTICATED or ((row := _BY_NAME.get(admits)) is not None and row.acknowledges):
        return True
    return bool(first) and _recognise(first[0]).acknowledges


def _recognise(byte: int) -> Row:
    return next(row for row in INPUTS if row.first_byte in (byte, None))


def dump_input(one: Input) -> InputState:
    """Return an input's state under its tag."""
    return InputState(one.tag, one.dump_state())


def load_input(state: InputState, terms: Terms) -> Input:
    """Return an input that continues from a dumped state. Raises ValueError for an invalid state."""
    row = _BY_NAME.get(state.tag)
    if row is None:
        raise ValueError(f"the state of an unknown input, {state.tag!r}")
    try:
        return row.make.load_state(state.state, terms)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a state of the input {state.tag!r}: {error}") from error
