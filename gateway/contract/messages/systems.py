"""What a master system asks of the directory over the broker, and what central answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.contract.messages.base import Identifier, Message, Seq, UtcTime, Version

MAX_ASKED = 2_000
"""Changes of one message; larger sets come over the API or as a file."""
MAX_REFUSALS = 20


class ChangesAsked(Message):
    """A system asks for a change set, in its order: `sequence` counts from 1 without a gap. Signed by the system.

    `root` is the topics' root that it is meant for. `changes` are forms as in docs/api.openapi.json, each with its
    `kind`. `fingerprint` is that of a dry run over the API, where exactly that is to be applied. All are applied, or
    none. The same message again gets the same answer.
    """

    system: Identifier
    root: Identifier
    sequence: Seq
    changes: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=MAX_ASKED)]
    fingerprint: Annotated[str, Field(max_length=60)] | None = None
    reference: Annotated[str, Field(max_length=100)] | None = None
    at: UtcTime


class ChangeRefusal(Message):
    """Why a change is refused: its `place` in the list from 0 (none: the whole), a stable code, words."""

    place: Annotated[int, Field(ge=0)] | None = None
    code: Identifier
    words: Annotated[str, Field(max_length=500)]


class ChangesAnswered(Message):
    """What became of a change set. Signed by central.

    `applied`: as `directory_version`. `waiting`: for a second person; another answer follows. `rejected`: by that
    person. `refused`: nothing was changed, `refusals` say why; the sequence is used up. `hole`: nothing was taken,
    since `expected` comes first.
    """

    system: Identifier
    sequence: Seq
    state: Literal["applied", "waiting", "rejected", "refused", "hole"]
    change_set: Identifier | None = None
    directory_version: Version | None = None
    expected: Seq | None = None
    refusals: Annotated[tuple[ChangeRefusal, ...], Field(max_length=MAX_REFUSALS)] = ()
    at: UtcTime
