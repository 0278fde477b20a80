"""A neighbourhood under suites 1 and 2: every DLMS meter is read with the keys and certificates of its files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocols.errors import SecurityFailure
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.meters.secrets import FileSecrets
from protocols.session import Auth, SessionContext
from protocols.simulator.neighbourhood.authority import Authority, pem
from protocols.simulator.neighbourhood.files import write_files
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import TRUST_ANCHOR, MeterKind, MeterPlan
from tests.support.fakes import Counters, HandClock

NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def _read(area: Neighbourhood, meter: MeterPlan, folder: Path, at: datetime = NOW) -> str:
    line = next(line for line in area.plan.lines if line.name == meter.line)
    assert line.host is not None
    assert line.port is not None
    tcp = TcpLine(line.name, line.host, line.port)
    context = SessionContext(secrets=FileSecrets(folder / "keys"), counters=Counters(), clock=HandClock(at))
    try:
        async with open_session(tcp, meter.spec, context) as session:
            return (await session.identify()).meter_id
    finally:
        await tcp.close()


@pytest.mark.parametrize("suite", [1, 2])
async def test_meters_of_a_suite_are_read_with_their_files(suite: int, tmp_path: Path) -> None:
    area = await Neighbourhood.start(seed=1, clock=HandClock(NOW), meters=26, suite=suite)
    try:
        write_files(area.plan, tmp_path)
        meters = [m for m in area.plan.meters if m.kind is MeterKind.DLMS_TCP]
        auths = {m.spec.dlms.auth for m in meters if m.spec.dlms is not None}
        assert auths == {Auth.HLS2, Auth.LLS, Auth.HLS_ECDSA}
        for meter in meters:
            assert await _read(area, meter, tmp_path) == meter.meter
        signing = next(m for m in meters if m.spec.dlms is not None and m.spec.dlms.auth is Auth.HLS_ECDSA)
        with pytest.raises(SecurityFailure, match="is valid from"):
            await _read(area, signing, tmp_path, NOW.replace(year=2071))
        (tmp_path / "keys" / TRUST_ANCHOR).write_bytes(pem(Authority(2, suite).anchor))
        with pytest.raises(SecurityFailure, match="no trust anchor vouches"):
            await _read(area, signing, tmp_path)
        assert signing.spec.dlms is not None
        wrong = replace(signing.spec.dlms, suite=3 - suite)
        other = replace(signing, spec=replace(signing.spec, dlms=wrong))
        with pytest.raises(Exception, match="suite"):
            await _read(area, other, tmp_path)
    finally:
        await area.stop()
