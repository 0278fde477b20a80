"""Every trap of the field is a shipped fault script, and our client copes: right data or a named error.

`TRAPS` is the table: trap of the fact sheet (dlms-india, section 6) or fault of a line, script, framing and
what must come of it. Where rows can still be read they are compared with what the meter truly recorded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from protocols.conversations import Conversations
from protocols.dlms.session import DlmsSession
from protocols.errors import (
    AssociationRefused,
    LineClosed,
    MeterBusy,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
    ProtocolError,
    SecurityFailure,
)
from protocols.lines.tcp import TcpLine
from protocols.reading import Instant, Missing, MissingReason, Number, ProfileName, Quality, RelayState
from protocols.session import ReleaseMode
from protocols.simulator.faults.kinds import FAULT_KINDS, FaultKind
from protocols.simulator.faults.script import FaultScript, shipped
from tests.support.dlms.trap_site import TrapSite, energies, site
from tests.support.waiting import PATIENCE, waits_run_out

pytestmark = pytest.mark.virtual_time

LONGEST = 9.0
"""Seconds after which a read counts as hung: four timeouts (a request, two associations, the counter)."""
RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Trap:
    """`outcome`: RIGHT, or the errors that may be raised (right data are always welcome)."""

    trap: str
    script: str
    outcome: str | tuple[type[ProtocolError], ...] = RIGHT
    framing: str = "wrapper"


TRAPS = [
    Trap("deviation sign", "deviation-minus"),
    Trap("deviation sign", "deviation-unspecified"),
    Trap("clock octet-string or date-time", "clock-date-time"),
    Trap("buffers carry no unit", "scalers-empty"),
    Trap("buffers carry no unit", "scalers-bare"),
    Trap("column count differs", "columns-few"),
    Trap("data index, attribute -1 or odd order in the capture list", "captures-odd"),
    Trap("object list does not start with the association", "object-list-odd"),
    Trap("class differs for one OBIS", "class-differs"),
    Trap("month and day 0 in the time of a demand", "demand-time-zero"),
    Trap("null timestamp", "null-times"),
    Trap("null columns", "null-columns"),
    Trap("delta columns", "delta-columns"),
    Trap("null timestamp and columns", "null-both"),
    Trap("compact arrays", "compact-array"),
    Trap("order", "newest-first"),
    Trap("order", "unsorted"),
    Trap("duplicated rows", "rows-doubled"),
    Trap("whole-buffer read never ends", "whole-buffer-endless"),
    Trap("long answers are truncated", "answers-truncated"),
    Trap("range rounding", "range-on-the-hour"),
    Trap("range rounding", "range-start-exclusive"),
    Trap("no selective access: refused", "selection-refused"),
    Trap("no selective access: ignored", "selection-ignored"),
    Trap("one entry or very small blocks", "one-entry"),
    Trap("one entry or very small blocks", "blocks-small"),
    Trap("octets behind a result", "answers-padded"),
    Trap("octets behind a result", "answers-padded", framing="hdlc"),
    Trap("block numbers from 0", "blocks-from-zero"),
    Trap("segmented frames", "frames-small", framing="hdlc"),
    Trap("7E inside length, HCS or data", "frames-of-7e", framing="hdlc"),
    Trap("hostile lengths", "lengths-hostile-array", (MeterProtocolError,)),
    Trap("hostile lengths", "lengths-hostile-octets", (MeterProtocolError,)),
    Trap("LLC header twice in AARE", "llc-twice", framing="hdlc"),
    Trap("AARE fields out of order", "aare-out-of-order"),
    Trap("AARE mechanism id 85", "aare-mechanism-85"),
    Trap("negotiated conformance wrong", "aare-conformance-none"),
    Trap("user-information missing on refusal", "refused-bare", (AssociationRefused,)),
    Trap("user-information invalid on refusal", "refused-bad", (AssociationRefused,)),
    Trap("reply plain: AARE error", "refused-plain-error", (AssociationRefused,)),
    Trap("reply plain: exception", "plain-exception", (MeterRefused,)),
    Trap("reply plain: service error", "plain-service-error", (MeterRefused,)),
    Trap("reply plain: data", "plain-data", (SecurityFailure,)),
    Trap("a wrong authentication tag", "tag-wrong", (SecurityFailure,)),
    Trap("general-glo with empty system title", "title-empty"),
    Trap("dedicated key only", "dedicated-only"),
    Trap("release unsupported", "release-unanswered", (LineClosed,)),
    Trap("release unsupported", "release-unanswered", framing="hdlc"),
    Trap("closed between our associations", "closes-after-rlre"),
    Trap("closed between our associations", "closes-after-rlre", framing="hdlc-tcp"),
    Trap("closed between our associations", "half-closes-after-rlre"),
    Trap("closed between our associations", "half-closes-after-rlre", framing="hdlc-tcp"),
    Trap("closed between our associations", "closes-after-disc", framing="hdlc-tcp"),
    Trap("closed between our associations", "half-closes-after-disc", framing="hdlc-tcp"),
    Trap("release unsupported", "release-refused"),
    Trap("release unsupported", "release-refused", framing="hdlc"),
    Trap("HLS object elsewhere", "hls-elsewhere"),
    Trap("changing client on one HDLC link", "one-client-at-a-time", framing="hdlc"),
    Trap("slow first reply", "first-answer-slow"),
    Trap("slow first reply", "first-answer-slow", framing="hdlc"),
    Trap("long gaps", "gaps"),
    Trap("long gaps", "gaps", framing="hdlc"),
    Trap("an answer too late", "answers-late", (MeterSilent,)),
    Trap("an answer too late", "answers-late", (MeterError,), "hdlc"),
    Trap("noise between frames", "noise-between", (MeterError, LineClosed)),
    Trap("noise between frames", "noise-between", (MeterError,), "hdlc"),
    Trap("noise inside a frame", "noise-inside", (MeterError, LineClosed)),
    Trap("noise inside a frame", "noise-inside", (MeterError,), "hdlc"),
    Trap("a bit flipped", "bit-flipped", (MeterError, LineClosed)),
    Trap("a bit flipped", "bit-flipped", (MeterError,), "hdlc"),
    Trap("a frame dropped", "frame-dropped", (MeterSilent,)),
    Trap("a frame dropped", "frame-dropped", (MeterError,), "hdlc"),
    Trap("a frame duplicated", "frame-doubled", (MeterError,)),
    Trap("a frame duplicated", "frame-doubled", framing="hdlc"),
    Trap("the connection drops", "frames-cut", (LineClosed,)),
    Trap("the connection drops", "frames-cut", (MeterError,), "hdlc"),
    Trap("reboot in mid-block", "reboot-in-mid-block", (LineClosed,)),
    Trap("reboot in mid-block", "reboot-in-mid-block", (MeterError,), "hdlc"),
    Trap("stuck busy", "busy-once", (MeterBusy,)),
    Trap("stuck busy", "busy-stuck", (MeterBusy,)),
    Trap("RNR", "not-ready-once", (MeterError,), "hdlc"),
    Trap("RNR", "not-ready-stuck", (MeterError,), "hdlc"),
    Trap("an object without an answer", "silent-object", (MeterSilent,)),
]
ELSEWHERE = {
    "deviation-odd", "deviation-zero", "columns-changed", "rows-missing", "two-rows-one-stamp", "counter-reset",
    "counter-shown-low", "relay-stuck", "period-change-clears", "period-change-splits",
    "push-counter-restarts", "push-counter-stands",  # with the simulator, which pushes
    "clock-blue-book", "clock-from-utc", "clock-goes-wrong", "clock-wrong-once", "clock-stuck", "clock-slow",
    "write-unanswered", "write-lost", "money-swapped",
    "keys-unanswered", "keys-cut", "keys-refused", "keys-partly", "keys-late",
}  # fmt: skip
"""Scripts whose tests are below the table: more than one session, an order, or another comparison."""


@pytest.mark.parametrize("trap", TRAPS, ids=lambda t: f"{t.script}-{t.framing}")
async def test_the_client_copes(trap: Trap) -> None:
    async with site(trap.script, trap.framing) as meter:
        caught: ProtocolError | None = None
        try:
            with waits_run_out() as waits:
                async with asyncio.timeout(PATIENCE), meter.open() as session:
                    assert energies(await meter.blocks(session)) == meter.true_blocks()
        except ProtocolError as error:
            caught = error
        assert sum(waits) < LONGEST
        if caught is not None:
            assert not isinstance(trap.outcome, str), caught
            assert isinstance(caught, trap.outcome), repr(caught)
            assert len(str(caught)) > 10
        if trap.script in ONE_SHOT:
            await _right_afterwards(meter)


ONE_SHOT = {
    name for name, script in shipped().items() if script.faults and all(f.times for f in script.faults)
}
"""Scripts that end: after them the same client on the same line reads everything."""


async def _right_afterwards(meter: TrapSite) -> None:
    async with asyncio.timeout(PATIENCE):
        for attempt in range(3):  # a script may strike several times
            try:
                async with meter.open() as session:
                    assert energies(await meter.blocks(session)) == meter.true_blocks()
                    return
            except ProtocolError:
                if attempt == 2:
                    raise


def test_every_shipped_script_is_tested_and_every_kind_is_in_one() -> None:
    elsewhere = {
        name
        for name in shipped()
        # test_firmware_sockets.py, test_modbus_simulated_faults.py
        if name.startswith(("image-", "modbus-"))
    }
    assert {t.script for t in TRAPS} | ELSEWHERE | elsewhere == set(shipped())
    assert {f.kind for s in shipped().values() for f in s.faults} == set(FaultKind) == set(FAULT_KINDS)
    assert all(s.about for s in shipped().values())


async def test_an_odd_deviation_is_said_to_be_untrusted() -> None:
    async with site("deviation-odd") as meter, meter.open() as session:
        found = await meter.blocks(session)
        assert found
        assert all(s.meter_time is not None and not s.meter_time.trusted for s in found)
        assert {s.meter_time.deviation for s in found if s.meter_time} == {60}


async def test_columns_that_a_firmware_update_changed_are_read_again() -> None:
    async with site("columns-changed") as meter:
        firmware = []
        for _ in range(3):  # public and utility associate each time: the update comes between
            async with meter.open() as session:
                firmware.append((await session.identify()).firmware)
                found = await meter.blocks(session)
                assert energies(found) == meter.true_blocks()
                columns = len(found[0].values)
        assert firmware[0] != firmware[-1]
        assert columns == 3


async def test_missing_rows_are_missing_and_the_others_right() -> None:
    async with site("rows-missing") as meter, meter.open() as session:
        found = energies(await meter.blocks(session))
        true = meter.true_blocks()
        assert set(found) < set(true)
        assert len(found) > len(true) // 2


async def test_two_rows_with_one_stamp_are_two_occurrences() -> None:
    async with site("two-rows-one-stamp") as meter, meter.open() as session:
        found = await meter.blocks(session)
        assert [
            e for e, s in zip(energies(found), found, strict=True) if s.occurrence == 0
        ] == meter.true_blocks()
        assert {s.occurrence for s in found} == {0, 1}
        assert len({(s.at, s.occurrence) for s in found}) == len(found)


async def test_counters_that_fell_are_passed_by_our_own() -> None:
    async with site("counter-reset") as meter:
        for _ in range(3):
            async with meter.open() as session:
                assert energies(await meter.blocks(session)) == meter.true_blocks()
        assert meter.meter.model.frame_counter(48) == max(meter.counters.last.values())
        assert len(meter.counters.last) == 1


async def test_a_counter_shown_too_low_is_read_again_after_the_refusal() -> None:
    async with site("counter-shown-low") as meter:
        async with meter.open():
            pass
        meter.counters.last.clear()  # as after the loss of our own store: only the meter knows
        async with meter.open() as session:
            assert energies(await meter.blocks(session)) == meter.true_blocks()


async def test_a_stuck_relay_is_seen_by_reading_it_back() -> None:
    async with site("relay-stuck") as meter, meter.open() as session:
        await session.switch_relay(RelayState.OPEN)
        assert await session.relay() is RelayState.CLOSED


@pytest.mark.parametrize(
    ("script", "framing"),
    [
        ("closes-after-rlre", "wrapper"),
        ("half-closes-after-rlre", "wrapper"),
        ("closes-after-rlre", "hdlc-tcp"),
        ("closes-after-disc", "hdlc-tcp"),
    ],
)
async def test_a_meter_that_closes_after_each_association_is_read_at_every_poll(
    script: str, framing: str
) -> None:
    async with site(script, framing) as meter:
        for poll in range(1, 4):
            async with meter.open(release=ReleaseMode.PLAIN) as session:
                assert isinstance(session, DlmsSession)
                assert energies(await meter.blocks(session)) == meter.true_blocks()
                assert session.resumes == 0
            assert meter.line.statistics().connects == 1 + poll, "the counter is asked for once"


async def test_a_meter_that_closes_each_connection_at_once_is_not_called_again_and_again() -> None:
    calls = 0

    async def shut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    server = await asyncio.start_server(Conversations(shut), "127.0.0.1", 0)
    async with site("closes-after-rlre") as meter:
        line = TcpLine("shut", "127.0.0.1", server.sockets[0].getsockname()[1])
        meter.line = line
        with pytest.raises(LineClosed):
            async with meter.open():
                pass
        await line.close()
    server.close()
    assert calls == 1


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_a_date_is_no_amount_and_an_amount_no_date(framing: str) -> None:
    """Nobody is billed by what a meter wrote into the wrong place: it is missing, and the set is suspect."""
    async with site("money-swapped", framing) as meter, meter.open() as session:
        (found,) = [s async for s in session.read(ProfileName.PREPAYMENT)]
    wrong = Missing(MissingReason.OUT_OF_RANGE)
    named = {name: found.value(f"0-0:94.96.{what}*255") for name, what in MONEY.items()}
    assert [named[name] for name in ("last recharge", "recharged at", "balance", "balance at")] == [wrong] * 4
    assert isinstance(named["total"], Number)
    assert found.quality is Quality.SUSPECT
    async with site(FaultScript(), framing) as meter, meter.open() as session:
        (right,) = [s async for s in session.read(ProfileName.PREPAYMENT)]
    assert right.quality is Quality.VALID
    assert all(isinstance(right.value(f"0-0:94.96.{what}*255"), Number | Instant) for what in MONEY.values())


MONEY = {"last recharge": 21, "recharged at": 22, "total": 23, "balance": 24, "balance at": 25}
