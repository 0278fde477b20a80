"""Pushes, sans-IO: an APDU from anybody becomes a `Notification` of a meter we know, or a counted refusal.

Order of the checks: is it a push · do we know the sender · is its protection what we ask of that sender · is
the tag right · does the body hold what a push holds · is the device in the body that sender · is it new (its
invocation counter rises, or its clock shows that the counter began anew). Only then is the counter noted, and only
then is there a notification.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import DataNotification, EventNotification
from protocols.dlms.companion import PushGrammar, companion
from protocols.dlms.data.cursor import Cursor, leading
from protocols.dlms.push.body import Payload, PushBody, body_of, event_of
from protocols.dlms.push.freshness import NOTHING, PushMark, judged, wall_seconds
from protocols.dlms.push.places import NoForm
from protocols.dlms.push.senders import PLAIN, CounterRestarts, KeyRing, PushPeer, ReplayStore, sender_key
from protocols.dlms.security import suites
from protocols.dlms.security.ciphered_forms import (
    AUTHENTICATED,
    GENERAL_DED,
    GENERAL_GLO,
)
from protocols.dlms.security.suites import Keys
from protocols.errors import MeterConfigError, MeterProtocolError, SecurityFailure

MAX_UNKNOWN = 256
"""Unknown senders that are remembered by name; the rest are counted together."""
MAX_NAME = 32


class PushRefusal(StrEnum):
    """Why a push was not taken; each is a counter of `PushStatistics`."""

    NOT_A_PUSH = "not_a_push"
    MALFORMED = "malformed"
    UNKNOWN_FORM = "unknown_form"
    UNKNOWN_SENDER = "unknown_sender"
    PLAIN_REFUSED = "plain_refused"
    WEAK_PROTECTION = "weak_protection"
    NO_KEYS = "no_keys"
    WRONG_KEY = "wrong_key"
    REPLAYED = "replayed"
    WRONG_DEVICE = "wrong_device"
    DEDICATED_KEY = "dedicated_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A push of a meter that we know, checked. `counter` is None for a plain one.

    `confirms` is the long invoke id of a push that wants to be confirmed once it is kept, None of all others;
    `answer` sends an APDU back to where such a push came from, and says whether it could be sent.
    """

    peer: PushPeer
    body: PushBody
    counter: int | None = None
    control: int = PLAIN
    confirms: int | None = None
    answer: Callable[[bytes], bool] | None = field(default=None, repr=False, compare=False)

    @property
    def payload(self) -> Payload:
        """What was pushed."""
        return self.body.payload


@dataclass(frozen=True, slots=True, kw_only=True)
class PushStatistics:
    """Counters since the start; `unknown` counts by title or device (hex or text), bounded.

    `restarted` are counters that began anew and were taken on the evidence of the meter's clock, `left_over` pushes
    with octets behind what was deciphered, which hide nothing. `unread` counts by meter what its keys opened and its
    companion has no form for, `replays` what was refused as replayed since the last push that was taken of a meter: one
    whose counter began anew without evidence stays there.
    """

    accepted: int = 0
    restarted: int = 0
    left_over: int = 0
    not_a_push: int = 0
    malformed: int = 0
    unknown_form: int = 0
    unknown_sender: int = 0
    plain_refused: int = 0
    weak_protection: int = 0
    no_keys: int = 0
    wrong_key: int = 0
    replayed: int = 0
    wrong_device: int = 0
    dedicated_key: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)
    replays: Mapping[str, int] = field(default_factory=dict)


