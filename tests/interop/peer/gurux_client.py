"""A client made of gurux-dlms, run as a process of its own: a task as JSON in, what it read as JSON out."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from datetime import datetime
from typing import Any

from gurux_dlms import GXByteBuffer, GXDateTime, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType, Security
from gurux_dlms.objects import GXDLMSClock, GXDLMSData, GXDLMSDisconnectControl, GXDLMSProfileGeneric
from gurux_dlms.objects.GXDLMSRegister import GXDLMSRegister
from gurux_dlms.secure import GXDLMSSecureClient

READ_OCTETS = 4096


class Peer:
    """One association over one socket; every octet is kept for the test to look at."""

    def __init__(self, task: dict[str, Any]) -> None:
        hdlc = task["framing"] == "hdlc"
        server = GXDLMSSecureClient.getServerAddress(1, 17) if hdlc else 1
        password = bytes.fromhex(task["password"]) or None
        framing = InterfaceType.HDLC if hdlc else InterfaceType.WRAPPER
        auth = Authentication[task["auth"]]
        self.client = GXDLMSSecureClient(True, 48, server, auth, password, framing)
        cipher = self.client.ciphering
        cipher.systemTitle = bytes.fromhex(task["title"])
        cipher.blockCipherKey = bytes.fromhex(task["encryption_key"])
        cipher.authenticationKey = bytes.fromhex(task["authentication_key"])
        cipher.invocationCounter = task["counter"]
        if task["ciphered"]:
            cipher.security = Security.AUTHENTICATION_ENCRYPTION
        self.wire = bytearray()
        self.blocks = 0
        self.socket = socket.create_connection((task["host"], task["port"]), timeout=10)

    def _packet(self, octets: Any, reply: Any) -> None:
        if octets is None:
            return
        self.socket.sendall(bytes(octets))
        self.wire += bytes(octets)
        received = GXByteBuffer()
        complete = False
        while not complete:
            data = self.socket.recv(READ_OCTETS)
            if not data:
                raise ConnectionError("the meter hung up")
            self.wire += data
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
                self._packet(self.client.receiverReady(reply), reply)
        if reply.error:
            raise RuntimeError(f"error {reply.error}")
        return reply

    def associate(self) -> None:
        """Open the link and the association, with the third and fourth pass where there is one."""
        snrm = self.client.snrmRequest()
        if snrm:
            self.client.parseUAResponse(self.ask(snrm).data)
        self.client.parseAareResponse(self.ask(self.client.aarqRequest()).data)
        if self.client.isAuthenticationRequired:
            reply = self.ask(self.client.getApplicationAssociationRequest())
            self.client.parseApplicationAssociationResponse(reply.data)

    def value(self, item: Any, attribute: int) -> Any:
        """Read one attribute as its plain value."""
        found = self.ask(self.client.read(item, attribute)).value
        return bytes(found).hex() if isinstance(found, bytes | bytearray) else found

    def rows(self, task: dict[str, Any]) -> list[list[Any]]:
        """Read the block load profile by range."""
        profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
        since, until = (datetime.fromisoformat(task[edge]) for edge in ("since", "until"))
        found = self.ask(self.client.readRowsByRange(profile, since, until)).value
        return [[bytes(row[0]).hex(), *row[1:]] for row in found]

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Do what the test compares."""
        self.associate()
        relay = GXDLMSDisconnectControl("0.0.96.3.10.255")
        found = {
            "serial": self.value(GXDLMSData("0.0.96.1.0.255"), 2),
            "register": self.value(GXDLMSRegister("1.0.1.8.0.255"), 2),
            "clock": self.value(GXDLMSClock("0.0.1.0.0.255"), 2),
            "rows": self.rows(task),
            "blocks": self.blocks,
            "relay": [self.value(relay, 2)],
        }
        for order in (relay.remoteDisconnect, relay.remoteReconnect):
            self.ask(order(self.client))
            found["relay"].append(self.value(relay, 2))
        clock = GXDLMSClock("0.0.1.0.0.255")
        clock.time = GXDateTime(datetime.fromisoformat(task["until"]))
        self.ask(self.client.write(clock, 2))
        self.socket.close()
        return found | {"wire": bytes(self.wire).hex()}


def main() -> None:
    task = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # gurux prints as it works
        found = Peer(task).run(task)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
