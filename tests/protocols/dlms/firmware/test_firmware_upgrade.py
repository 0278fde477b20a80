"""An upgrade's visits against an image target: each fault of meters, and any history of faults and crashes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.firmware.image import FirmwareImage, misfit
from protocols.dlms.firmware.steps import Activation, Get, How, Kept, Note, Phase, Result, Step, VisitEnd
from protocols.errors import MeterConfigError
from protocols.reading import Nameplate
from protocols.simulator.cosem.image import IMAGE_SCHEDULE
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault
from tests.support.dlms.image_meter import CATEGORY, NEW, OLD, PLATE, START, ImageMeter, sim_image


def ended(meter: ImageMeter) -> VisitEnd:
    end = meter.run()
    assert meter.told <= 1
    return end


def test_an_image_goes_in_is_verified_activated_once_and_watched() -> None:
    meter = ImageMeter(sim_image())
    first = meter.visit()
    assert isinstance(first, VisitEnd)
    assert (first.result, first.note) == (Result.AGAIN, "told to activate")
    assert meter.blocks_sent == [0, 1, 2, 3]
    end = ended(meter)
    assert (end.result, end.note) == (Result.DONE, f"runs {NEW}, before {OLD}")
    assert meter.now >= START + Activation().watch
    assert (meter.told, meter.target.activations) == (1, 1)


def test_a_meter_that_runs_the_version_already_is_left_alone() -> None:
    meter = ImageMeter(sim_image())
    meter.target.version = NEW
    end = meter.visit()
    assert isinstance(end, VisitEnd)
    assert (end.result, end.note, meter.changed) == (Result.DONE, f"runs {NEW} already", 0)


def test_blocks_go_over_several_visits_each_once() -> None:
    meter = ImageMeter(sim_image(5000))
    assert meter.run(most=3).result is Result.DONE
    assert meter.blocks_sent == list(range(20))


@pytest.mark.parametrize(
    ("image", "plate", "why"),
    [
        (sim_image(maker="SEC"), PLATE, "for maker SEC, the meter shows `GEN`"),
        (sim_image(models=("7", "8")), PLATE, "for model 7 or 8, the meter shows `6`"),
        (sim_image(), replace(PLATE, model=""), "for model 6, the meter shows nothing"),
        (sim_image(hardware={CATEGORY: "D2"}), PLATE, "0-0:94.91.11*255 D2, the meter shows `D1`"),
        (sim_image(from_versions=("SIM-1.4.9",)), PLATE, "for firmware SIM-1.4.9 or SIM-1.5.0"),
    ],
)
def test_a_wrong_image_never_goes_to_a_meter(image: FirmwareImage, plate: Nameplate, why: str) -> None:
    meter = ImageMeter(image)
    end = meter.visit(plate=plate)
    assert isinstance(end, VisitEnd)
    assert (end.result, end.reason, end.final) == (Result.FAILED, "wrong_image", True)
    assert why in end.note
    assert meter.changed == 0


def test_an_image_is_what_its_declaration_says() -> None:
    with pytest.raises(MeterConfigError, match="its SHA-256 is"):
        sim_image(content=b"SIMFW GEN x\n")
    with pytest.raises(MeterConfigError, match="1 to"):
        sim_image(content=b"")
    with pytest.raises(MeterConfigError, match="at least one model"):
        sim_image(models=())
    assert misfit(sim_image(), PLATE, OLD, {CATEGORY: "D1"}) == ""


SURVIVED = [
    Fault(kind=FaultKind.IMAGE_BLOCK_REFUSED, every=3, times=5),
    Fault(kind=FaultKind.IMAGE_BLOCK_LOST, every=3, times=5),
    Fault(kind=FaultKind.IMAGE_FORGETS, after=2, every=3, times=2),
    Fault(kind=FaultKind.IMAGE_BLOCK_SIZE, after=2, times=1, value=100),
    Fault(kind=FaultKind.IMAGE_VERIFY_BUSY, times=1, value=3),
    Fault(kind=FaultKind.IMAGE_VERIFY_BUSY, times=1, value=200),
    Fault(kind=FaultKind.IMAGE_NOT_VERIFIED, times=1),
    Fault(kind=FaultKind.IMAGE_ACTIVATES_ITSELF, times=1),
    Fault(kind=FaultKind.IMAGE_ACTIVATES_LATE, times=1),
]


@pytest.mark.parametrize("fault", SURVIVED, ids=str)
def test_what_meters_do_is_survived(fault: Fault) -> None:
    meter = ImageMeter(sim_image(2000), faults=(fault,))
    end = ended(meter)
    assert (end.result, meter.target.version) == (Result.DONE, NEW), end


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        (FaultKind.IMAGE_NOT_VERIFIED, "verification_failed", 0),
        (FaultKind.IMAGE_WRONG_NAME, "wrong_identification", 0),
        (FaultKind.IMAGE_ACTIVATION_FAILS, "activation_failed", 1),
        (FaultKind.IMAGE_NEVER_ACTIVATES, "not_activated", 1),
        (FaultKind.IMAGE_FORGETS, "transfer_lost", 0),
    ],
)
def test_what_is_no_upgrade_is_told_with_its_reason(kind: FaultKind, reason: str, told: int) -> None:
    meter = ImageMeter(sim_image(), faults=(Fault(kind=kind),))
    end = ended(meter)
    assert (end.reason, end.final, meter.told, meter.target.version) == (reason, True, told, OLD)


@pytest.mark.parametrize(
    ("after", "note"), [(0, "says that it activated"), (1, "ran SIM-1.5.0 and has come back")]
)
def test_a_meter_that_comes_back_on_the_old_version_is_told(after: int, note: str) -> None:
    meter = ImageMeter(sim_image(), faults=(Fault(kind=FaultKind.IMAGE_ROLLS_BACK, after=after),))
    end = ended(meter)
    assert (end.reason, end.final, meter.told) == ("rolled_back", True, 1)
    assert note in end.note


def test_a_meter_that_refuses_each_block_makes_no_progress() -> None:
    meter = ImageMeter(sim_image(), faults=(Fault(kind=FaultKind.IMAGE_BLOCK_REFUSED),))
    end = meter.visit()
    assert isinstance(end, VisitEnd)
    assert (end.result, end.progress) == (Result.AGAIN, False)
    assert end.note == "4 of 4 blocks are missing; refused"


def test_activation_waits_for_its_time() -> None:
    at = START + timedelta(hours=9)
    meter = ImageMeter(sim_image(), activation=Activation(at=at))
    first = meter.visit()
    assert isinstance(first, VisitEnd)
    assert (first.not_before, meter.told) == (at, 0)
    assert ended(meter).result is Result.DONE
    assert meter.kept.due is not None
    assert meter.kept.due >= at


def test_a_meter_activates_by_its_own_schedule() -> None:
    at = START + timedelta(hours=9)
    meter = ImageMeter(sim_image(), activation=Activation(how=How.SCHEDULE, at=at))
    first = meter.visit()
    assert isinstance(first, VisitEnd)
    assert first.note == "scheduled for 2026-12-01 02:30:00"
    assert meter.kept.phase is Phase.COMMITTED
    assert ended(meter).result is Result.DONE
    assert (meter.told, meter.target.activations) == (0, 1)


@pytest.mark.parametrize("hours", [-200_000, -1, 1])
def test_a_meter_whose_clock_is_wrong_is_given_no_schedule(hours: int) -> None:
    """An hour ahead it would activate before the time, years behind it never would."""
    at = START + timedelta(hours=9)
    meter = ImageMeter(
        sim_image(), activation=Activation(how=How.SCHEDULE, at=at), clock_off=timedelta(hours=hours)
    )
    end = meter.visit()
    assert isinstance(end, VisitEnd)
    assert (end.reason, end.final, meter.memory.get(IMAGE_SCHEDULE, 4)) == ("meter_clock", False, None)
    meter.clock_off = timedelta(minutes=-2)
    assert ended(meter).result is Result.DONE


def test_a_schedule_in_the_past_is_not_written() -> None:
    meter = ImageMeter(sim_image(), activation=Activation(how=How.SCHEDULE, at=START))
    end = ended(meter)
    assert (end.reason, meter.memory.get(IMAGE_SCHEDULE, 4)) == ("too_late", None)


def test_an_image_of_another_that_waits_verified_is_not_activated() -> None:
    """It has the same name and size: who sent it is not known, so ours goes in."""
    meter = ImageMeter(sim_image())
    other = ImageMeter(sim_image(), activation=Activation(how=How.NEVER))
    other.visit()
    meter.target, meter.object = other.target, other.object
    meter.faulty = other.faulty
    assert ended(meter).result is Result.DONE
    assert meter.blocks_sent == [0, 1, 2, 3]


def test_what_changes_a_meter_is_recorded_before_it_goes_out() -> None:
    """Where the record cannot be written, that step ends the visit, and nothing has happened yet."""
    meter = ImageMeter(sim_image())
    before: dict[str, tuple[int, Phase, int]] = {}

    def look(step: Step) -> str:
        if isinstance(step, Note):
            before[step.text.split(" at ")[0]] = (meter.changed, meter.kept.phase, meter.told)
        return ""

    assert meter.run(look).result is Result.DONE
    assert before["image transfer begun"] == (0, Phase.NEW, 0)
    assert before["activation due"][1:] == (Phase.VERIFIED, 0)


def test_a_visit_whose_time_is_over_begins_nothing() -> None:
    meter = ImageMeter(sim_image())
    end = meter.visit(most=0)
    assert isinstance(end, VisitEnd)
    assert (end.result, meter.changed) == (Result.AGAIN, 0)


@pytest.mark.parametrize(
    "activation", [Activation(), Activation(how=How.SCHEDULE, at=START + timedelta(hours=9))], ids=str
)
def test_a_lot_that_is_paused_in_a_visit_activates_nothing_in_it(activation: Activation) -> None:
    """Its time is over with the last block: the meter verifies the image, and the next visit activates it."""
    meter = ImageMeter(sim_image(), activation=activation)
    end = meter.visit(most=4)
    assert isinstance(end, VisitEnd)
    assert (end.result, end.progress, meter.kept.phase) == (Result.AGAIN, True, Phase.VERIFIED)
    assert (meter.told, meter.memory.get(IMAGE_SCHEDULE, 4)) == (0, None)
    assert ended(meter).result is Result.DONE


def steps_of(meter: ImageMeter) -> int:
    meter.run()
    return meter.steps


LATE = (Fault(kind=FaultKind.IMAGE_ACTIVATES_LATE),)
TOTAL = steps_of(ImageMeter(sim_image(), faults=LATE))


@pytest.mark.parametrize("faults", [(), LATE], ids=["at once", "late"])
@pytest.mark.parametrize("wrong", ["crash-before", "crash-after", "lost-before", "lost-after"])
def test_cut_off_at_each_step_it_goes_on_and_activates_once(wrong: str, faults: tuple[Fault, ...]) -> None:
    for at in range(TOTAL):
        meter = ImageMeter(sim_image(), faults=faults)

        def mischief(_step: Step, at: int = at, meter: ImageMeter = meter) -> str:
            return wrong if meter.steps == at + 1 else ""

        end = meter.run(mischief)
        assert meter.told <= 1
        if end.result is not Result.DONE:  # only where it is not known whether the meter heard the word
            assert (end.reason, meter.told) == ("activation_unproven", 0), (at, end)
            meter.kept = meter.kept.told_again()
            assert meter.run().result is Result.DONE
        assert (meter.told, meter.target.activations) == (1, 1)


MISCHIEF = st.sampled_from(["", "", "", "", "", "crash-before", "crash-after", "lost-before", "lost-after"])
FAULTS = st.lists(
    st.builds(
        Fault,
        kind=st.sampled_from([kind for kind in FaultKind if kind.startswith("image-")]),
        after=st.integers(0, 4),
        every=st.integers(1, 3),
        times=st.integers(1, 3),
    ),
    max_size=4,
)
HOWS = st.sampled_from(
    [
        Activation(),
        Activation(at=START + timedelta(hours=2)),
        Activation(how=How.SCHEDULE, at=START + timedelta(hours=20)),
    ]
)


@settings(max_examples=300)
@given(faults=FAULTS, activation=HOWS, fits=st.booleans(), most=st.integers(1, 9), data=st.data())
def test_any_history_activates_at_most_once_and_only_what_is_verified_and_ours(
    faults: list[Fault], activation: Activation, fits: bool, most: int, data: st.DataObject
) -> None:
    """`ImageMeter` asserts at the moment of activation, or scheduling, that our whole image is there."""
    image = sim_image(1500, **({} if fits else {"hardware": {CATEGORY: "D2"}}))
    meter = ImageMeter(image, activation=activation, faults=tuple(faults))

    def mischief(step: Step) -> str:
        return data.draw(MISCHIEF) if not isinstance(step, Get) or meter.steps % 4 == 0 else ""

    end = meter.run(mischief, visits=120, most=most)
    assert meter.told <= 1
    if not fits:
        assert (end.reason, meter.changed) == ("wrong_image", 0)
    if end.result is Result.DONE:
        assert meter.target.version == NEW
        assert meter.kept.seen


# an image of the same name and size is not ours for that


def another_s(meter: ImageMeter) -> None:
    """Another head-end puts an image of our name and size into the meter, which verifies it."""
    ours = meter.image
    content = ours.content[:-1] + bytes((ours.content[-1] ^ 1,))
    other = replace(ours, content=content, sha256=hashlib.sha256(content).hexdigest())
    kept, meter.kept, meter.image = meter.kept, Kept(), other
    activation, meter.activation = meter.activation, Activation(how=How.NEVER)
    assert isinstance(meter.visit(), VisitEnd)
    assert meter.target.content == content
    meter.kept, meter.image, meter.activation = kept, ours, activation
    meter.blocks_sent.clear()


@pytest.mark.parametrize("signs", [True, False])
def test_an_image_that_waits_for_its_time_is_looked_at_again_before_it_is_activated(signs: bool) -> None:
    meter = ImageMeter(sim_image(), activation=Activation(at=START + timedelta(hours=2)))
    meter.target.signs = signs
    meter.visit()
    assert (meter.kept.phase, bool(meter.kept.signature)) == (Phase.VERIFIED, signs)
    before = meter.changed
    meter.now = START + timedelta(hours=1)
    meter.visit()
    assert meter.changed - before == (
        0 if signs else 1
    )  # without a signature the meter verifies it once more
    assert ended(meter).result is Result.DONE
    assert meter.blocks_sent == [0, 1, 2, 3]


def test_another_s_image_under_our_name_is_replaced_by_ours_and_never_activated() -> None:
    meter = ImageMeter(sim_image(), activation=Activation(at=START + timedelta(hours=2)))
    meter.visit()
    another_s(meter)
    meter.now = START + timedelta(hours=3)
    assert ended(meter).result is Result.DONE  # what is activated is ours, which the meter's double checks
    assert meter.blocks_sent == [0, 1, 2, 3]
    assert "another image stands under our image's name; ours is sent anew" in meter.notes


def test_a_meter_that_no_longer_verifies_what_it_holds_is_sent_the_image_once_more() -> None:
    meter = ImageMeter(sim_image(), activation=Activation(at=START + timedelta(hours=2)))
    meter.target.signs = False
    meter.visit()
    meter.target._blocks[0] = b"damaged since" + bytes(243)
    meter.now = START + timedelta(hours=3)
    assert ended(meter).result is Result.DONE
    assert meter.blocks_sent == [0, 1, 2, 3] * 2


@pytest.mark.parametrize("signs", [True, False])
def test_a_signature_that_the_maker_declares_is_what_the_meter_must_show(signs: bool) -> None:
    image = sim_image()
    right = hashlib.sha256(image.content).digest()[:16]
    for signature, good in ((right, signs), (right[::-1], False)):
        meter = ImageMeter(replace(image, signature=signature))
        meter.target.signs = signs
        end = ended(meter)
        assert (end.result is Result.DONE, end.reason) == ((True, "") if good else (False, "wrong_signature"))
        assert meter.told == good
