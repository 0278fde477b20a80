"""What octets of pushes say when they are read by a grammar: for whoever writes one, or wonders why nothing comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import EventNotification
from protocols.dlms.companion import PushGrammar
from protocols.dlms.data.cursor import leading
from protocols.dlms.push.body import Alert, PushBody, PushedRows, PushedValues, body_of, event_of
from protocols.dlms.push.forms import forms_of
from protocols.dlms.push.framing import PushStream
from protocols.dlms.push.layout import companion_layouts, pushed_sets
from protocols.dlms.push.places import NoForm
from protocols.dlms.push.values import alert_set, value_set
from protocols.dlms.security.ciphered_forms import AUTHENTICATED, is_ciphered
from protocols.dlms.security.ciphering import KeySet, unprotect_apdu
from protocols.errors import MeterProtocolError, SecurityFailure
from protocols.reading import ReadingSet
from protocols.unused import UnusedCounter, UnusedFrames

ASKED = "does not fit the standard's columns; the edge asks the meter for its own"
PUSHES = tuple(bytes((tag,)) for tag in notification.PLAIN_TAGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedPush:
    """One push: what its body said, the sets that it makes, and what is wrong with it, if anything.

    `title` is the sender's system title, `control` the security control; both are empty for a plain push. `also` are
    the forms behind the one that was used that the body fits, too.
    """

    title: bytes = b""
    control: int = 0
    counter: int | None = None
    body: PushBody | None = None
    sets: tuple[ReadingSet, ...] = ()
    mistakes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedOctets:
    """The pushes in some octets, how they were framed, and what was in no push."""

    framing: str
    pushes: tuple[ExplainedPush, ...]
    mistakes: tuple[str, ...] = ()


def explained(
    octets: bytes,
    grammar: PushGrammar,
    *,
    keys: KeySet | None,
    titles: Sequence[bytes] = (),
    zone: ZoneInfo,
    received_at: datetime,
) -> ExplainedOctets:
    """Read all pushes in octets, framed in any way, by a grammar; nothing in the octets raises.

    `keys` open ciphered ones of any protection, with the title that they carry or else one of `titles`. Counters are
    not compared.
    """
    unused = UnusedCounter()
    stream = PushStream(max(len(octets), 1), unused)
    apdus = stream.receive(octets) + stream.finish()
    mistakes = [f"framing: {stream.broken}"] if stream.broken else []
    if any(unused.values()):
        mistakes.append(f"not used: {UnusedFrames.of(unused)}")
    if not apdus and not mistakes:
        mistakes.append("there is no push in the octets")
    found = tuple(
        _push(apdu.octets, grammar, keys, titles or (b"",), zone=zone, received_at=received_at)
        for apdu in apdus
    )
    return ExplainedOctets(framing=stream.framing or "none", pushes=found, mistakes=tuple(mistakes))


def _push(
    apdu: bytes,
    grammar: PushGrammar,
    keys: KeySet | None,
    titles: Sequence[bytes],
    *,
    zone: ZoneInfo,
    received_at: datetime,
) -> ExplainedPush:
    title, control, counter = b"", 0, None
    if is_ciphered(apdu):
        if keys is None:
            return ExplainedPush(mistakes=("the push is ciphered: give its keys (--key-file)",))
        problem = ""
        for known in titles:
            try:
                opened = unprotect_apdu(keys, known, apdu, required=0)
            except (SecurityFailure, MeterProtocolError) as error:
                problem = problem or str(error)
                continue
            apdu, title, control, counter = opened.plain, opened.title, opened.control, opened.counter
            break
        else:
            return ExplainedPush(mistakes=(f"not deciphered: {problem}",))
        if apdu[:1] not in PUSHES and not control & AUTHENTICATED:
            return ExplainedPush(
                title=title, control=control, counter=counter, mistakes=("deciphered to noise: wrong key?",)
            )
    try:
        pushed, _ = leading(apdu, notification.decode)
        body = event_of(pushed) if isinstance(pushed, EventNotification) else body_of(pushed, grammar)
    except NoForm as error:
        reasons = error.reasons or (f"{grammar.name} declares no forms ([[push.forms]])",)
        return ExplainedPush(title=title, control=control, counter=counter, mistakes=reasons)
    except MeterProtocolError as error:
        return ExplainedPush(title=title, control=control, counter=counter, mistakes=(str(error),))
    sets, mistakes = _sets(body, zone, received_at)
    return ExplainedPush(
        title=title,
        control=control,
        counter=counter,
        body=body,
        sets=sets,
        mistakes=mistakes,
        also=() if isinstance(pushed, EventNotification) else forms_of(grammar, pushed.body)[1:],
    )


def _said(
    body: PushBody, values: PushedValues, zone: ZoneInfo, received_at: datetime
) -> tuple[tuple[ReadingSet, ...], tuple[str, ...]]:
    """Return the sets of values and of the rows beside them, those by the standard's columns."""
    sets: list[ReadingSet] = []
    mistakes: list[str] = []
    if values.says_something or not values.buffers:
        try:
            sets.append(value_set(body, values, zone=zone, received_at=received_at))
        except MeterProtocolError as error:
            mistakes.append(str(error))
    for buffer in values.buffers:
        layout = companion_layouts().get(buffer.obis)
        rows = replace(body, payload=PushedRows(buffer.rows))
        try:
            if layout is None:
                raise MeterProtocolError("its columns are not declared")
            sets += pushed_sets(layout, rows, zone=zone, received_at=received_at)
        except MeterProtocolError as error:
            mistakes.append(f"{len(buffer.rows)} rows of {buffer.obis}: what came {ASKED}: {error}")
    return tuple(sets), tuple(mistakes)


def _sets(
    body: PushBody, zone: ZoneInfo, received_at: datetime
) -> tuple[tuple[ReadingSet, ...], tuple[str, ...]]:
    match body.payload:
        case Alert() as alert:
            return (alert_set(body, alert, zone=zone, received_at=received_at),), ()
        case PushedValues() as values:
            return _said(body, values, zone, received_at)
    layout = companion_layouts().get(body.setup) if body.setup is not None else None
    if layout is None:
        return (), (f"what push setup {body.setup} sends is not declared",)
    try:
        return pushed_sets(layout, body, zone=zone, received_at=received_at), ()
    except MeterProtocolError as error:
        return (), (f"it {ASKED}: {error}",)
