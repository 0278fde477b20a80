"""gurux-dlms and firmware images, in a process of its own: as the client that sends one, and as the meter's object.

Tasks are lines of JSON, what came of them lines out. Of the meter's side gurux's object is used for what it shows
(its own `invoke` does not run in 1.0.203): we set its fields, it builds the values that our client reads, and it parses
the parameters that our client sends.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from gurux_dlms import GXByteBuffer, GXDLMSClient, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo
from gurux_dlms.objects.enums import ImageTransferStatus
from gurux_dlms.objects.GXDLMSData import GXDLMSData
from gurux_dlms.objects.GXDLMSImageActivateInfo import GXDLMSImageActivateInfo
from gurux_dlms.objects.GXDLMSImageTransfer import GXDLMSImageTransfer
from gurux_dlms.ValueEventArgs import ValueEventArgs

TIMEOUT = 10.0


class Sender:
    """Sends an image into a meter, over the wrapper and without ciphering."""

    def __init__(self, task: dict[str, Any]) -> None:
        hdlc = task["framing"] == "hdlc"
        server = GXDLMSClient.getServerAddress(1, task["physical"]) if hdlc else 1
        framing = InterfaceType.HDLC if hdlc else InterfaceType.WRAPPER
        self.client = GXDLMSClient(True, task["client"], server, Authentication.NONE, None, framing)
        self.socket = socket.create_connection(("127.0.0.1", task["port"]), timeout=TIMEOUT)
        self.image = GXDLMSImageTransfer("0.0.44.0.0.255")

    def ask(self, packets: Any) -> Any:
        """Send packets and give the last answer."""
        reply = GXReplyData()
        for packet in packets if isinstance(packets, list) else [packets]:
            reply.clear()
            self.socket.sendall(bytes(packet))
            received, complete = GXByteBuffer(), False
            while not complete:
                data = self.socket.recv(4096)
                if not data:
                    raise ConnectionError("the meter hung up")
                received.set(data)
                complete = self.client.getData(received, reply, None)
        if reply.error:
            raise RuntimeError(f"error {reply.error}")
        return reply

    def read(self, item: Any, attribute: int) -> Any:
        """Read an attribute into its object, and give it."""
        value = self.ask(self.client.read(item, attribute)).value
        self.client.updateValue(item, attribute, value)
        return item.getValues()[attribute - 1]

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Associate, transfer, verify and activate; say what the meter showed on the way."""
        snrm = self.client.snrmRequest()
        if snrm:
            self.client.parseUAResponse(self.ask(snrm).data)
        self.client.parseAareResponse(self.ask(self.client.aarqRequest()).data)
        content, name = bytes.fromhex(task["image"]), bytes.fromhex(task["name"]).decode()
        self.image.imageTransferEnabled = True
        self.ask(self.client.write(self.image, 5))
        found: dict[str, Any] = {"enabled": bool(self.read(self.image, 5)), "size": self.read(self.image, 2)}
        self.ask(self.image.imageTransferInitiate(self.client, name, len(content)))
        found["initiated"] = int(self.read(self.image, 6))
        for packet in self.image.imageBlockTransfer(self.client, content, [0]):
            self.ask(packet)
        found["bits"] = str(self.read(self.image, 3))
        found["first_missing"] = int(self.read(self.image, 4))
        self.ask(self.image.imageVerify(self.client))
        found["verified"] = int(self.read(self.image, 6))
        self.read(self.image, 7)
        found["waits"] = [[int(i.size), bytes(i.identification).hex()] for i in self.image.imageActivateInfo]
        self.ask(self.image.imageActivate(self.client))
        found["activated"] = int(self.read(self.image, 6))
        version = GXDLMSData("1.0.0.2.0.255")
        found["version"] = bytes(self.ask(self.client.read(version, 2)).value).decode()
        return found


def shown(task: dict[str, Any]) -> dict[str, Any]:
    """Give each attribute of an image transfer object as gurux encodes it."""
    settings = GXDLMSSettings(True, None)
    item = GXDLMSImageTransfer("0.0.44.0.0.255")
    item.imageBlockSize = task["size"]
    item.imageTransferredBlocksStatus = task["bits"]
    item.imageFirstNotTransferredBlockNumber = task["first_missing"]
    item.imageTransferEnabled = task["enabled"]
    item.imageTransferStatus = ImageTransferStatus(task["status"])
    info = GXDLMSImageActivateInfo()
    info.size, info.identification, info.signature = task["image_size"], bytes.fromhex(task["name"]), b""
    item.imageActivateInfo = [info]
    found = {}
    for index in range(2, 8):
        value = item.getValue(settings, ValueEventArgs(settings, item, index))
        if isinstance(value, GXByteBuffer):
            found[str(index)] = bytes(value.array()).hex()
            continue
        out = GXByteBuffer()
        _GXCommon.setData(settings, out, item.getDataType(index), value)
        found[str(index)] = bytes(out.array()).hex()
    return found


def parsed(task: dict[str, Any]) -> dict[str, Any]:
    """Give the parameters of methods as gurux reads them."""
    settings = GXDLMSSettings(True, None)
    found = []
    for text in task["parameters"]:
        value = _GXCommon.getData(settings, GXByteBuffer(bytes.fromhex(text)), _GXDataInfo())
        items = value if isinstance(value, list) else [value]
        found.append([bytes(v).hex() if isinstance(v, bytes | bytearray) else int(v) for v in items])
    return {"values": found}


DOES = {"send": lambda task: Sender(task).run(task), "show": shown, "parse": parsed}


def main() -> None:
    """Serve tasks until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        task = json.loads(line)
        try:
            found = DOES[task["do"]](task)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
