"""A client made of dlms-cosem, run as a process of its own in `.venv-peers`: tasks as lines of JSON in and out."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from dlms_cosem import cosem, enumerations
from dlms_cosem.client import DlmsClient
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.dlms_data import OctetStringData
from dlms_cosem.io import BlockingTcpIO, HdlcTransport, TcpTransport
from dlms_cosem.protocol import xdlms
from dlms_cosem.security import (
    HighLevelSecurityCommonAuthentication,
    HighLevelSecurityGmacAuthentication,
    LowLevelSecurityAuthentication,
    NoSecurityAuthentication,
)
from dlms_cosem.utils import parse_as_dlms_data

DATA, REGISTER, PROFILE, CLOCK, RELAY = (enumerations.CosemInterface(n) for n in (1, 3, 7, 8, 70))


def attribute(interface: Any, name: str, number: int = 2) -> Any:
    """Name an attribute."""
    return cosem.CosemAttribute(interface, cosem.Obis.from_string(name), number)


SERIAL = attribute(DATA, "0-0:96.1.0.255")
ENERGY = attribute(REGISTER, "1-0:1.8.0.255")
TIME = attribute(CLOCK, "0-0:1.0.0.255")
CONTACT = attribute(RELAY, "0-0:96.3.10.255")


class MendedGmac(HighLevelSecurityGmacAuthentication):
    """Its HLS-GMAC, with another invocation counter for the APDU around the proof than for the proof."""

    def hls_generate_reply_data(self, connection: Any) -> bytes:
        """Give the proof and let the counter rise."""
        proof = bytes(super().hls_generate_reply_data(connection))
        connection.client_invocation_counter += 1
        return proof


class Recording(BlockingTcpIO):
    """Its TCP transport; what goes over it is kept for the test to look at."""

    def connect(self) -> None:
        """Connect and begin to record."""
        self.wire: list[list[str]] = []
        super().connect()

    def send(self, data: bytes) -> None:
        """Send and record."""
        self.wire.append(["client", bytes(data).hex()])
        super().send(data)

    def recv(self, amount: int = 1) -> bytes:
        """Receive and record."""
        data = super().recv(amount)
        self.wire.append(["meter", bytes(data).hex()])
        return data


class MendedHdlc(HdlcTransport):
    """Its HDLC, which takes a closing flag after an octet 7E for the beginning of a frame and waits for ever.

    Here a frame is read by its length, and given to it in the pieces that it expects.
    """

    pieces: Any = ()

    def recv_frame(self) -> bytes:
        """Give what is up to the next octet 7E."""
        if not self.pieces:
            head = self.io.recv(3)
            frame = head + self.io.recv((head[1] & 7) * 256 + head[2] - 1)
            self.pieces = [part + b"\x7e" for part in frame[1:-1].split(b"\x7e")]
            self.pieces[0] = b"\x7e" + self.pieces[0]
        return bytes(self.pieces.pop(0))


class Peer:
    """One association over one socket."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        secret = bytes.fromhex(task["password"])
        authentication = {
            "NONE": NoSecurityAuthentication,
            "LOW": lambda: LowLevelSecurityAuthentication(secret),
            "HIGH": lambda: HighLevelSecurityCommonAuthentication(secret),
            "HIGH_GMAC": MendedGmac if task["mended"] else HighLevelSecurityGmacAuthentication,
        }[task["auth"]]()
        self.io = Recording(task["host"], task["port"])
        where = {"client_logical_address": 48, "server_logical_address": 1, "io": self.io}
        hdlc = task["framing"] == "hdlc"
        transport = MendedHdlc(server_physical_address=17, **where) if hdlc else TcpTransport(**where)
        keys = {}
        if task["protection"] != "plain":
            keys = {
                "encryption_key": bytes.fromhex(task["encryption_key"]),
                "authentication_key": bytes.fromhex(task["authentication_key"]),
                "client_initial_invocation_counter": task["counter"],
            }
        title = bytes.fromhex(task["title"])
        self.client = DlmsClient(transport, authentication, client_system_title=title, **keys)

    def value(self, target: Any) -> Any:
        """Read one attribute as its plain value."""
        return plain(parse_as_dlms_data(self.client.get(target)))

    # what the columns of the table stand for

    def associate(self) -> str:
        """Open the link and the association, with the third and fourth pass where there is one."""
        self.client.connect()
        self.client.associate()
        return "done"

    def get(self) -> list[Any]:
        """Read three short values one by one."""
        return [self.value(SERIAL), self.value(ENERGY), self.value(TIME)]

    def blocks_by_range(self) -> Any:
        """Read the block load profile by range; it is long enough for several blocks."""
        since, until = (datetime.fromisoformat(self.task[edge]) for edge in ("since", "until"))
        selection = RangeDescriptor(CaptureObject(TIME, 0), since, until)
        octets = self.client.get(attribute(PROFILE, "1-0:99.1.0.255"), selection)
        return plain(parse_as_dlms_data(octets))

    def get_list(self) -> Any:
        """Read the same three values in one request."""
        wanted = [cosem.CosemAttributeWithSelection(one, None) for one in (SERIAL, ENERGY, TIME)]
        response = self.client.get_many(wanted)
        return plain(response.result)

    def set(self) -> str:
        """Set the clock."""
        answer = self.client.set(TIME, OctetStringData(bytes.fromhex(self.task["clock"])).to_bytes())
        return str(answer.result.name)

    def action(self) -> list[Any]:
        """Open and close the relay, reading its state before, between and after."""
        found = [self.value(CONTACT)]
        for method in (1, 2):
            self.client.action(cosem.CosemMethod(RELAY, CONTACT.instance, method), b"\x0f\x00")
            found.append(self.value(CONTACT))
        return found

    def release(self) -> str:
        """Release the association, and then see that the meter no longer serves it."""
        self.client.release_association()
        data = xdlms.GetRequestNormal(cosem_attribute=SERIAL).to_bytes()
        answer = self.client.transport.send_request(data)
        if self.task["framing"] == "hdlc":
            self.client.disconnect()
        return bytes(answer).hex()


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
            found[service] = getattr(peer, service)()
    except Exception as error:  # noqa: BLE001 - whatever a foreign stack raises is part of the answer
        found["failed"] = {"service": service, "error": f"{type(error).__name__}: {error.__cause__ or error}"}
    finally:
        if peer.io.tcp_socket is not None:
            peer.io.tcp_socket.close()
    return found | {"wire": getattr(peer.io, "wire", [])}


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # its log goes to standard output
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
