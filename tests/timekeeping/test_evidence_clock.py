"""The clock with its evidence: what the host says, restarts, jumps, a saved clock, meters."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.timekeeping import host
from gateway.timekeeping.clock import EvidenceClock, EvidenceSettings
from gateway.timekeeping.evidence import ClockState, Observation, Voice
from gateway.timekeeping.saved import load_saved
from protocols.clock import SystemClock
from protocols.reading import MeterClock

T0 = datetime(2026, 11, 30, 6, tzinfo=UTC)


class Machine(SystemClock):
    """A machine: its true time runs, its clock is off by `off`, and `synced` says what its kernel knows."""

    def __init__(self) -> None:
        self.true = T0
        self.off = timedelta(0)
        self.ran = 1_000.0
        self.boot = "aaaa0001"
        self.synced = False

    def now(self) -> datetime:
        return self.true + self.off

    def run(self, seconds: float) -> None:
        self.true += timedelta(seconds=seconds)
        self.ran += seconds

    def reboot(self, off: float, *, clock_at: datetime | None = None) -> None:
        """Off for `off` seconds; a saved clock goes on at `clock_at`."""
        self.true += timedelta(seconds=off)
        self.ran = 10.0
        self.boot = f"aaaa{int(self.boot[4:]) + 1:04}"
        if clock_at is not None:
            self.off = clock_at + timedelta(seconds=10) - self.true

    def kernel(self, steady: float, now: datetime) -> list[Observation]:
        return host.kernel_says(0, 0 if self.synced else host.STA_UNSYNC, 5_000, steady, now)

    def clock(self, path: Path | None = None, *, quorum: int = 5) -> EvidenceClock:
        return EvidenceClock(
            EvidenceSettings(quorum=quorum),
            path=path,
            clock=self,
            steady=lambda: self.ran,
            boot=self.boot,
            sources=[self.kernel],
        )

    def central(self) -> Observation:
        return Observation(
            voice=Voice.CENTRAL, source="central", steady=self.ran, instant=self.true, error=0.2
        )


def meter(at: datetime, status: int | None = 0) -> MeterClock:
    return MeterClock(meter=at, gateway=at, deviation=330, status=status)


def test_the_year_proves_nothing() -> None:
    assert not Machine().clock().disciplined()


def test_a_disciplined_kernel_is_evidence_from_the_first_moment() -> None:
    machine = Machine()
    machine.synced = True
    assert machine.clock().disciplined()


def test_a_kernel_that_loses_its_servers_is_none_any_more() -> None:
    machine = Machine()
    machine.synced = True
    clock = machine.clock()
    machine.synced = False
    assert not clock.refresh().trusted


def test_a_clock_that_jumps_is_distrusted_before_anybody_looked() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.observe(machine.central())
    assert clock.disciplined()
    machine.off = timedelta(days=3)
    found = clock.judgement()
    assert found.state is ClockState.WRONG
    assert found.offset == pytest.approx(-259_200)
    machine.off = timedelta(0)
    assert clock.disciplined()


def test_the_base_is_true_though_the_clock_is_wrong() -> None:
    machine = Machine()
    machine.off = timedelta(minutes=-25)
    clock = machine.clock()
    assert clock.base() is None
    clock.observe(machine.central())
    base = clock.base()
    assert base is not None
    assert base.at == machine.true - timedelta(seconds=machine.ran)
    assert base.boot == "aaaa0001"


def test_evidence_outlives_the_process_but_not_the_machine(tmp_path: Path) -> None:
    machine = Machine()
    clock = machine.clock(tmp_path / "clock.json")
    clock.observe(machine.central())
    clock.refresh()
    machine.run(300)
    assert machine.clock(tmp_path / "clock.json").disciplined()
    machine.reboot(300)
    assert not machine.clock(tmp_path / "clock.json").disciplined()


def test_a_saved_clock_is_recognised_at_boot(tmp_path: Path) -> None:
    """fake-hwclock: after 25 minutes without power the clock goes on where it stood."""
    machine = Machine()
    clock = machine.clock(tmp_path / "clock.json")
    clock.observe(machine.central())
    clock.refresh()
    machine.reboot(1_500, clock_at=machine.now())
    found = machine.clock(tmp_path / "clock.json").judgement()
    assert found.state is ClockState.UNPROVEN
    assert "a saved time" in found.text


def test_a_clock_that_shows_what_is_past_is_recognised(tmp_path: Path) -> None:
    machine = Machine()
    clock = machine.clock(tmp_path / "clock.json")
    clock.refresh()
    machine.reboot(60, clock_at=datetime(2026, 1, 1, tzinfo=UTC))
    found = machine.clock(tmp_path / "clock.json").judgement()
    assert "is not after 2026-11-30T06:00:00+00:00" in found.text


def test_evidence_lifts_the_doubt(tmp_path: Path) -> None:
    machine = Machine()
    machine.clock(tmp_path / "clock.json").refresh()
    machine.reboot(60, clock_at=datetime(2026, 1, 1, tzinfo=UTC))
    machine.off, machine.synced = timedelta(0), True
    clock = machine.clock(tmp_path / "clock.json")
    assert clock.refresh().trusted
    machine.synced = False
    assert clock.refresh().text == "nobody has told the time yet"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"boot":1,"seen":"x","observations":[]}', b"\xff\xfe"]
)
def test_a_damaged_file_is_no_evidence(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "clock.json"
    path.write_bytes(damage)
    assert load_saved(path) is None
    assert not Machine().clock(path).disciplined()


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    machine = Machine()
    machine.synced = True
    assert machine.clock(tmp_path / "missing" / "clock.json").refresh().trusted


def test_right_meters_tell_a_gateway_that_it_is_wrong() -> None:
    machine = Machine()
    machine.off = timedelta(minutes=-25)
    clock = machine.clock(quorum=3)
    for serial in range(3):
        clock.meter_seen(f"GEN:{serial}", meter(machine.true))
    assert clock.refresh().state is ClockState.WRONG


def test_right_meters_are_evidence_for_a_right_gateway() -> None:
    machine = Machine()
    clock = machine.clock(quorum=3)
    for serial in range(3):
        clock.meter_seen(f"GEN:{serial}", meter(machine.true + timedelta(seconds=serial)))
    assert clock.refresh().trusted
    clock.meter_seen("GEN:0", meter(T0 + timedelta(days=1)))
    assert not clock.refresh().trusted  # two of three are not more than two thirds


def test_a_meter_that_doubts_itself_is_not_heard() -> None:
    machine = Machine()
    clock = machine.clock(quorum=1)
    clock.meter_seen("GEN:1", meter(machine.true, status=2))
    assert clock.refresh().state is ClockState.UNPROVEN


def test_only_configured_sources_are_heard() -> None:
    machine = Machine()
    clock = EvidenceClock(
        EvidenceSettings(sources=frozenset({"kernel"})),
        clock=machine,
        steady=lambda: 1.0,
        boot="a",
        sources=[],
    )
    clock.observe(machine.central())
    clock.meter_seen("GEN:1", meter(machine.true))
    assert clock.refresh().state is ClockState.UNPROVEN


CHRONY = (
    "C0A80101,192.168.1.1,3,1764482400.1,{offset},0.00001,0.0002,-3.5,0.01,0.05,{delay},0.002,64.2,{leap}"
)


@pytest.mark.parametrize(
    ("read", "heard"),
    [
        (lambda: host.kernel_says(0, 0, 5_000, 1.0, T0), True),
        (lambda: host.kernel_says(5, 0x40, 16_000_000, 1.0, T0), False),
        (lambda: host.kernel_says(0, 0x2001, 16_000_000, 1.0, T0), False),
        (lambda: host.kernel_says(-1, 0, 0, 1.0, T0), False),
        (
            lambda: host.chrony_says(CHRONY.format(offset="0.0001", delay="0.02", leap="Normal"), 1.0, T0),
            True,
        ),
        (
            lambda: host.chrony_says(CHRONY.format(offset="0", delay="0", leap="Not synchronised"), 1.0, T0),
            False,
        ),
        (lambda: host.chrony_says(CHRONY.format(offset="0", delay="90", leap="Normal"), 1.0, T0), False),
        (lambda: host.chrony_says(CHRONY.format(offset="nan", delay="0", leap="Normal"), 1.0, T0), False),
        (lambda: host.chrony_says("506 Cannot talk to daemon", 1.0, T0), False),
        (lambda: host.chrony_says("", 1.0, T0), False),
    ],
)
def test_what_the_host_says_is_read_with_care(read: Callable[[], list[Observation]], heard: bool) -> None:
    assert [one.voice for one in read()] == ([Voice.HOST] if heard else [])


def test_timesync_must_have_heard_lately(tmp_path: Path) -> None:
    path = tmp_path / "synchronized"
    assert host.timesync(1.0, T0, path) == []
    path.touch()
    heard = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    assert host.timesync(1.0, heard + timedelta(seconds=60), path) != []
    assert host.timesync(1.0, heard + timedelta(days=1), path) == []
    assert host.timesync(1.0, heard - timedelta(days=1), path) == []


def test_the_real_host_answers_without_harm() -> None:
    for source in host.SOURCES.values():
        assert all(one.voice is Voice.HOST for one in source(host.steady(), host.present()))
    assert host.boot_id() == host.boot_id()
    assert len(host.boot_id()) == 8
    assert len(host.machine_name()) in (7, 8)


def test_a_run_of_the_machine_that_has_no_name_is_never_taken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "BOOT_ID", tmp_path / "hidden")
    assert host.boot_id() != host.boot_id()
