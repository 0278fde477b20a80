"""DLMS/COSEM meters: sans-IO core, sessions, profiles, pushes, companions. The server side simulates meters.

Importing this package needs `cryptography` and the standard library only. What is listed in `__all__` is its
face; interface classes lie in `protocols.dlms.objects`, values in `protocols.reading`, errors in
`protocols.errors`. Meters are opened by URL with `protocols.meters.open_meter`, which needs the libraries of all
lines; `open_dlms` has its line from the caller.

    from protocols.dlms import Auth, DlmsSettings, MeterSpec, SessionContext, TcpLine, open_dlms

    spec = MeterSpec(meter=None, dlms=DlmsSettings(client=16))
    async with open_dlms(TcpLine("meter", "10.0.0.7", 4059), spec, context) as session:
        print(await session.identify())
"""

from typing import TYPE_CHECKING

from protocols.lazy_imports import lazy_names

if TYPE_CHECKING:
    from protocols.dlms.security.suites import Keys
    from protocols.dlms.session import DlmsSession, open_dlms
    from protocols.dlms.trace.frames import decode_trace
    from protocols.lines.tcp import TcpLine
    from protocols.lines.udp import UdpLine
    from protocols.session import Auth, DlmsSettings, MeterSpec, Protection, SessionContext

__all__ = [
    "Auth",
    "DlmsSession",
    "DlmsSettings",
    "Keys",
    "MeterSpec",
    "Protection",
    "SessionContext",
    "TcpLine",
    "UdpLine",
    "decode_trace",
    "open_dlms",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Auth": "protocols.session",
        "DlmsSession": "protocols.dlms.session",
        "DlmsSettings": "protocols.session",
        "Keys": "protocols.dlms.security.suites",
        "MeterSpec": "protocols.session",
        "Protection": "protocols.session",
        "SessionContext": "protocols.session",
        "TcpLine": "protocols.lines.tcp",
        "UdpLine": "protocols.lines.udp",
        "decode_trace": "protocols.dlms.trace.frames",
        "open_dlms": "protocols.dlms.session",
    },
)
