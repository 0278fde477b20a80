"""One seed plans one neighbourhood: proportions, distinct numbers, files that others can read."""

from __future__ import annotations

import csv
import json
import stat
import subprocess
import sys
import tomllib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocols.clock import SimulatedClock
from protocols.errors import MeterConfigError
from protocols.session import Auth
from protocols.simulator.neighbourhood.files import (
    describe,
    edge_toml,
    secret_files,
    write_files,
)
from protocols.simulator.neighbourhood.plan import MeterKind, Plan, plan_neighbourhood, share_out

FROM = datetime(2026, 10, 18, 18, 30, tzinfo=UTC)


@pytest.fixture
def plan() -> Plan:
    return plan_neighbourhood(seed=1, history_from=FROM)


def test_the_default_neighbourhood(plan: Plan) -> None:
    assert Counter(m.kind for m in plan.meters) == Counter(
        {
            MeterKind.DLMS_TCP: 10,
            MeterKind.DLMS_HDLC: 4,
            MeterKind.MODBUS_TCP: 6,
            MeterKind.MODBUS_RTU: 4,
            MeterKind.MODBUS_RTU_TCP: 2,
        }
    )
    assert Counter(m.role for m in plan.meters) == {"consumer": 24, "feeder": 1, "stock": 1}
    assert len(plan.lines) == 10 + 1 + 6 + 1 + 1
    auths = Counter(m.spec.dlms.auth for m in plan.meters if m.spec.dlms)
    assert set(auths) == {Auth.LLS, Auth.HLS2, Auth.HLS_GMAC}
    assert {m.spec.dlms.physical for m in plan.on_line("hdlc-bus-1") if m.spec.dlms} == {17, 18, 19, 20}
    assert [m.spec.modbus.unit for m in plan.on_line("rtu-bus-1") if m.spec.modbus] == [1, 2, 3, 4]


@pytest.mark.parametrize("meters", [5, 6, 13, 26, 100, 1000])
def test_other_sizes_keep_the_proportions(meters: int) -> None:
    plan = plan_neighbourhood(seed=3, history_from=FROM, meters=meters)
    assert len(plan.meters) == meters
    assert all(share_out(meters).values())
    assert Counter(m.role for m in plan.meters)["consumer"] == meters - 2
    for values in (
        [m.meter for m in plan.meters],
        [m.serial for m in plan.meters],
        [m.usage_point for m in plan.meters],
        [m.account_number for m in plan.consumers],
        [m.legacy_number for m in plan.consumers],
        [m.mobile for m in plan.consumers],
        [
            (m.line, m.spec.modbus and m.spec.modbus.unit, m.spec.dlms and m.spec.dlms.physical)
            for m in plan.meters
        ],
    ):
        assert len(set(values)) == len(values)
    for meter in plan.consumers:
        assert meter.account_number is not None
        assert len(meter.account_number) == 10
        assert meter.account_number.isdigit()
        assert meter.account_number[0] in "012345"


@pytest.mark.parametrize("meters", [0, 4, 5001])
def test_unreasonable_sizes_are_refused(meters: int) -> None:
    with pytest.raises(MeterConfigError):
        plan_neighbourhood(seed=1, history_from=FROM, meters=meters)


def test_secrets_do_not_show(plan: Plan) -> None:
    meter = plan.meters[0]
    assert meter.secrets is not None
    text = repr(plan) + json.dumps(describe(plan)) + edge_toml(plan)
    for secret in (meter.secrets.password.decode(), meter.secrets.hls_key.hex(), str(meter.secrets.hls_key)):
        assert secret not in text


def test_files(plan: Plan, tmp_path: Path) -> None:
    write_files(plan, tmp_path, time=SimulatedClock(start=FROM, anchor=FROM, speed=60), unnamed=3)
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    refs = {path.name for path in (tmp_path / "keys").iterdir()}
    edge = tomllib.loads((tmp_path / "edge.toml").read_text())
    assert edge["simulation"]["speed"] == 60
    assert edge["simulation"]["start"] == FROM
    assert len(edge["meters"]) == 26
    tables = [m.get(name, {}) for m in edge["meters"] for name in ("dlms", "firmware", "keys")]
    tables += [one for table in tables for one in table.get("associations", ())]
    wanted = {v for table in tables for k, v in table.items() if k.endswith("_ref")}
    assert wanted == refs == {ref for m in plan.meters for ref in secret_files(m)}
    directory = list(csv.DictReader((tmp_path / "directory.csv").read_text().splitlines()))
    assert list(directory[0]) == [
        "meter",
        "usage_point",
        "role",
        "legacy_number",
        "account_number",
        "valid_from",
    ]
    assert sum(bool(row["account_number"]) for row in directory) == 21
    assert directory[0]["valid_from"] == "2026-10-19T00:00:00+05:30"
    rekey = list(csv.DictReader((tmp_path / "rekey.csv").read_text().splitlines()))
    assert len(rekey) == 24
    contacts = list(csv.DictReader((tmp_path / "contacts.csv").read_text().splitlines()))
    assert {row["legacy_number"] for row in contacts} == {row["legacy_number"] for row in rekey}
    assert json.loads((tmp_path / "plan.json").read_text())["seed"] == 1


def test_same_seed_same_plan_in_another_process(plan: Plan) -> None:
    script = (
        "from datetime import *;from protocols.simulator.neighbourhood.plan import *;"
        "from protocols.simulator.neighbourhood.files import *;"
        "p=plan_neighbourhood(seed=1,history_from=datetime(2026,10,18,18,30,tzinfo=UTC));"
        "print(edge_toml(p)+str([secret_files(m) for m in p.meters])+str(describe(p)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    ours = edge_toml(plan) + str([secret_files(m) for m in plan.meters]) + str(describe(plan))
    assert run.stdout == ours + "\n"
    other = plan_neighbourhood(seed=2, history_from=FROM)
    assert [m.account_number for m in other.meters] != [m.account_number for m in plan.meters]
