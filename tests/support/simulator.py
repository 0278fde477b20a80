"""A simulated neighbourhood for code without `await`, and raw questions to its meters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from protocols.clock import NowSource
from protocols.meters.session_thread import SessionThread
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import MeterKind, MeterPlan
from tests.support.fakes import HandClock, plan_secrets
from tests.support.waiting import PATIENCE

AARQ_NONE = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")


async def ask_tcp(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(512), PATIENCE)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@dataclass(frozen=True, slots=True)
class ServedNeighbourhood:
    """A neighbourhood that answers from a thread of its own, and the URLs of its meters."""

    area: Neighbourhood
    folder: Path

    def meter(self, kind: MeterKind, *, auth: str | None = None) -> MeterPlan:
        """The first consumer's meter of a kind; of DLMS, with that authentication."""
        return next(
            m
            for m in self.area.plan.meters
            if m.kind is kind
            and m.role == "consumer"
            and (auth is None or (m.spec.dlms is not None and m.spec.dlms.auth == auth))
        )

    def url(self, meter: MeterPlan, /, **settings: object) -> str:
        """The URL of a meter with what it needs, and these settings."""
        line = next(line for line in self.area.plan.lines if line.name == meter.line)
        place = line.device if line.device is not None else f"{line.host}:{line.port}"
        scheme = {"serial": "serial", "rtu-over-tcp": "rtu+tcp"}.get(line.kind, "tcp")
        wanted: dict[str, object] = {"baud": line.baud} if line.device is not None else {}
        if meter.spec.dlms is not None:
            protocol = "dlms"
            wanted["client"] = meter.spec.dlms.client
            wanted["auth"] = meter.spec.dlms.auth
            if meter.spec.dlms.physical is not None:
                wanted["physical"] = meter.spec.dlms.physical
        else:
            assert meter.spec.modbus is not None
            protocol = "modbus"
            wanted |= {"unit": meter.spec.modbus.unit, "model": meter.spec.modbus.model}
        query = "&".join(f"{name}={value}" for name, value in {**wanted, **settings}.items())
        return f"{protocol}+{scheme}://{place}?{query}"

    def keys(self, meter: MeterPlan) -> Path:
        """A key file with the secrets of a DLMS meter."""
        dlms = meter.spec.dlms
        assert dlms is not None
        secrets = plan_secrets(self.area.plan)
        names = {
            "password" if dlms.client == 32 else "hls_key": dlms.password_ref,
            "encryption_key": dlms.encryption_key_ref,
            "authentication_key": dlms.authentication_key_ref,
        }
        path = self.folder / f"{meter.key}.toml"
        path.touch(mode=0o600)
        path.write_text(
            "".join(f'{n} = "hex:{secrets.secret(ref).hex()}"\n' for n, ref in names.items() if ref)
        )
        return path


@contextmanager
def served_neighbourhood(
    folder: Path, *, seed: int = 1, clock: NowSource | None = None
) -> Iterator[ServedNeighbourhood]:
    """Serve a neighbourhood from a thread while the block runs; its clock stands still at a present minute."""
    now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    present = clock or HandClock(now)

    @asynccontextmanager
    async def served() -> AsyncIterator[Neighbourhood]:
        area = await Neighbourhood.start(seed=seed, clock=present)
        try:
            yield area
        finally:
            await area.stop()

    thread = SessionThread(served)
    try:
        yield ServedNeighbourhood(thread.open(), folder)
    finally:
        thread.close()