class _PushRefused(Exception):
    """Carries the reason of a refusal to the one place that counts."""

    def __init__(self, reason: PushRefusal, sender: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.sender = sender


class PushReceiver:
    """Takes APDUs of any sender; whatever they hold, it gives a notification or counts a refusal."""

    def __init__(self, ring: KeyRing, replay: ReplayStore) -> None:
        self._ring = ring
        self._replay = replay
        self._accepted = 0
        self._restarted = self._left_over = 0
        self._refused: Counter[PushRefusal] = Counter()
        self._unknown: dict[str, int] = {}
        self._unread: Counter[str] = Counter()
        self._replays: Counter[str] = Counter()
        self._under_dedicated: dict[bytes, tuple[str, PushMark]] = {}

    def receive(
        self, apdu: bytes, bound: PushPeer | None = None, *, hint: PushPeer | None = None
    ) -> Notification | None:
        """Judge one APDU; `bound` is the meter that its connection is known to belong to.

        `hint` is the meter that a plain push is taken for where its body names none: the one that the address is
        known for, or that pushed on this connection before.

        Returns the notification, or None when the push is refused: the reason is counted then. Never raises
        a ProtocolError of the sender's making.
        """
        try:
            found = self._judge(apdu, bound, hint)
        except _PushRefused as refused:
            self._count(refused)
            return None
        except NoForm:  # a plain one: whose it is, only its connection or address can tell
            likely = bound or hint
            self._refused[PushRefusal.UNKNOWN_FORM] += 1
            if likely is not None:
                self._unread[likely.name] += 1
            return None
        except (MeterProtocolError, SecurityFailure):
            self._refused[PushRefusal.MALFORMED] += 1
            return None
        self._accepted += 1
        self._replays.pop(found.peer.name, None)
        return found

    def statistics(self) -> PushStatistics:
        """Return a frozen copy of the counters."""
        counts = {reason.value: self._refused[reason] for reason in PushRefusal}
        return PushStatistics(
            accepted=self._accepted,
            restarted=self._restarted,
            left_over=self._left_over,
            unknown=MappingProxyType(dict(self._unknown)),
            unread=MappingProxyType(dict(self._unread)),
            replays=MappingProxyType(dict(self._replays)),
            **counts,
        )

    def _count(self, refused: _PushRefused) -> None:
        self._refused[refused.reason] += 1
        if refused.reason is PushRefusal.UNKNOWN_FORM:  # of a meter of ours: there are only so many
            self._unread[refused.sender] += 1
        if refused.reason is PushRefusal.REPLAYED:
            self._replays[refused.sender] += 1
        if refused.reason is PushRefusal.UNKNOWN_SENDER:  # named for whoever has forgotten to add a meter
            known = refused.sender in self._unknown or len(self._unknown) < MAX_UNKNOWN
            name = refused.sender if known else "others"
            self._unknown[name] = self._unknown.get(name, 0) + 1

    def _judge(self, apdu: bytes, bound: PushPeer | None, hint: PushPeer | None) -> Notification:
        """Check an APDU in the order that the module's head gives; _PushRefused and what parsers raise."""
        tag = apdu[0] if apdu else -1
        if tag in notification.PLAIN_TAGS:
            return self._plain(notification.decode(apdu), bound, hint)
        if tag in (GENERAL_GLO, GENERAL_DED):
            return self._general(apdu, bound, dedicated=tag == GENERAL_DED)
        if tag in (notification.GLO_EVENT, notification.DED_EVENT):
            return self._of_service(apdu, bound, dedicated=tag == notification.DED_EVENT)
        raise _PushRefused(PushRefusal.NOT_A_PUSH)

    # plain

    def _plain(
        self,
        apdu: DataNotification | EventNotification,
        bound: PushPeer | None,
        hint: PushPeer | None,
    ) -> Notification:
        peer, body = self._said_to_be(apdu, bound or hint)
        if peer is None:
            raise _PushRefused(PushRefusal.UNKNOWN_SENDER, printable(body.device))
        if peer.required != PLAIN:  # anybody can write another meter's id into a plain push
            raise _PushRefused(PushRefusal.PLAIN_REFUSED)
        if bound is not None and bound.name != peer.name:
            raise _PushRefused(PushRefusal.WRONG_DEVICE)
        return Notification(peer=peer, body=body, confirms=_confirms(peer, apdu))

    def _said_to_be(
        self, apdu: DataNotification | EventNotification, likely: PushPeer | None
    ) -> tuple[PushPeer | None, PushBody]:
        """Return who pushed by what the body says, read as that meter pushes.

        Where it is not known whose it is, the grammars are tried in turn until one shows a meter of that grammar.
        """
        if isinstance(apdu, EventNotification):
            return likely, event_of(apdu)
        first: PushBody | None = None
        refused: MeterProtocolError | None = None
        for grammar in self._grammars(likely):
            try:
                body = body_of(apdu, grammar)
            except MeterProtocolError as error:
                refused = refused or error
                continue
            peer = self._ring.peer_of_device(body.device) if body.device else likely
            if peer is not None and peer.forms is grammar:
                return peer, body
            first = first or body
        if first is None:
            raise refused or NoForm("any companion", ())
        return None, first

    def _grammars(self, likely: PushPeer | None) -> Sequence[PushGrammar]:
        known = self._ring.grammars()
        if likely is None:
            return known or (companion().push,)
        return (likely.forms, *(grammar for grammar in known if grammar is not likely.forms))

    # ciphered

    def _general(self, apdu: bytes, bound: PushPeer | None, *, dedicated: bool) -> Notification:
        cursor = Cursor(apdu)
        cursor.u8()
        # it may be left out where both sides know it: then the connection must tell whose push it is
        title = cursor.take(cursor.length()) or (bound.title if bound is not None else b"")
        body = cursor.take(cursor.length())
        cursor.finish("general ciphering")
        peer = self._ring.peer_of_title(title) if len(title) == suites.TITLE_OCTETS else None
        if peer is None:
            raise _PushRefused(PushRefusal.UNKNOWN_SENDER, title[:MAX_NAME].hex())
        if bound is not None and bound.name != peer.name:
            raise _PushRefused(PushRefusal.WRONG_DEVICE)
        return self._ciphered(peer, title, body, dedicated=dedicated)

    def _of_service(self, apdu: bytes, bound: PushPeer | None, *, dedicated: bool) -> Notification:
        """Open a glo- or ded- APDU, which carries no title: only on a connection whose meter is known."""
        if bound is None or not bound.title:
            raise _PushRefused(PushRefusal.UNKNOWN_SENDER, "ded" if dedicated else "glo")
        cursor = Cursor(apdu)
        cursor.u8()
        body = cursor.take(cursor.length())
        cursor.finish("the ciphered APDU")
        return self._ciphered(bound, bound.title, body, dedicated=dedicated)

    def _ciphered(self, peer: PushPeer, title: bytes, ciphered: bytes, *, dedicated: bool) -> Notification:
        keys = self._dedicated_keys(title) if dedicated else self._keys(title)
        if not ciphered or ciphered[0] & peer.required != peer.required:  # before any work with its keys
            raise _PushRefused(PushRefusal.WEAK_PROTECTION)
        try:
            opened = _opened(keys, title, ciphered, peer.required)
        except _PushRefused as refused:
            if dedicated or refused.reason is not PushRefusal.WRONG_KEY:
                raise
            keys, opened = self._opened_otherwise(peer, title, ciphered)
        tagged = bool(opened.control & AUTHENTICATED)
        apdu, left = leading(opened.plain, notification.decode)
        try:
            body = event_of(apdu) if isinstance(apdu, EventNotification) else body_of(apdu, peer.forms)
        except NoForm:
            raise _PushRefused(PushRefusal.UNKNOWN_FORM, peer.name) from None
        self._check_device(peer, body.device, proved=tagged)
        # last of all: a counter noted for a push that is refused after all would shut out the meter's next
        self._take_counter(peer, keys, title, opened, body, dedicated=dedicated)
        self._left_over += bool(left)
        return Notification(
            peer=peer,
            body=body,
            counter=opened.counter,
            control=opened.control,
            confirms=_confirms(peer, apdu),
        )

    def _opened_otherwise(self, peer: PushPeer, title: bytes, ciphered: bytes) -> tuple[Keys, suites.Opened]:
        """Open a push with keys that the meter may hold while they are changed; refused where none opens it."""
        for keys in self._ring.other_keys(title):
            with suppress(_PushRefused):
                return keys, _opened(keys, title, ciphered, peer.required)
        raise _PushRefused(PushRefusal.WRONG_KEY)

    def _take_counter(
        self,
        peer: PushPeer,
        keys: Keys,
        title: bytes,
        opened: suites.Opened,
        body: PushBody,
        *,
        dedicated: bool,
    ) -> None:
        """Note that this counter was taken; refused where the push may have been played to us."""
        sender = sender_key(keys, title)
        if (
            dedicated
        ):  # its key ends with the association, and what was recorded under it is worth nothing then
            known, mark = self._under_dedicated.get(title, (sender, NOTHING))
            mark = mark if known == sender else NOTHING
        else:
            mark = self._replay.mark(sender)
        proves = bool(opened.control & AUTHENTICATED) or peer.restarts is CounterRestarts.BELIEVED
        evidence = proves and peer.restarts is not CounterRestarts.NEVER
        after = judged(mark, opened.counter, wall_seconds(body.clock), evidence=evidence)
        if after is None:
            raise _PushRefused(PushRefusal.REPLAYED, peer.name)
        self._restarted += after.counter <= mark.counter
        if dedicated:
            self._under_dedicated[title] = (sender, after)
        else:
            self._replay.note(sender, after)

    def _dedicated_keys(self, title: bytes) -> Keys:
        keys = self._ring.dedicated_keys(title)
        if keys is None:  # it lives and ends with an association, and none stands with this meter
            raise _PushRefused(PushRefusal.DEDICATED_KEY)
        return keys

    def _keys(self, title: bytes) -> Keys:
        try:
            keys = self._ring.keys_for(title)
        except MeterConfigError:
            keys = None
        if keys is None:
            raise _PushRefused(PushRefusal.NO_KEYS)
        return keys

    def _check_device(self, peer: PushPeer, device: str, *, proved: bool) -> None:
        """Check that a body names no other meter: none but this one where it is named and nothing proves the sender.

        One that names nobody was opened with this meter's key, under its title.
        """
        if device in peer.devices or (not device and not peer.pinned):
            return
        # makers write their own texts here: with a tag any text will do that is not another meter's of ours
        if peer.pinned or not proved or (device and self._ring.peer_of_device(device) is not None):
            raise _PushRefused(PushRefusal.WRONG_DEVICE)


def _opened(keys: Keys, title: bytes, ciphered: bytes, required: int) -> suites.Opened:
    try:
        opened = suites.unprotect(keys, title, ciphered, required=required)
    except SecurityFailure:
        raise _PushRefused(PushRefusal.WRONG_KEY) from None
    if opened.plain[:1] not in (b"\x0f", b"\xc2"):
        # without an authentication tag a wrong key shows itself as noise only
        tagged = opened.control & AUTHENTICATED
        raise _PushRefused(PushRefusal.NOT_A_PUSH if tagged else PushRefusal.WRONG_KEY)
    return opened


def _confirms(peer: PushPeer, apdu: DataNotification | EventNotification) -> int | None:
    """Return the invoke id of a push that wants to be confirmed, and whose sender means it."""
    if not isinstance(apdu, DataNotification) or not apdu.asks_confirmation:
        return None
    return apdu.invoke if (peer.confirm or peer.forms.confirm) == "asked" else None


def printable(name: str) -> str:
    """Return a stranger's name for logs and pages: short, ASCII, without control characters."""
    return "".join(c if " " < c <= "~" else "?" for c in name[:MAX_NAME]) or "(none)"
