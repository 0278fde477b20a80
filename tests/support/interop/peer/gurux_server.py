"""A meter made of gurux-dlms, run as a process of its own: tasks as lines of JSON in, what was seen as lines out.

gurux-dlms 1.0.203 has a server class that does not run as shipped. What is used of it here: its HDLC frames and
wrapper, its AARQ parser, its ciphering and HLS functions, its COSEM objects and A-XDR codec, its handlers of GET
(whole, next block, list) with its splitting into blocks. The dispatcher, AARE, release, SET and ACTION are ours.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import Any

from gurux_dlms.ConnectionState import ConnectionState
from gurux_dlms.enums import Command, RequestTypes
from gurux_dlms.GXByteBuffer import GXByteBuffer
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.GXReplyData import GXReplyData
from gurux_objects import Meter
from gurux_services import Services

READ_OCTETS = 4096
TIMEOUT = 20.0


class Conversation:
    """One TCP connection to the meter."""

    def __init__(self, meter: Meter, stream: socket.socket, seen: dict[str, Any]) -> None:
        self.meter = meter
        self.settings = meter.settings
        self.task = meter.task
        self.stream = stream
        self.seen = seen
        self.services = Services(meter, seen)
        self.reply = self.services.reply

    def run(self) -> None:
        """Serve until the client hangs up."""
        pending = bytearray()
        hdlc = self.task["framing"] == "hdlc"
        info = GXReplyData()
        while octets := self.stream.recv(READ_OCTETS):
            self.seen["wire"].append(["client", octets.hex()])
            pending += octets
            if hdlc:
                info = self._hdlc(pending, info)
            else:
                self._wrapper(pending)

    def _send(self, octets: Any) -> None:
        self.seen["wire"].append(["meter", bytes(octets).hex()])
        self.stream.sendall(bytes(octets))

    # framing

    def _wrapper(self, pending: bytearray) -> None:
        while len(pending) >= 8 and len(pending) >= 8 + int.from_bytes(pending[6:8], "big"):
            end = 8 + int.from_bytes(pending[6:8], "big")
            frame = GXByteBuffer(bytes(pending[:end]))
            del pending[:end]
            frame.position = 2
            GXDLMS.checkWrapperAddress(self.settings, frame, GXReplyData(), None)
            frame.position = 8
            self.services.take(bytes(frame.remaining()))
            if self.reply:
                self._send(GXDLMS.getWrapperFrame(self.settings, Command.NONE, self.reply))
            if self.services.released:  # another client may come on the same connection
                self.settings.clientAddress = self.settings.serverAddress = 0

    def _hdlc(self, pending: bytearray, info: Any) -> Any:
        frame = GXByteBuffer(bytes(pending))
        control = GXDLMS.getHdlcData(True, self.settings, frame, info, None)
        if not info.complete:
            return info
        pending.clear()
        if control == Command.SNRM:
            GXDLMS.getDataFromFrame(frame, info, True)
            self._connect(info)
        elif control == Command.DISCONNECT_REQUEST:
            self._leave()
            self._send(GXDLMS.getHdlcFrame(self.settings, Command.UA, None))
        elif control & 1:  # receive ready: the next segment of our answer
            self._send(GXDLMS.getHdlcFrame(self.settings, self.settings.getNextSend(False), self.reply))
        else:
            GXDLMS.getDataFromFrame(frame, info, True)
            if info.moreData & RequestTypes.FRAME:
                self._send(GXDLMS.getHdlcFrame(self.settings, self.settings.getReceiverReady(), None))
                return info
            self.services.take(bytes(info.data.array()))
            if self.reply:
                self._send(GXDLMS.getHdlcFrame(self.settings, 0, self.reply))
        return GXReplyData()

    def _connect(self, info: Any) -> None:
        self._leave()
        hdlc = self.settings.hdlc
        info.data.position = 0
        GXDLMS.parseSnrmUaResponse(info.data, hdlc)
        self.settings.connected = ConnectionState.HDLC
        answer = GXByteBuffer(bytes((0x81, 0x80, 0)))
        for identifier, value in ((5, hdlc.maxInfoTX), (6, hdlc.maxInfoRX)):
            answer.setUInt8(identifier)
            GXDLMS.appendHdlcParameter(answer, value)
        for identifier in (7, 8):
            answer.setUInt8(identifier)
            answer.setUInt8(4)
            answer.setUInt32(1)
        answer.setUInt8(len(answer) - 3, 2)
        self._send(GXDLMS.getHdlcFrame(self.settings, Command.UA, answer))

    def _leave(self) -> None:
        self.settings.connected = ConnectionState.NONE
        self.meter.setTransaction(None)
        self.reply.clear()


class Listener:
    """A meter on a port of its own, until it is stopped."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.seen: dict[str, Any] = {
            "wire": [],
            "associations": [],
            "released": [],
            "blocks": 0,
            "failed": [],
        }
        self.meter = Meter(task)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.socket.getsockname()[1])

    def _listen(self) -> None:
        while True:
            try:
                stream, _ = self.socket.accept()
            except OSError:
                return
            stream.settimeout(TIMEOUT)
            with stream:
                self._serve(stream)

    def _serve(self, stream: socket.socket) -> None:
        self.meter.settings.clientAddress = self.meter.settings.serverAddress = 0
        self._adopt_keys()
        try:
            Conversation(self.meter, stream, self.seen).run()
        except Exception as error:  # noqa: BLE001 - whatever a foreign stack raises is part of the answer
            self.seen["failed"].append(f"{type(error).__name__}: {error}")

    def _adopt_keys(self) -> None:
        new, self.meter.new_keys = self.meter.new_keys, {}
        self.meter.task.update(new)
        if "authentication_key" in new:
            self.meter.task["answer_key"] = new["authentication_key"]
        self.meter.settings.cipher.blockCipherKey = bytearray.fromhex(self.meter.task["encryption_key"])

    def stop(self) -> dict[str, Any]:
        """Stop and tell what was seen."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(TIMEOUT)
        clock = self.meter.clock.time
        return self.seen | {
            "relay": self.meter.relay.outputState,
            "long": bytes(self.meter.long.value or b"").hex(),
            "clock": clock.value.isoformat(),
        }


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # gurux prints as it works
    listener: Listener | None = None
    for line in sys.stdin:
        task = json.loads(line)
        if task["do"] == "serve":
            listener = Listener(task)
            told = {"port": listener.port}
        else:
            assert listener is not None
            told = listener.stop()
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
