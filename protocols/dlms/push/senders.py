"""Who may push: what a receiver knows of each meter, where its keys come from, what was taken of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from protocols.dlms.companion import PushGrammar, companion
from protocols.dlms.push.freshness import PushMark
from protocols.dlms.security.ciphered_forms import AUTHENTICATED_ENCRYPTED
from protocols.dlms.security.suites import Keys

PLAIN = 0


class CounterRestarts(StrEnum):
    """Whether a sender's counter may begin anew.

    PROVEN: where an authenticated push shows a later clock than all before. BELIEVED: where one that is encrypted
    only does, too, whose clock anybody on the way can alter. NEVER: only the operator can say so.
    """

    PROVEN = "proven"
    BELIEVED = "believed"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPeer:
    """A meter that may push: its name for us (`GEN:12345678`), how it shows itself, what we ask of it.

    `title` is its system title (empty when unknown: then it cannot push ciphered). `devices` are the texts
    by which its bodies may name it. `required` is the security control that its pushes must at least have
    (0x30, 0x20, 0x10), PLAIN to take them unprotected. With `pinned` a body must name one of `devices` even
    where an authentication tag proves the sender. `grammar` is how its bodies are read (None: IS 15959's),
    `restarts` whether its counter may begin anew, `confirm` whether its pushes are confirmed where they ask for it
    (`asked` or `never`; None: as the grammar says).
    """

    name: str
    title: bytes = b""
    devices: frozenset[str] = frozenset()
    required: int = AUTHENTICATED_ENCRYPTED
    pinned: bool = False
    grammar: PushGrammar | None = None
    confirm: str | None = None
    restarts: CounterRestarts = CounterRestarts.PROVEN

    @property
    def forms(self) -> PushGrammar:
        """How its bodies are read."""
        return self.grammar or companion().push


class KeyRing(Protocol):
    """Tells who may push and with which keys."""

    def peer_of_title(self, system_title: bytes) -> PushPeer | None:
        """Find a meter by its system title."""

    def peer_of_device(self, device: str) -> PushPeer | None:
        """Find a meter by the device id or serial that a body carries."""

    def keys_for(self, system_title: bytes) -> Keys | None:
        """Return the global keys of the meter with this title; MeterConfigError when they cannot be had."""

    def other_keys(self, system_title: bytes) -> Sequence[Keys]:
        """Return further global keys that the meter may hold, while they are being changed."""

    def dedicated_keys(self, system_title: bytes) -> Keys | None:
        """Return the dedicated keys of the association that stands with this meter; None when there is none."""

    def grammars(self) -> Sequence[PushGrammar]:
        """Return the grammars of all peers, each once."""


class ReplayStore(Protocol):
    """What was taken from each sender last. Durable before a notification has effects."""

    def mark(self, sender: str) -> PushMark:
        """Return what was taken from a sender; an empty mark for one that never pushed."""

    def note(self, sender: str, mark: PushMark) -> None:
        """Keep what was taken from a sender now."""


def usual_title(meter: str) -> bytes:
    """Guess a system title from `GEN:12345678`: FLAG letters, then the serial's digits as a number.

    Most Indian makers build it so (Green Book 4.3.4 leaves the five octets to them); empty where the serial
    has no digits or too many. A wrong guess only makes an unknown sender, whose true title is then counted.
    """
    maker, _, serial = meter.partition(":")
    digits = "".join(c for c in serial if c.isdigit() and c.isascii())
    if len(maker) != 3 or not digits or int(digits) >= 1 << 40:
        return b""
    return maker.encode("ascii", "replace") + int(digits).to_bytes(5, "big")


def sender_key(keys: Keys, title: bytes) -> str:
    """Name a sender's counter: new keys begin a new count, as they do in the meter; shows no secret."""
    return "push/" + hashlib.sha256(b"push" + keys.encryption + title).hexdigest()[:32]
