"""What is said of times: an edge's question and central's signed answer, and central's verdicts on captures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.contract.messages.base import MAX_SEQ, Decimals, Identifier, Message, Seq, UtcTime

Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""128 random bits, fresh for each question."""


Seconds = Annotated[str, Field(pattern=r"^-?[0-9]{1,10}(\.[0-9]{1,6})?$")]
"""Seconds, exact: up to three centuries, to the microsecond."""


class TimeRequest(Message):
    """An edge asks central for the time."""

    gateway: Identifier
    nonce: Nonce


class TimeAnswer(Message):
    """Central's time when it read a question; it travels signed (see `Signed`).

    `host` tells machines apart: an edge on the same one has the same clock and learns nothing. `trusted` says
    whether central has evidence for its own clock, `error` by how many seconds that may be off.
    """

    gateway: Identifier
    nonce: Nonce
    at: UtcTime
    host: Identifier
    trusted: bool
    error: Decimals


class TimeVerdict(Message):
    """Central's judgement on the times of one meter's captures in a range of a journal.

    `trusted` concerns the captures that were stamped with the reason `untrusted_time`: the instant of each is its
    `at` (and `start`) plus `shift` seconds (absent: none), and whose it is follows from that. `provisional` and
    `untrusted` put every capture that they cover under no account, for want of evidence or because of it. The
    highest `version` counts for each capture that it covers; `profile` narrows it to one. `capture_id` never
    changes.
    """

    verdict_id: Identifier
    meter: Identifier
    journal: Identifier
    first_seq: Seq
    last_seq: Seq
    profile: Identifier | None = None
    trust: Literal["trusted", "provisional", "untrusted"]
    shift: Seconds | None = None
    evidence: Annotated[str, Field(max_length=500)]
    generation: Identifier | None = None
    version: Annotated[int, Field(ge=1, le=MAX_SEQ)]
    at: UtcTime
