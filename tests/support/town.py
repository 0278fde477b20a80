"""A whole installation as processes: simulator, Mosquitto, edge, central; killed and started at will."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.central.audit import AuditResult, Recorded, audit, by_directory
from gateway.roles.central_files import CentralFiles, central_files, make_directory_keys
from mapping.changes import MoveIn, MoveOut, Name
from mapping.directory import NumberKind
from mapping.imports import apply_import, plan_import
from mapping.rekey import apply_rekey, plan_rekey
from mapping.store import DirectoryStore
from protocols.simulator.neighbourhood.files import read_plan
from protocols.simulator.neighbourhood.neighbourhood import household_of, record_of
from protocols.simulator.neighbourhood.plan import MeterPlan, Plan
from tests.support.mosquitto import Mosquitto
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, wait_until


@dataclass
class Program:
    """One `meter-gateway` command as a process with its log."""

    name: str
    arguments: list[str]
    folder: Path
    starts: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from gateway.cli.main import main; main()", *self.arguments],
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env=os.environ | {"PYTHONFAULTHANDLER": "1"} | self.environment,
            )
        self.starts += 1

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        return self._end(signal.SIGTERM)

    def _end(self, how: int) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(how)
        return process.wait(PATIENCE)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


@dataclass
class Town:
    """The installation; `moved` names a meter whose usage point changed hands at `moved_at`."""

    folder: Path
    plan: Plan
    broker: Mosquitto
    simulator: Program
    edge: Program
    central: Program
    backfill: timedelta
    moved: MeterPlan
    moved_at: datetime
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def files(self) -> CentralFiles:
        return central_files(self.folder / "central")

    def stop(self) -> None:
        for program in (self.edge, self.central, self.simulator):
            program.kill()
        self.broker.kill()

    def lose_broker_store(self) -> None:
        for path in self.broker.folder.glob("mosquitto.db*"):
            path.unlink()

    # the independent check

    def truth(self, meter: str, start: datetime | None, at: datetime) -> frozenset[str]:
        plan = self.plan.meter(meter)
        if plan.role != "consumer" or plan.account_number is None:
            return frozenset()
        if meter != self.moved.meter:
            return frozenset({plan.account_number})
        if start is None and at == self.moved_at:
            return frozenset({plan.account_number, NEWCOMER})
        return frozenset({NEWCOMER if (start or at) >= self.moved_at else plan.account_number})

    def recorded(self, since: datetime, until: datetime) -> Iterator[Recorded]:
        for meter in self.plan.meters:
            rows = record_of(household_of(self.plan, meter), meter, since, until)
            for block in rows.blocks:
                yield Recorded(
                    meter=meter.meter,
                    profile="block_load",
                    at=block.at,
                    start=block.at - timedelta(minutes=30),
                    values={"1-0:1.29.0*255": str(block.energy_import_wh)},
                )
            for day in rows.daily:
                values = {"1-0:1.8.0*255": str(day.energy_import_wh)}
                yield Recorded(meter=meter.meter, profile="daily", at=day.at, values=values)
            for event in rows.events:
                values = {f"0-0:96.11.{event.log}*255": str(event.code)}
                yield Recorded(meter=meter.meter, profile="events", at=event.at, values=values)

    def audit(self, since: datetime, until: datetime) -> AuditResult:
        with DirectoryStore(self.files.directory) as store:
            snapshot = store.snapshot()
        recorded = list(self.recorded(since, until))
        return audit(
            Path(self.files.ledger), recorded, self.truth, by_directory(snapshot), since=since, until=until
        )


NEWCOMER = "9000000001"
CALM = 180.0
"""Seconds in which all must be right after the last blow."""


@contextmanager
def town(
    folder: Path,
    *,
    meters: int,
    seed: int,
    speed: float,
    behind: timedelta,
    backfill_days: int = 2,
    journal: str = "",
    moved: timedelta = timedelta(0),
) -> Iterator[Town]:
    """Start simulator and broker, prepare central's directory and both configurations; roles are not started.

    A usage point changed hands `moved` before the hour in which simulated time begins.
    """
    broker = Mosquitto(folder / "broker").start()
    home = folder / "town"
    simulator = Program(
        "simulator",
        f"simulate --meters {meters} --seed {seed} --speed {speed:g}x --calm "
        f"--behind {behind.total_seconds() / 3600:g} --folder {home}".split(),
        folder,
    )
    simulator.start()
    try:
        ready = "Ctrl-C ends it"
        wait_until(lambda: ready in simulator.tail() or not simulator.running, "the simulator is ready")
        assert simulator.running, simulator.tail()
        plan = read_plan(home)
        make_directory_keys(home / "keys")
        lines = (home / "edge.toml").read_text(encoding="utf-8")
        simulation = lines[lines.index("[simulation]") : lines.index("[[lines]]")]
        _write_config(folder, "edge", broker.port, backfill_days, journal, lines)
        _write_config(folder, "central", broker.port, backfill_days, "", simulation)
        moved_at = (datetime.now(UTC) - behind - moved).replace(minute=0, second=0, microsecond=0)
        made = Town(
            folder=folder,
            plan=plan,
            broker=broker,
            simulator=simulator,
            edge=Program("edge", ["run", "--config", str(folder / "edge.toml")], folder),
            central=Program("central", ["run", "--config", str(folder / "central.toml")], folder),
            backfill=timedelta(days=backfill_days),
            moved=next(m for m in plan.consumers if m.spec.dlms is not None),
            moved_at=moved_at,
        )
        _fill_directory(made, home)
        try:
            yield made
        finally:
            made.stop()
    finally:
        simulator.kill()
        broker.kill()


def _write_config(folder: Path, role: str, port: int, backfill_days: int, journal: str, rest: str) -> None:
    (folder / f"{role}.toml").write_text(
        f"""[gateway]
name = "{role}-1"
data = "{folder / role}"
secrets = "{folder / "town" / "keys"}"
roles = ["{role}"]

[time]
trust = "host"

[mqtt]
port = {port}
username = "{"central" if role == "central" else f"{role}-1"}"

[schedule]
instantaneous = 3600
block_load = 3600
daily = 21600
prepayment = 21600
events = 3600
backfill_days = {backfill_days}

[directory]
signing_key_ref = "directory-signing"
verify_key_ref = "directory-verify"

{journal}
{rest}
""",
        encoding="utf-8",
    )


def _fill_directory(made: Town, home: Path) -> None:
    now = datetime.now(UTC)
    with DirectoryStore(made.files.made().directory) as store:
        apply_import(store, plan_import(store.snapshot(), home / "directory.csv", at=now), by="test", at=now)
        with plan_rekey(store.snapshot(), home / "rekey.csv", at=now) as plan:
            apply_rekey(store, plan, by="test", approver="another", at=now)
        point = made.moved.usage_point
        store.apply(
            [
                MoveOut(point, made.moved_at),
                MoveIn(point, "acc-newcomer", made.moved_at),
                Name("acc-newcomer", NumberKind.ACCOUNT, NEWCOMER),
            ],
            by="test",
            source="test",
            at=now,
        )


def converged(made: Town, since: datetime, until: datetime) -> AuditResult:
    """Audit again and again until nothing is wrong, or fail with the last result when time is up."""
    result = AuditResult(lost=-1)

    def clean() -> bool:
        nonlocal result
        if made.files.has_ledger:
            result = made.audit(since, until)
        return result.clean

    def found() -> str:
        return f"{result}\n--- edge\n{made.edge.tail()}\n--- central\n{made.central.tail()}"

    wait_until(clean, found, CALM)
    return result
