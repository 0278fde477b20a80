"""One visit of a firmware upgrade as a state machine without I/O (Blue Book 4.4.6).

Each visit looks at what the meter shows and at what was kept, and goes on from there: it may have been cut off at any
step, by us or by the meter. Three rules hold whatever the meter answers: an image that does not fit never goes to it,
an image is told to be activated only after the meter has verified it and named it as ours, and only once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.cosem_dates import CosemDate, CosemTime
from protocols.dlms.firmware.asking import Asking, Doing, ImageObjects
from protocols.dlms.firmware.image import FirmwareImage
from protocols.dlms.firmware.steps import (
    Activation,
    How,
    Kept,
    Note,
    Phase,
    Rest,
    Set,
    Steps,
    VisitEnd,
    again,
    done,
    failed,
)
from protocols.dlms.objects.codec import show_octets
from protocols.dlms.objects.image import (
    MAX_BLOCK,
    ImageBlock,
    ImageInfo,
    ImageStatus,
    Initiation,
)
from protocols.dlms.objects.schedules import ExecutionTime, SingleActionSchedule
from protocols.errors import AssociationLost, LocalError, MeterBusy, MeterRefused, NotSupported, ProtocolError
from protocols.reading import Nameplate

MAX_ROUNDS = 8
"""Times that the transfer begins anew: a meter that forgets blocks at each power cut may have several."""
MAX_SENDINGS = 2
"""Transfers after which a meter that cannot verify the image is given up."""
MAX_STALE = 3
"""Looks in a row at which no more blocks are there: the rest is left to another visit."""
POLLS, POLL_SECONDS = 24, 5.0
"""How often, and how many seconds apart, a visit asks whether the verification is over."""
LATER = timedelta(minutes=2)
"""How long a meter that is busy is left alone."""
SOONEST = timedelta(minutes=1)
"""How far in the future a scheduled activation must lie."""


def upgrade(
    image: FirmwareImage,
    activation: Activation,
    objects: ImageObjects,
    *,
    plate: Nameplate,
    kept: Kept,
    zone: ZoneInfo,
) -> Steps:
    """Return the steps of one visit; what they come to is the generator's value.

    `plate` is who answers now, `kept` what the visit before kept. Errors that are thrown in and not survived come out.
    """
    return _Upgrade(image, activation, objects, plate, kept, zone).visit()


class _Upgrade(Asking):
    def visit(self) -> Steps:
        version = yield from self._version()
        now = yield from self._now()
        if version == self._image.version:
            return (yield from self._runs_it(now.at))
        if self._kept.phase is Phase.COMMITTED:
            return (yield from self._runs_another(version, now.at))
        if why := (yield from self._misfit(version)):
            return failed("wrong_image", why, final=True)
        return (yield from self._bring(version, now.at))

    # ---- after the activation

    def _runs_it(self, now: datetime) -> Steps:
        version, kept = self._image.version, self._kept
        if kept.phase is Phase.NEW:
            return done(f"runs {version} already")
        if kept.phase is not Phase.COMMITTED:  # nobody told it to
            yield from self._keep(phase=Phase.COMMITTED, due=now)
        if not self._kept.seen:
            yield from self._keep(seen=True)
        until = self._due + self._activation.watch
        if now < until:
            return again(f"runs {version}, and is looked at once more", not_before=until)
        return done(f"runs {version}, before {kept.from_version}")

    def _runs_another(self, version: str, now: datetime) -> Steps:
        kept, due = self._kept, self._due
        if kept.seen and version == kept.from_version:
            note = f"the meter ran {self._image.version} and has come back on {version}"
            return failed("rolled_back", note, final=True)
        if now < due + self._activation.settle:
            return again(
                f"runs {version}; activation was due at {due}", not_before=due + self._activation.settle
            )
        status = yield from self._status()
        if status == ImageStatus.ACTIVATION_FAILED:
            return failed("activation_failed", f"the meter says so, and runs {version}", final=True)
        last = due + self._activation.watch
        if now < last:
            return again(f"still runs {version}", not_before=last)
        if version != kept.from_version:
            return failed("wrong_version", f"the meter runs {version}, neither old nor new", final=True)
        if status == ImageStatus.ACTIVATED:
            note = f"the meter says that it activated the image, and runs {version}"
            return failed("rolled_back", note, final=True)
        if not kept.answered and self._activation.how is How.METHOD:
            note = f"the meter runs {version}; whether it heard the word to activate is not known: retry tells it again"
            return failed("activation_unproven", note, final=True)
        note = f"the meter runs {version}, though it was to activate the image"
        return failed("not_activated", note, final=True)

    @property
    def _due(self) -> datetime:
        assert self._kept.due is not None
        return self._kept.due

    # ---- bringing the image in

    def _bring(self, version: str, now: datetime) -> Steps:
        status = yield from self._status()
        ours = self._kept.phase in (Phase.SENDING, Phase.VERIFIED)
        if ours and status in (ImageStatus.ACTIVATION_INITIATED, ImageStatus.ACTIVATED):
            return (yield from self._activates_itself(now))
        if ours and (failure := (yield from self._enable())):
            return failure
        if ours and status == ImageStatus.VERIFIED and not (yield from self._another_s(version)):
            return (yield from self._verified_before(version))
        if ours and status == ImageStatus.VERIFICATION_INITIATED:
            return (yield from self._verify(version))
        # what waits there and was not sent by us, or was replaced since, is not ours whatever its name is
        goes_on = self._kept.phase is Phase.SENDING and status == ImageStatus.INITIATED
        if not goes_on and (failure := (yield from self._initiate(version))):
            return failure
        if end := (yield from self._send(version)):
            return end
        return (yield from self._verify(version))

    def _enable(self) -> Doing[VisitEnd | None]:
        enabled = self._meter.image_transfer_enabled
        try:
            if (yield from self._get(enabled)):
                return None
        except NotSupported:
            return None
        yield Set(Target(enabled.class_id, enabled.obis, enabled.number), enabled.build(True))
        if (yield from self._get(enabled)):
            return None
        return failed("not_enabled", "image transfer stays disabled after it was enabled")

    def _initiate(self, version: str) -> Doing[VisitEnd | None]:
        if self._kept.rounds >= MAX_ROUNDS:
            return failed("transfer_lost", f"the meter lost the image {MAX_ROUNDS} times", final=True)
        if not (yield from self._now()).may_go_on:
            return (yield from self._cut("not begun"))
        yield Note("image transfer begun", version)
        if failure := (yield from self._enable()):
            return failure
        try:
            yield from self._run(
                self._meter.image_transfer_initiate,
                Initiation(self._image.identification, len(self._image.content)),
            )
        except MeterBusy as error:
            return (yield from self._later(f"not begun: {error}"))
        size = yield from self._get(self._meter.image_block_size)
        if not 0 < size <= MAX_BLOCK:
            return failed("bad_block_size", f"the meter wants blocks of {size} octets", final=True)
        # kept only now: whose image is there, if we are cut off before, is not known, and ours begins anew
        rounds = self._kept.rounds + 1
        yield from self._keep(phase=Phase.SENDING, block_size=size, rounds=rounds, from_version=version)
        return None

    def _send(self, version: str) -> Doing[VisitEnd | None]:
        """Send blocks until none is missing; return how the visit ends where more is to be done later."""
        least: int | None = None
        stale, trouble = 0, ""
        while True:
            if failure := (yield from self._begin_anew_if_lost(version)):
                return failure
            missing = yield from self._missing()
            if not missing:
                return None
            if least is not None and len(missing) >= least:
                stale += 1
            else:
                self._gained = self._gained or least is not None
                least, stale = len(missing), 0
            note = f"{len(missing)} of {self._image.blocks(self._kept.block_size)} blocks are missing"
            if stale >= MAX_STALE:
                return (yield from self._later(f"{note}{trouble}"))
            sent, trouble = yield from self._send_these(missing)
            if sent is None:
                return (yield from self._cut(note))

    def _send_these(self, missing: list[int]) -> Doing[tuple[int | None, str]]:
        """Send blocks up to the first that is not taken; return how many were (None: no time is left), and why not."""
        size = self._kept.block_size
        for sent, number in enumerate(missing):
            if not (yield from self._now()).may_go_on:
                self._gained = self._gained or sent > 0
                return None, ""
            block = ImageBlock(number, self._image.block(number, size))
            try:
                yield from self._run(self._meter.image_block_transfer, block)
            except MeterBusy as error:
                yield Rest(POLL_SECONDS)
                return sent, f"; {error}"
            except LocalError:
                raise
            except ProtocolError as error:  # a new association and a new look show what is there
                return sent, f"; {error}"
        return len(missing), ""

    def _begin_anew_if_lost(self, version: str) -> Doing[VisitEnd | None]:
        status = yield from self._status()
        size = yield from self._get(self._meter.image_block_size)
        if status == ImageStatus.INITIATED and size == self._kept.block_size:
            return None
        if status in (ImageStatus.VERIFICATION_INITIATED, ImageStatus.VERIFIED):
            return None  # blocks are all there: `_missing` says so, or the verification tells
        return (yield from self._initiate(version))

    def _missing(self) -> Doing[list[int]]:
        """Return the numbers of the blocks that the meter lacks, by its bits or, without them, by the first."""
        count = self._image.blocks(self._kept.block_size)
        first = yield from self._get(self._meter.image_first_not_transferred_block_number)
        try:
            bits = yield from self._get(self._meter.image_transferred_blocks_status)
        except (NotSupported, MeterRefused):
            bits = ""
        if len(bits) >= count:
            return [number for number in range(count) if bits[number] == "0"]
        return list(range(min(first, count), count))

    # ---- verification and activation

    def _verify(self, version: str) -> Steps:
        try:
            yield from self._run(self._meter.image_verify, None)
        except MeterBusy:
            pass  # it goes on: the status tells
        except (MeterRefused, NotSupported) as error:
            if isinstance(error, AssociationLost):
                raise
        for _ in range(POLLS):
            status = yield from self._status()
            now = yield from self._now()
            if status == ImageStatus.VERIFIED:
                return (yield from self._verified(version))
            if status in (ImageStatus.ACTIVATION_INITIATED, ImageStatus.ACTIVATED):
                return (yield from self._activates_itself(now.at))
            if status != ImageStatus.VERIFICATION_INITIATED:
                return (yield from self._not_verified(status))
            if not now.may_go_on:
                break
            yield Rest(POLL_SECONDS)
        return (yield from self._later("the meter verifies the image"))

    def _not_verified(self, status: int) -> Steps:
        note = f"the meter did not verify the image (status {status})"
        if self._kept.unverified + 1 >= MAX_SENDINGS:
            return failed("verification_failed", note, final=True)
        yield from self._keep(phase=Phase.NEW, unverified=self._kept.unverified + 1)
        return again(f"{note}; it is sent once more")

    def _verified_before(self, version: str) -> Steps:
        """Go on with what the visit before left verified: by its signature, or else by a new verification."""
        shown = yield from self._signature()
        if shown and self._kept.signature == shown:
            return (yield from self._verified(version))
        return (yield from self._verify(version))

    def _verified(self, version: str) -> Steps:
        shown = yield from self._signature()
        if shown is None:
            waiting = yield from self._get(self._meter.image_to_activate_info)
            note = f"the meter verified {_named(waiting)}, not {show_octets(self._image.identification)}"
            return failed("wrong_identification", note, final=True)
        if (wanted := self._image.signature.hex()) and shown != wanted:
            note = f"the meter shows {shown or 'no signature'} as the image's signature, not {wanted}"
            return failed("wrong_signature", note, final=True)
        if self._kept.phase is not Phase.VERIFIED or self._kept.signature != shown:
            yield from self._keep(phase=Phase.VERIFIED, from_version=version, signature=shown)
        now = yield from self._now()
        at = self._activation.at
        if self._activation.how is not How.NEVER and not now.may_go_on:
            return (yield from self._cut("verified, and not yet activated"))
        match self._activation.how:
            case How.NEVER:
                return done("verified and not activated, as planned")
            case How.METHOD if at is not None and now.at < at:
                return again("verified, and waits for its activation", not_before=at)
            case How.METHOD:
                return (yield from self._activate(now.at))
            case How.SCHEDULE:
                return (yield from self._schedule(now.at, at))

    def _activate(self, now: datetime) -> Steps:
        yield Note(f"activation due at {now.isoformat()}", self._kept.from_version)
        yield from self._keep(phase=Phase.COMMITTED, due=now)
        later = now + self._activation.settle
        try:
            yield from self._run(self._meter.image_activate, None)
        except MeterBusy:
            pass  # it goes on
        except (MeterRefused, NotSupported) as error:
            if not isinstance(error, AssociationLost):
                return failed("activation_refused", str(error), final=True)
            return again(f"told to activate, without an answer ({error})", not_before=later)
        except ProtocolError as error:  # it may restart before it answers
            return again(f"told to activate, without an answer ({error})", not_before=later)
        yield from self._keep(answered=True)
        return again("told to activate", not_before=later)

    def _schedule(self, now: datetime, at: datetime | None) -> Steps:
        if self._objects.schedule is None:
            return failed("no_schedule", "the companion names no schedule of image activation", final=True)
        if at is None or at < now + SOONEST:
            return failed("too_late", "the time of activation is over; the image is verified", final=True)
        if why := (yield from self._wrong_clock()):
            return failed("meter_clock", why)
        local = at.astimezone(self._zone)
        wanted = ExecutionTime(
            CosemTime(hour=local.hour, minute=local.minute, second=local.second, hundredths=0),
            CosemDate(year=local.year, month=local.month, day=local.day),
        )
        times = SingleActionSchedule(self._objects.schedule).execution_time
        target = Target(times.class_id, times.obis, times.number)
        yield Note(f"activation due at {at.isoformat()}", self._kept.from_version)
        yield from self._keep(phase=Phase.COMMITTED, due=at)
        refusal = ""
        try:
            yield Set(target, times.build((wanted,)))
        except (MeterRefused, NotSupported) as error:
            refusal = f" ({error})"
        except ProtocolError as error:
            refusal = f" ({error})"  # it may have been written: reading tells
        found = yield from self._get(times)
        if not any(_same_time(one, wanted) for one in found):
            return failed(
                "not_scheduled", f"the meter does not show {local:%Y-%m-%d %H:%M:%S}{refusal}", final=True
            )
        return again(f"scheduled for {local:%Y-%m-%d %H:%M:%S}", not_before=at + self._activation.settle)

    def _activates_itself(self, now: datetime) -> Steps:
        yield Note("the meter activates the image by itself", self._kept.from_version)
        yield from self._keep(phase=Phase.COMMITTED, due=now)
        return again("the meter activates the image by itself", not_before=now + self._activation.settle)

    # ---- ends

    def _later(self, note: str) -> Doing[VisitEnd]:
        now = yield from self._now()
        return again(note, not_before=now.at + LATER, progress=self._gained)

    def _cut(self, note: str) -> Doing[VisitEnd]:
        """End a visit whose time is over; that is no fault of the meter."""
        now = yield from self._now()
        return again(note, not_before=now.at)


def _same_time(found: ExecutionTime, wanted: ExecutionTime) -> bool:
    times = (found.time.hour, found.time.minute, found.time.second or 0)
    dates = (found.date.year, found.date.month, found.date.day)
    return times == (wanted.time.hour, wanted.time.minute, wanted.time.second) and dates == (
        wanted.date.year,
        wanted.date.month,
        wanted.date.day,
    )


def _named(waiting: tuple[ImageInfo, ...]) -> str:
    names = [
        f"{show_octets(i.image_to_activate_identification)} ({i.image_to_activate_size} octets)"
        for i in waiting
    ]
    return " and ".join(names) or "nothing that it names"
