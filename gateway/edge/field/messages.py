"""What a command and a running edge say to each other on the edge's local socket.

A message is a length (4 octets, most significant first) and a JSON object of that many octets. A command asks for a
turn on a line, acts on the line while it has it, and gives it back. Nothing a stranger sends makes more of it than a
`FieldMessageError`; what it may claim in memory is bounded by MAX_MESSAGE.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from protocols.errors import LineClosed, LineError, LineTimeout, LineUnavailable

MAX_OCTETS = 72_000
"""Octets for a line in one message: the longest APDU with its wrapper, and what a line keeps for its talker."""
MAX_MESSAGE = 160_000
"""Octets of a message: `MAX_OCTETS` in hex, and room for the rest."""
MAX_WAIT = 3_600.0
"""Seconds that a command may wait for its turn at most."""
MAX_PURPOSE = 200
_HEAD = 4
Found = TypeVar("Found")


class FieldMessageError(Exception):
    """The other side sent what is no message; nothing more is read from it."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Hex = Annotated[str, Field(max_length=2 * MAX_OCTETS, pattern=r"^([0-9a-f]{2})*$")]
Text = Annotated[str, Field(max_length=2_000)]
Seconds = Annotated[float, Field(ge=0, le=MAX_WAIT)]
Number = Annotated[int, Field(ge=0, le=2**53)]
LineName = Annotated[str, Field(min_length=1, max_length=64)]


class Wire(_Message):
    """Settings of a serial line for one turn, where they are other than the edge's own; None leaves one as it is."""

    baud: Annotated[int, Field(ge=300, le=921_600)] | None = None
    parity: Literal["N", "E", "O"] | None = None
    stop_bits: Literal[1, 2] | None = None
    data_bits: Literal[7, 8] | None = None
    rs485: bool | None = None
    mode_e: bool | None = None
    mode_e_address: Annotated[str, Field(pattern=r"^[0-9A-Za-z ]{0,32}$")] | None = None


class Ask(_Message):
    """Ask for a turn on a line, waiting `wait` seconds at most.

    `purpose` is told to whoever looks, `meter` is the one that is meant, if one; `changes` says that something in a
    meter is changed, which is recorded. `place` is where the command believes that the line leads: a turn on another
    one would read another meter.
    """

    kind: Literal["ask"] = "ask"
    turn: Number
    line: LineName
    place: Annotated[str, Field(max_length=300)]
    purpose: Annotated[str, Field(max_length=MAX_PURPOSE)]
    meter: Annotated[str, Field(max_length=64)] | None = None
    changes: bool = False
    wire: Wire | None = None
    wait: Seconds = MAX_WAIT


class Act(_Message):
    """Do something on the line in our turn: what `protocols.line.LineIO` does, and hand on a push that came in it."""

    kind: Literal["act"] = "act"
    number: Number
    do: Literal["send", "receive", "drain", "hold_quiet", "hang_up", "reopen", "push"]
    octets: Hex = ""
    seconds: Seconds = 0.0


class StopAct(_Message):
    """Stop waiting for an act; it is answered all the same, perhaps with what came first."""

    kind: Literal["stop"] = "stop"
    number: Number


class Release(_Message):
    """Give the turn back."""

    kind: Literal["release"] = "release"


class Count(_Message):
    """Ask the edge's own invocation counters, where a meter's title is the edge's."""

    kind: Literal["count"] = "count"
    number: Number
    do: Literal["next", "believes", "confirm", "proven", "failed"]
    key: Annotated[str, Field(min_length=1, max_length=200)]
    counter: Annotated[int, Field(ge=0, le=2**32)] = 0


class Call(_Message):
    """Ask the edge to do something itself: `reload` and what else it knows by name."""

    kind: Literal["call"] = "call"
    name: Annotated[str, Field(pattern=r"^[a-z-]{1,32}$")]
    words: Annotated[tuple[Text, ...], Field(max_length=16)] = ()


Request = Annotated[Ask | Act | StopAct | Release | Count | Call, Field(discriminator="kind")]


class Waiting(_Message):
    """Others have the line; `seconds` until it is ours, as far as can be told."""

    kind: Literal["waiting"] = "waiting"
    turn: Number
    seconds: Seconds | None = None
    text: Text


class Granted(_Message):
    """The line is ours for `seconds`; `connects` counts its connections so far."""

    kind: Literal["granted"] = "granted"
    turn: Number
    seconds: Seconds
    connects: Number


class Refused(_Message):
    """There will be no turn; `code` is that of a line's error, or `usage`."""

    kind: Literal["refused"] = "refused"
    turn: Number
    code: Text
    text: Text


class Over(_Message):
    """The edge took the turn back."""

    kind: Literal["over"] = "over"
    turn: Number
    text: Text


class Done(_Message):
    """An act is done; what it gave: octets that came, a count, yes or no."""

    kind: Literal["done"] = "done"
    number: Number
    octets: Hex = ""
    count: Number = 0
    connects: Number = 0


class Failed(_Message):
    """An act failed; `code` is that of an error of `protocols.errors`, or `stopped`."""

    kind: Literal["failed"] = "failed"
    number: Number
    code: Text
    text: Text


class Called(_Message):
    """What came of a call: whether it was done, what it was about, and the rest in lines for people."""

    kind: Literal["called"] = "called"
    done: bool
    about: Annotated[str, Field(max_length=4_096)] = ""
    lines: Annotated[tuple[Text, ...], Field(max_length=64)] = ()


Answer = Annotated[Waiting | Granted | Refused | Over | Done | Failed | Called, Field(discriminator="kind")]
_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)

LINE_ERRORS: dict[str, type[LineError]] = {
    "line_timeout": LineTimeout,
    "line_closed": LineClosed,
    "line_unavailable": LineUnavailable,
}
"""The errors of a line that travel, by their code."""


def packed(message: _Message) -> bytes:
    """Return a message's octets on the socket."""
    body = message.model_dump_json(exclude_defaults=False, exclude_none=True).encode()
    return len(body).to_bytes(_HEAD, "big") + body


def request_of(body: bytes) -> Request:
    """Return the request that a message's JSON says; FieldMessageError for any other octets."""
    return _checked(_REQUEST, body)


def answer_of(body: bytes) -> Answer:
    """Return the answer that a message's JSON says; FieldMessageError for any other octets."""
    return _checked(_ANSWER, body)


def _checked(kind: TypeAdapter[Found], body: bytes) -> Found:
    try:
        return kind.validate_json(body)
    except (ValidationError, RecursionError) as error:
        first = (
            error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else "too deep"
        )
        raise FieldMessageError(f"no message of the field socket: {first}") from None


def body_length(head: bytes) -> int:
    """Return the length that follows a message's head; FieldMessageError where it is none that is taken."""
    length = int.from_bytes(head, "big")
    if not 2 <= length <= MAX_MESSAGE:
        raise FieldMessageError(f"a message of {length} octets: 2 to {MAX_MESSAGE} are allowed")
    return length


async def read_body(reader: asyncio.StreamReader) -> bytes | None:
    """Return the JSON of the next message, None at the end; FieldMessageError, ConnectionError."""
    try:
        head = await reader.readexactly(_HEAD)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise FieldMessageError("the socket ended within a message") from None
        return None
    try:
        return await reader.readexactly(body_length(head))
    except asyncio.IncompleteReadError:
        raise FieldMessageError("the socket ended within a message") from None
