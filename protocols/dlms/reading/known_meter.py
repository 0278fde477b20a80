"""What is known of one meter beside its layouts: who it was, how it takes lists, where it has what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from protocols.known import Notes
from protocols.reading import Nameplate
from protocols.session import DlmsSettings, ReleaseMode

NAMED_FOR = timedelta(days=1)
"""How long maker, model and year are taken to be what they were; serial and firmware are asked at every visit."""
MAX_NOTED = 256
"""Notes of one kind about one meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMeter:
    """What a meter showed under its present firmware.

    `nameplate` came with the system title `title`, in hex, at `named_at`. `lists`, `list_faults` and `list_ranges`
    are those of `client.list_size`. `places` says by quantity which of its places answered, `methods` by profile
    how rows are chosen where it is not by range, `capacities` how many rows an event log can hold, `whole` how many
    octets an answer had that nothing was left out of. `range_form` is the form of a range's deviation that rows
    have proved. `without` are attributes that the meter does not have. `goodbye` says that it refused an
    association, perhaps since the last one had not been released by RLRQ.
    """

    nameplate: Nameplate | None = None
    title: str = ""
    named_at: datetime | None = None
    lists: int = 0
    list_faults: int = 0
    list_ranges: bool = True
    places: Mapping[str, int] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    capacities: Mapping[str, int] = field(default_factory=dict)
    whole: Mapping[str, int] = field(default_factory=dict)
    range_form: int | None = None
    without: frozenset[str] = frozenset()
    goodbye: bool = False

    def named(self, now: datetime) -> bool:
        """Say whether the whole nameplate was read a short while ago."""
        return self.named_at is not None and timedelta() <= now - self.named_at < NAMED_FOR


class MeterNotes(Notes[KnownMeter]):
    """The notes of one session about its meter: what was known, and what it found out."""

    def __init__(self, known: KnownMeter | None = None) -> None:
        super().__init__(known or KnownMeter())

    def note_one(self, kind: str, name: str, value: int | str) -> None:
        """Note one entry of `places`, `methods`, `capacities` or `whole`."""
        held: Mapping[str, Any] = getattr(self.known, kind)
        if held.get(name) != value and (name in held or len(held) < MAX_NOTED):
            self.note(**{kind: {**held, name: value}})

    def lacks(self, target: str) -> None:
        """Note that the meter does not have an attribute."""
        if target not in self.known.without and len(self.known.without) < MAX_NOTED:
            self.note(without=self.known.without | {target})

    def new_firmware(self) -> None:
        """Forget all but the meter's manner with lists and associations: a new firmware is another meter."""
        known = self.known
        self.known = KnownMeter(
            list_faults=known.list_faults, list_ranges=known.list_ranges, goodbye=known.goodbye
        )


def with_release(settings: DlmsSettings, known: KnownMeter, *, kept: bool) -> DlmsSettings:
    """Settle how associations end: on HDLC by DISC alone, where a refusal after that would be remembered (`kept`)."""
    if settings.release is not ReleaseMode.AUTO:
        return settings
    alone = settings.framing == "hdlc" and kept and not known.goodbye
    return replace(settings, release=ReleaseMode.NONE if alone else ReleaseMode.PLAIN)
