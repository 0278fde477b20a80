"""Our served meter as the foreign clients meet it, and what was seen on the wire meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import double_long_unsigned, octets
from protocols.dlms.security import curves
from protocols.dlms.security.curves import OwnKeys, PeerKey, PeerKeys
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.model import AssociationPolicy
from protocols.dlms.server.ports import serve_hdlc_tcp, serve_wrapper
from protocols.session import Auth, Protection
from tests.support.dlms.bench import (
    HLS_KEY,
    KEYS,
    PASSWORD,
    SIGNERS,
    START,
    TITLE,
    SmallMeter,
    suite_keys,
)
from tests.support.interop import wire
from tests.support.interop.table import GURUX_AUTH, Case, Service

IST = timedelta(minutes=330)
LONG = bytes(n & 0xFF for n in range(1500))
MAX_PDU = 512
CLOCK_NOW = cosem_time.encode(START + timedelta(hours=36))
CONTROL = {"plain": 0, "authenticated": 0x10, "encrypted": 0x20, "authenticated-encrypted": 0x30}
FIRST_COUNTER = 100


def secret_of(case: Case) -> bytes:
    """Give the LLS password or the HLS secret of a case."""
    if case.auth is Auth.LLS:
        return PASSWORD
    return HLS_KEY if case.auth.needs_secret else b""


def keys_of(case: Case) -> Keys:
    """Give the ciphering keys of a case."""
    return suite_keys(case.suite) if case.suite else KEYS


def secrets_of(case: Case, titles: dict[str, bytes]) -> wire.Secrets:
    """Give what opens the APDUs of a case."""
    keys = keys_of(case)
    return wire.Secrets(
        encryption=keys.encryption, authentication=keys.authentication, titles=titles, suite=case.suite
    )


def signing_task(case: Case, own: str, peer: str) -> dict[str, str]:
    """Give a foreign side its private signing key and the public one of ours."""
    if case.auth is not Auth.HLS_ECDSA:
        return {}
    number = SIGNERS[case.suite, own].private_numbers().private_value
    public = curves.public_octets(SIGNERS[case.suite, peer].public_key())
    octets_ = curves.CURVES[case.suite].octets
    return {"signing": number.to_bytes(octets_, "big").hex(), "signer": "04" + public.hex()}


def protection_of(case: Case) -> Protection:
    """Give the protection of a case; plain ones have the usual one, which is not used."""
    return Protection(case.protection) if case.ciphered else Protection.AUTHENTICATED_ENCRYPTED


@dataclass(slots=True)
class Served:
    """A meter that is being served. What came over the wire is there once it was recorded."""

    case: Case
    meter: SmallMeter
    port: int
    long: bytes = b""
    seen: list[wire.Seen] = field(default_factory=list)

    @property
    def control(self) -> int:
        """The security control that was agreed."""
        return CONTROL[self.case.protection] | self.case.suite

    def record(self, recorded: list[list[str]], *, client: bytes, long: bytes = b"") -> None:
        """Read what the peer recorded."""
        secrets = secrets_of(self.case, {"client": client, "meter": TITLE})
        self.seen = wire.read([(who, sent) for who, sent in recorded], self.case.framing, secrets)
        self.long = long

    def rows(self, first: int, last: int) -> list[list[Any]]:
        """Give rows of block load as a client must read them."""
        return [[cosem_time.encode(at).hex(), 23000 + n, n] for at, n in self.meter.blocks[first:last]]

    def seen_by(self, sender: str) -> list[wire.Seen]:
        """Give all APDUs of one side."""
        return [one for one in self.seen if one.sender == sender]

    def asked(self, head: bytes) -> list[wire.Seen]:
        """Give the client's APDUs that begin so, once they are opened."""
        return [one for one in self.seen if one.sender == "client" and one.plain.startswith(head)]

    def answered(self, head: bytes) -> list[wire.Seen]:
        """Give the meter's APDUs that begin so, once they are opened."""
        return [one for one in self.seen if one.sender == "meter" and one.plain.startswith(head)]

    def general_blocks(self, sender: str) -> int:
        """Give the most blocks that an APDU of one side took in general block transfer."""
        return max(one.blocks for one in self.seen if one.sender == sender)

    def blocks_of_long_answers(self) -> int:
        """Give how many blocks the answers to GET took."""
        if self.case.general_blocks:
            return max((one.blocks for one in self.answered(b"\xc4")), default=0)
        return len(self.answered(b"\xc4\x02"))

    def forms(self, sender: str) -> set[str]:
        """Give the forms of ciphering that one side used."""
        return {one.form for one in self.seen if one.sender == sender and one.form}


@asynccontextmanager
async def served_meter(case: Case) -> AsyncIterator[Served]:
    """Serve a meter for client 48 as the case asks, on a port of the system's choice."""
    policy = AssociationPolicy(
        auth=case.auth,
        ciphered=case.ciphered,
        protection=protection_of(case),
        secret=secret_of(case),
        encryption_key=keys_of(case).encryption,
        authentication_key=keys_of(case).authentication,
        suite=case.suite,
        own=OwnKeys(signing=SIGNERS.get((case.suite, "meter"))),
        peer=PeerKeys(signing=PeerKey(SIGNERS[case.suite, "client"].public_key()) if case.suite else None),
        may_write=True,
    )
    meter = SmallMeter({48: policy})
    meter.attributes["1-0:1.8.0*255", 2] = double_long_unsigned(1234)
    meter.attributes["0-0:10.0.98*255", 2] = octets(b"")
    meter.writable.add(("0-0:10.0.98*255", 2))
    settings = ServerSettings(max_pdu=256 if case.general_blocks else MAX_PDU, prefer_gbt=case.general_blocks)
    if case.framing == "hdlc":
        server = await serve_hdlc_tcp({17: meter}, settings=settings)
    else:
        server = await serve_wrapper(meter, settings=settings)
    async with server:
        yield Served(case, meter, server.sockets[0].getsockname()[1])


def client_task(case: Case, port: int, title: bytes) -> dict[str, Any]:
    """Say to a foreign client what to do."""
    steps = [s for s in case.services if s not in (Service.CIPHERING, Service.WRONG_KEY)]
    return {
        "services": [str(step) for step in steps],
        "framing": case.framing,
        "auth": GURUX_AUTH[case.auth],
        "protection": case.protection,
        "host": "127.0.0.1",
        "port": port,
        "password": secret_of(case).hex(),
        "title": title.hex(),
        "encryption_key": keys_of(case).encryption.hex(),
        "authentication_key": keys_of(case).authentication.hex(),
        "suite": case.suite,
        **signing_task(case, "client", "meter"),
        "counter": FIRST_COUNTER,
        "since": (START + IST + timedelta(minutes=30)).replace(tzinfo=None).isoformat(),
        "until": (START + IST + timedelta(minutes=30 * 40)).replace(tzinfo=None).isoformat(),
    }
