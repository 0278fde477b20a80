"""A served meter, the line to it, and sessions over both, for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta

from protocols.dlms.client.association_pool import AssociationPool
from protocols.dlms.reading.layout_cache import Layouts
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.ports import serve_hdlc_tcp, serve_wrapper
from protocols.dlms.session import DlmsSession, open_dlms
from protocols.line import Line
from protocols.lines.tcp import TcpLine
from protocols.reading import ProfileName, ReadingSet
from protocols.session import Auth, DlmsSettings, MeterSpec, SessionContext
from tests.support.dlms.bench import AK, EK, HLS_KEY, PASSWORD, POLICIES, START, SmallMeter
from tests.support.fakes import Counters, ManualClock, Secrets

NOW = START + timedelta(hours=36)
SECRETS = Secrets(
    {"ek": EK, "ak": AK, "password": PASSWORD, "hls": HLS_KEY, "wrong": b"wrong", "badkey": EK[::-1]}
)


def settings(name: str, **changes: object) -> DlmsSettings:
    policy = POLICIES[name][0]
    values: dict[str, object] = {
        "client": 48,
        "auth": policy.auth,
        "ciphered": policy.ciphered,
        "password_ref": {Auth.LLS: "password", Auth.HLS2: "hls"}.get(policy.auth),
        "encryption_key_ref": "ek" if policy.encryption_key else None,
        "authentication_key_ref": "ak" if policy.encryption_key else None,
        "timeout": 2.0,
    }
    return DlmsSettings(**(values | changes))  # type: ignore[arg-type]


class Site:
    """A served meter and the line to it."""

    def __init__(self, meter: SmallMeter, line: Line, name: str, framing: str) -> None:
        self.meter, self.line, self.name, self.framing = meter, line, name, framing
        self.counters = Counters()
        self.clock = ManualClock(NOW)

    def spec(self, meter: str | None = "GEN:00000007", **changes: object) -> MeterSpec:
        hdlc = {"framing": "hdlc", "physical": 17} if self.framing == "hdlc" else {}
        return MeterSpec(meter=meter, dlms=settings(self.name, **(hdlc | changes)))

    def open(
        self,
        spec: MeterSpec | None = None,
        layouts: Layouts | None = None,
        pool: AssociationPool | None = None,
    ) -> AbstractAsyncContextManager[DlmsSession]:
        return open_dlms(
            self.line,
            spec or self.spec(),
            SessionContext(secrets=SECRETS, counters=self.counters, clock=self.clock),
            layouts=layouts,
            pool=pool,
        )


@asynccontextmanager
async def site(name: str = "hls2", framing: str = "wrapper") -> AsyncIterator[Site]:
    meter = SmallMeter({48: POLICIES[name][0]})
    limits = ServerSettings(max_pdu=560)
    if framing == "hdlc":
        server = await serve_hdlc_tcp({17: meter}, settings=limits)
    else:
        server = await serve_wrapper(meter, settings=limits)
    host, port = server.sockets[0].getsockname()[:2]
    line = TcpLine("test", host, port)
    try:
        yield Site(meter, line, name, framing)
    finally:
        await line.close()
        server.close()


async def collect(session: DlmsSession, profile: ProfileName, *span: datetime | None) -> list[ReadingSet]:
    return [s async for s in session.read(profile, *span)]
