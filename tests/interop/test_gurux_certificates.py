"""A gurux-dlms client works on the certificates of our served meter's security setup (class 64, methods 4 to 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data
from protocols.dlms.security.curves import PublicKey
from protocols.dlms.security.key_use import KeyUse
from protocols.simulator.cosem.certificates import CertificateStore
from protocols.simulator.neighbourhood.authority import Authority
from tests.support.dlms.bench import SIGNERS, TITLE
from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import Served, client_task, served_meter
from tests.support.interop.table import CERTIFICATES, Case

SETUP = "0-0:43.0.3*255"
TOWN = Authority(1, 1)


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_client.py")
    yield process
    process.close()


def with_certificates(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[KeyUse]:
    """Give the meter a security setup; tells of key pairs that began to rule."""
    meter, adopted = served.meter, list[KeyUse]()
    key = SIGNERS[served.case.suite, "meter"]
    store = CertificateStore(TITLE, {KeyUse.SIGNING: key}, lambda use, _: adopted.append(use))
    methods, plain = store.methods(served.case.suite), meter.action

    def action(client: int, target: Target, parameter: Data | None) -> Data | None:
        if str(target.obis) != SETUP:
            return plain(client, target, parameter)
        answer = methods[target.index](parameter)
        meter.attributes[SETUP, 6] = store.listed()
        return answer

    monkeypatch.setattr(meter, "action", action)
    return adopted


@pytest.mark.parametrize("case", CERTIFICATES, ids=str)
async def test_a_gurux_client_brings_our_meter_its_certificate(
    case: Case, peer: PeerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_meter(case) as served:
        adopted = with_certificates(served, monkeypatch)

        async def does(step: str, counter: int, **more: Any) -> dict[str, Any]:
            task = client_task(case, served.port, b"GRXPEER1") | {
                "services": ["associate", step],
                "dedicated_key": "",
                "general": False,
                "general_blocks": False,
                "address_octets": 2,
                "counter": counter,
                "setup": "0.0.43.0.3.255",
            }
            found = await peer.ask(task | more)
            assert "failed" not in found, found["failed"]
            told = found[step]
            assert isinstance(told, dict)
            return told

        asked = await does("certificate_request", 1000)
        request = x509.load_der_x509_csr(bytes.fromhex(asked["octets"]))
        assert request.is_signature_valid
        assert asked["subject"] == request.subject.rfc4514_string() == f"CN={TITLE.hex().upper()}"
        key = request.public_key()
        assert isinstance(key, PublicKey)
        made = TOWN.certificate(TITLE, key, KeyUse.SIGNING)
        octets = made.public_bytes(Encoding.DER)
        brought = await does(
            "certificate_import", 2000, certificate=octets.hex(), serial=str(made.serial_number)
        )
    assert brought["exported"] == octets.hex()
    assert brought["listed"][:2] == [0, 0]
    assert brought["listed"][3] == made.subject.public_bytes().hex()
    assert adopted == [KeyUse.SIGNING]
