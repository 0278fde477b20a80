"""A client made of gurux-dlms, run as a process of its own: tasks as lines of JSON in, what it did as lines out."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from gurux_dlms import GXByteBuffer, GXDateTime, GXReplyData
from gurux_dlms.asn.GXPkcs10 import GXPkcs10
from gurux_dlms.ecdsa.GXPrivateKey import GXPrivateKey
from gurux_dlms.ecdsa.GXPublicKey import GXPublicKey
from gurux_dlms.enums import (
    AccessServiceCommandType,
    Authentication,
    Conformance,
    DataType,
    InterfaceType,
    Security,
)
from gurux_dlms.GXDLMSAccessItem import GXDLMSAccessItem
from gurux_dlms.GXDLMSGateway import GXDLMSGateway
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.objects import GXDLMSClock, GXDLMSData, GXDLMSDisconnectControl, GXDLMSProfileGeneric
from gurux_dlms.objects.enums import CertificateType, GlobalKeyType, SecuritySuite
from gurux_dlms.objects.GXDLMSRegister import GXDLMSRegister
from gurux_dlms.objects.GXDLMSSecuritySetup import GXDLMSSecuritySetup
from gurux_dlms.secure import GXDLMSSecureClient

# what gurux 1.0.203 asks for to acknowledge a block of general block transfer, and does not have
GXDLMSSettings.blockNumber = property(lambda settings: settings.blockIndex)

READ_OCTETS = 4096
TIMEOUT = 10.0
WINDOW = 3
"""Blocks of a general block transfer that may come in a row; on HDLC one, since it must ask for each there."""
SECURITY = {
    "authenticated": Security.AUTHENTICATION,
    "encrypted": Security.ENCRYPTION,
    "authenticated-encrypted": Security.AUTHENTICATION_ENCRYPTION,
}
SERIAL = GXDLMSData("0.0.96.1.0.255")
REGISTER = GXDLMSRegister("1.0.1.8.0.255")
CLOCK = GXDLMSClock("0.0.1.0.0.255")
BLOCK_LOAD = GXDLMSProfileGeneric("1.0.99.1.0.255")
RELAY = GXDLMSDisconnectControl("0.0.96.3.10.255")


class Peer:
    """One association over one socket; every octet is kept for the test to look at."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        hdlc = task["framing"] == "hdlc"
        physical = hdlc and task["address_octets"] > 1
        server = GXDLMSSecureClient.getServerAddress(1, 17, task["address_octets"]) if physical else 1
        password = bytes.fromhex(task["password"]) or None
        framing = InterfaceType.HDLC if hdlc else InterfaceType.WRAPPER
        auth = Authentication[task["auth"]]
        logical = task.get("reference", "ln") == "ln"
        self.client = GXDLMSSecureClient(logical, 48, server, auth, password, framing)
        if "gateway" in task:
            self.client.gateway = GXDLMSGateway()
            self.client.gateway.networkId = task["network"]
            self.client.gateway.physicalDeviceAddress = task["gateway"].encode()
        self.client.serverAddressSize = task["address_octets"]
        self._cipher(task)
        proposed = self.client.proposedConformance
        if not task["general"]:
            proposed &= ~Conformance.GENERAL_PROTECTION
        if task["general_blocks"]:
            self.client.settings.gbtWindowSize = 1 if hdlc else WINDOW
            proposed |= Conformance.GENERAL_BLOCK_TRANSFER
        self.client.proposedConformance = proposed
        self.client.useProtectedRelease = task["protection"] != "plain"
        self.wire: list[list[str]] = []
        self.blocks = 0
        self.socket = socket.create_connection((task["host"], task["port"]), timeout=TIMEOUT)

    def _cipher(self, task: dict[str, Any]) -> None:
        cipher = self.client.ciphering
        cipher.systemTitle = bytes.fromhex(task["title"])
        cipher.blockCipherKey = bytes.fromhex(task["encryption_key"])
        cipher.authenticationKey = bytes.fromhex(task["authentication_key"])
        cipher.invocationCounter = task["counter"]
        cipher.securitySuite = SecuritySuite(task["suite"])
        if "signing" in task:
            private = GXPrivateKey.fromRawBytes(bytes.fromhex(task["signing"]))
            cipher.signingKeyPair = (GXPublicKey.fromRawBytes(bytes.fromhex(task["signer"])), private)
        if task["protection"] != "plain":
            cipher.security = SECURITY[task["protection"]]
        if task["dedicated_key"]:
            cipher.dedicatedKey = bytes.fromhex(task["dedicated_key"])

    def _packet(self, octets: Any, reply: Any) -> None:
        if octets is not None:
            self.socket.sendall(bytes(octets))
            self.wire.append(["client", bytes(octets).hex()])
        received = GXByteBuffer()
        complete = False
        while not complete:
            data = self.socket.recv(READ_OCTETS)
            if not data:
                raise ConnectionError("the meter hung up")
            self.wire.append(["meter", data.hex()])
            received.set(data)
            complete = self.client.getData(received, reply, None)

    def ask(self, packets: Any) -> Any:
        """Send a request and collect all blocks of its answer."""
        reply = GXReplyData()
        for packet in packets if isinstance(packets, list) else [packets]:
            reply.clear()
            self._packet(packet, reply)
            while reply.isMoreData():
                self.blocks += 1
                streamed = bool(reply.streaming)  # the next block comes unasked
                self._packet(None if streamed else self.client.receiverReady(reply), reply)
        if reply.error:
            raise RuntimeError(f"error {reply.error}")
        return reply

    def value(self, item: Any, attribute: int) -> Any:
        """Read one attribute as its plain value."""
        return plain(self.ask(self.client.read(item, attribute)).value)

    # what the columns of the table stand for

    def associate(self) -> str:
        """Open the link and the association, with the third and fourth pass where there is one."""
        snrm = self.client.snrmRequest()
        if snrm:
            self.client.parseUAResponse(self.ask(snrm).data)
        self.client.parseAareResponse(self.ask(self.client.aarqRequest()).data)
        if self.client.isAuthenticationRequired:
            reply = self.ask(self.client.getApplicationAssociationRequest())
            self.client.parseApplicationAssociationResponse(reply.data)
        return f"{int(self.client.negotiatedConformance):06x}"

    def names(self) -> dict[str, int]:
        """Read the object list by short names, and name what is read later."""
        found = self.client.parseObjects(self.ask(self.client.getObjectsRequest()).data, False)
        names = {one.logicalName: one.shortName for one in found}
        for item in (SERIAL, REGISTER, CLOCK, BLOCK_LOAD, RELAY):
            item.shortName = names[item.logicalName]
        return names

    def get(self) -> list[Any]:
        """Read three short values one by one."""
        return [self.value(SERIAL, 2), self.value(REGISTER, 2), self.value(CLOCK, 2)]

    def blocks_by_range(self) -> dict[str, Any]:
        """Read the block load profile by range; it is long enough for several blocks."""
        since, until = (datetime.fromisoformat(self.task[edge]) for edge in ("since", "until"))
        before = self.blocks
        rows = plain(self.ask(self.client.readRowsByRange(BLOCK_LOAD, since, until)).value)
        return {"rows": rows, "blocks": self.blocks - before}

    def entries(self) -> Any:
        """Read rows three to seven of the profile."""
        return plain(self.ask(self.client.readRowsByEntry(BLOCK_LOAD, 3, 5)).value)

    def get_list(self) -> Any:
        """Read the same three values in one request."""
        requests = self.client.readList([(SERIAL, 2), (REGISTER, 2), (CLOCK, 2)])
        return plain(self.ask(requests[0]).value)

    def access(self) -> list[Any]:
        """Read the same three values, and what there is not, by the access service."""
        wanted = [(SERIAL, 2), (REGISTER, 2), (CLOCK, 2), (GXDLMSData("0.0.9.9.9.255"), 2)]
        items = [GXDLMSAccessItem(AccessServiceCommandType.GET, item, index) for item, index in wanted]
        reply = self.ask(self.client.accessRequest(None, items))
        self.client.updateValue = lambda *_: None  # what it makes of the values is not asked here
        self.client.parseAccessResponse(items, reply.data)
        return [[int(one.error), plain(one.value)] for one in items]

    def set(self) -> str:
        """Set the clock."""
        clock = GXDLMSClock("0.0.1.0.0.255")
        clock.time = GXDateTime(datetime.fromisoformat(self.task["until"]))
        self.ask(self.client.write(clock, 2))
        return "done"

    def set_blocks(self) -> int:
        """Write a value that needs several blocks; gives how many packets went out."""
        long = GXDLMSData("0.0.10.0.98.255")
        long.value = bytes.fromhex(self.task["long"])
        long.setDataType(2, DataType.OCTET_STRING)
        packets = self.client.write(long, 2)
        self.ask(packets)
        return len(packets)

    def action(self) -> list[Any]:
        """Open and close the relay, reading its state before, between and after."""
        found = [self.value(RELAY, 2)]
        for order in (RELAY.remoteDisconnect, RELAY.remoteReconnect):
            self.ask(order(self.client))
            found.append(self.value(RELAY, 2))
        return found

    def action_blocks(self) -> dict[str, Any]:
        """Run a method whose parameter and answer both need several blocks."""
        parameter = bytes.fromhex(self.task["long"])
        before = self.blocks
        reply = self.ask(
            self.client.method(GXDLMSData("0.0.10.0.99.255"), 1, parameter, DataType.OCTET_STRING)
        )
        return {"answer": plain(reply.value), "blocks": self.blocks - before}

    def keys(self) -> str:
        """Transfer new keys to a security setup, wrapped by gurux under the master key."""
        wanted = self.task["keys"]
        setup = GXDLMSSecuritySetup(wanted["setup"])
        entries = [(GlobalKeyType(kind), bytearray.fromhex(key)) for kind, key in wanted["new"]]
        self.ask(setup.globalKeyTransfer(self.client, bytearray.fromhex(wanted["master_key"]), entries))
        return "done"

    def certificate_request(self) -> dict[str, str]:
        """Let the meter make a new key pair for signatures, and take its certificate request."""
        setup = GXDLMSSecuritySetup(self.task["setup"])
        self.ask(setup.generateKeyPair(self.client, CertificateType.DIGITAL_SIGNATURE))
        octets = bytes(
            self.ask(setup.generateCertificate(self.client, CertificateType.DIGITAL_SIGNATURE)).value
        )
        return {"octets": octets.hex(), "subject": GXPkcs10(octets).subject}

    def certificate_import(self) -> dict[str, Any]:
        """Give the meter its certificate, and read what it lists and exports."""
        setup = GXDLMSSecuritySetup(self.task["setup"])
        certificate = SimpleNamespace(
            encoded=bytes.fromhex(self.task["certificate"])
        )  # its own reader of them fails
        self.ask(setup.importCertificate(self.client, certificate))
        setup.version = 1
        listed = self.ask(self.client.read(setup, 6)).value
        setup.updateSertificates(listed)
        (one,) = setup.certificates
        asked = setup.exportCertificateBySerial(self.client, int(self.task["serial"]), bytes(one.issuer))
        return {
            "listed": [
                int(one.entity),
                int(one.type_),
                bytes(one.serialNumber).hex(),
                bytes(one.subject).hex(),
            ],
            "exported": plain(self.ask(asked).value),
        }

    def release(self) -> str:
        """Release the association, and then see that the meter no longer serves it."""
        self.ask(self.client.releaseRequest())
        try:
            self.client.ciphering.dedicatedKey = None
            self.value(SERIAL, 2)
        except Exception as error:  # noqa: BLE001 - whatever a foreign stack raises is part of the answer
            return type(error).__name__
        return "still served"


def plain(value: Any) -> Any:
    """Give octets as hex, at any depth."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    return [plain(one) for one in value] if isinstance(value, list) else value


def serve(task: dict[str, Any]) -> dict[str, Any]:
    """Do what the task asks for, one service after the other; the first failure ends it."""
    peer = Peer(task)
    found: dict[str, Any] = {}
    service = "connect"
    try:
        for service in task["services"]:
            step: Callable[[], Any] = getattr(peer, service)
            found[service] = step()
    except Exception as error:  # noqa: BLE001 - whatever a foreign stack raises is part of the answer
        found["failed"] = {"service": service, "error": f"{type(error).__name__}: {error}"}
    finally:
        peer.socket.close()
    return found | {"wire": peer.wire}


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # gurux prints as it works
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
