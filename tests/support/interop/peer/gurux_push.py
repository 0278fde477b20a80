"""What a gurux-dlms push client sends, run as a process of its own: tasks as lines of JSON in, octets as lines out."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from gurux_dlms.enums import Conformance, DataType, InterfaceType, Security
from gurux_dlms.GXCiphering import GXCiphering
from gurux_dlms.GXDLMSNotify import GXDLMSNotify
from gurux_dlms.objects import GXDLMSCaptureObject, GXDLMSData, GXDLMSPushSetup, GXDLMSRegister


def pushed(task: dict[str, Any]) -> list[str]:
    """Return the frames of one push, as hex."""
    framing = InterfaceType.WRAPPER if task["framing"] == "wrapper" else InterfaceType.HDLC
    notify = GXDLMSNotify(True, 64, 1, framing)
    if task["ciphered"]:
        cipher = GXCiphering(bytes.fromhex(task["title"]))
        cipher.security = Security.AUTHENTICATION_ENCRYPTION
        cipher.blockCipherKey = bytes.fromhex(task["encryption_key"])
        cipher.authenticationKey = bytes.fromhex(task["authentication_key"])
        cipher.invocationCounter = task["counter"]
        notify.setCipher(cipher)
        notify.conformance |= Conformance.GENERAL_PROTECTION
    if not task["blocks"]:
        notify.hdlcSettings.maxInfoTX = 512
    else:
        notify.conformance |= Conformance.GENERAL_BLOCK_TRANSFER
        notify.maxReceivePDUSize = 64
    setup = GXDLMSPushSetup("0.0.25.9.0.255")
    setup.pushObjectList.append((setup, GXDLMSCaptureObject(2, 0)))
    serial = GXDLMSData("0.0.96.1.0.255")
    serial.value = task["serial"].encode()
    serial.setDataType(2, DataType.OCTET_STRING)
    setup.pushObjectList.append((serial, GXDLMSCaptureObject(2, 0)))
    for number, value in enumerate(task["values"], 1):
        register = GXDLMSRegister(f"1.0.1.8.{number}.255")
        register.value = value
        register.scaler = 10
        register.unit = 30
        register.setDataType(2, DataType.UINT32)
        setup.pushObjectList.append((register, GXDLMSCaptureObject(2, 0)))
        setup.pushObjectList.append((register, GXDLMSCaptureObject(3, 0)))
    when = datetime(2026, 11, 30, 10, 0)
    return [bytes(frame).hex() for frame in notify.generatePushSetupMessages(when, setup)]


def main() -> None:
    """Serve tasks until the input ends."""
    for line in sys.stdin:
        try:
            found: dict[str, Any] = {"frames": pushed(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
