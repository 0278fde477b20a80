"""Fault scripts as data: what a file may say, what is refused in which words, and when a fault strikes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protocols.clock import SimulatedClock
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder
from protocols.errors import MeterConfigError
from protocols.simulator.faults import script as faults
from protocols.simulator.faults import wire as fault_wire
from protocols.simulator.faults.kinds import FAULT_KINDS, FaultKind
from protocols.simulator.faults.script import Fault, FaultPlayer, FaultScript, load, shipped
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import Plan
from tests.support.paths import ROOT
from tests.support.simulator import AARQ_NONE, ask_tcp

pytestmark = pytest.mark.virtual_time

DOCS = ROOT / "docs" / "simulator.md"


def player(**fields: object) -> FaultPlayer:
    fault = Fault(kind=FaultKind.DROP, **fields)  # type: ignore[arg-type]
    return FaultPlayer(FaultScript(name="t", faults=(fault,), seed=3), "GEN:1")


def strikes(of: FaultPlayer, count: int) -> list[int]:
    return [n for n in range(count) if of.fires(FaultKind.DROP)]


def test_when_and_how_often() -> None:
    assert strikes(player(), 4) == [0, 1, 2, 3]
    assert strikes(player(after=2, every=3, times=2), 20) == [2, 5]
    half = strikes(player(per_mille=500), 4000)
    assert 1800 < len(half) < 2200
    assert half == strikes(player(per_mille=500), 4000)
    assert player(times=1).taken(FaultKind.DROP) == 0
    assert player(on="1-0:99.1.0*255").fires(FaultKind.DROP, "1-0:99.2.0*255") is None


def test_what_a_meter_is_counts_its_requests_and_not_how_often_it_is_looked_at() -> None:
    fault = Fault(kind=FaultKind.NULL_TIMES, after=1, times=2)
    of = FaultPlayer(FaultScript(name="t", faults=(fault,), seed=3), "GEN:1")
    seen = []
    for _ in range(5):
        of.turn()
        looks = {of.standing(FaultKind.NULL_TIMES) for _ in range(3)}
        seen.append(looks)
    assert seen == [{None}, {fault}, {fault}, {None}, {None}]
    assert of.taken(FaultKind.NULL_TIMES) == 2


def test_a_file_names_scripts_faults_and_meters(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(
        """
seed = 7
scripts = ["null-times"]
faults = [{ kind = "delay", value = 20, every = 3 }]
[[meters]]
meter = "GEN:10000001"
scripts = ["newest-first"]
""",
        encoding="utf-8",
    )
    read = load(str(path))
    assert [f.kind for f in read.script("HPL:1").faults] == [FaultKind.NULL_TIMES, FaultKind.DELAY]
    assert [f.kind for f in read.script("GEN:10000001").faults][-1] is FaultKind.NEWEST_FIRST
    assert read.script("GEN:10000001").seed == 7
    assert load("null-times").script("any").faults == shipped()["null-times"].faults


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scripts = ['nothing']", "no shipped fault script 'nothing'"),
        ("faults = [{ kind = 'gremlin' }]", "unknown fault 'gremlin'"),
        ("faults = [{ kind = 'drop', often = 3 }]", "drop: unknown often"),
        ("faults = [{ kind = 'drop', every = -1 }]", "drop: every is a whole number"),
        ("faults = [{ kind = 'drop', value = 'x' }]", "drop: value is a whole number"),
        ("faults = [{ value = 1 }]", "a table with a `kind`"),
        ("faults = 3", "faults is a list"),
        ("fault = []", "unknown fault"),
        ("meters = 3", "a list of tables"),
        ("[[meters]]\nscripts = []", "names its meter"),
        ("faults = [" + "{ kind = 'drop' }," * 65 + "]", "at most 64"),
        ("= 3", "no TOML file"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MeterConfigError) as refused:
        load(str(path))
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(MeterConfigError, match="reboot-in-mid-block"):
        load("no-such-script")


def test_every_script_and_kind_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, script in shipped().items():
        assert f"| `{name}` | {script.about} |" in text
    for kind, info in FAULT_KINDS.items():
        assert f"| `{kind}` | {info.place.value} | {info.about} | {info.value or ''} |" in text


def test_what_leaves_the_wire_is_planned() -> None:
    whole = bytes(range(50))

    def plan(kind: FaultKind, **fields: object) -> list[fault_wire.PortStep]:
        script = FaultScript(faults=(Fault(kind=kind, **fields),))  # type: ignore[arg-type]
        return fault_wire.plan(FaultPlayer(script, "m"), whole)

    assert fault_wire.plan(None, b"") == []
    assert plan(FaultKind.DROP) == []
    assert [s.octets for s in plan(FaultKind.DUPLICATE)] == [whole, whole]
    assert plan(FaultKind.DELAY, value=250)[0].pause == 0.25
    assert b"".join(s.octets for s in plan(FaultKind.SPLIT)) == whole
    assert plan(FaultKind.HANG_UP)[0].hang_up
    assert plan(FaultKind.NOISE, value=9)[0].octets[9:] == whole
    assert len(plan(FaultKind.NOISE_INSIDE, value=4)[0].octets) == 54
    assert sum(a != b for a, b in zip(plan(FaultKind.FLIP)[0].octets, whole, strict=True)) == 1
    bad = plan(FaultKind.NOISE, value=1 << 20)[0].octets
    assert len(bad) == fault_wire.MAX_NOISE + 50


def test_a_bus_gives_each_frame_the_faults_of_its_meter() -> None:
    frames = [
        Frame(destination=Address(48), source=Address(1, physical), control=0x10, info=b"\xe6\xe7\x00abc")
        for physical in (17, 18)
    ]
    script = FaultScript(faults=(Fault(kind=FaultKind.NOT_READY),))
    steps = fault_wire.plan_bus({18: FaultPlayer(script, "b")}, b"".join(f.encode() for f in frames))
    kinds = [f.kind for s in steps for f in FrameDecoder().receive_data(s.octets) if isinstance(f, Frame)]
    assert kinds == [0, 5]


async def test_a_neighbourhood_plays_them_on_its_meters_only() -> None:
    clock = SimulatedClock.ending_now(behind=timedelta(hours=2), speed=1)
    first = (await _planned(clock)).meters[0]
    raw = {"meters": [{"meter": first.meter, "faults": [{"kind": "aare-error"}]}]}
    served = await Neighbourhood.start(seed=2, clock=clock, meters=8, faults=faults.parse(raw, where="t"))
    try:
        tcp = [line for line in served.plan.lines if line.name.startswith("tcp-") and "dlms" in line.serves]
        assert tcp[0].name == first.line
        request = bytes.fromhex("000100100001") + len(AARQ_NONE).to_bytes(2, "big") + AARQ_NONE
        answers = await asyncio.gather(*(ask_tcp(line.port or 0, request) for line in tcp))
        assert [answer[8] for answer in answers] == [0x0E, *[0x61] * (len(tcp) - 1)]
    finally:
        await served.stop()


async def _planned(clock: SimulatedClock) -> Plan:
    served = await Neighbourhood.start(seed=2, clock=clock, meters=8)
    await served.stop()
    assert served.plan.history_from < datetime.now(UTC)
    return served.plan
