"""The objects of the meter made of gurux-dlms, and what gurux's handlers of GET ask of a server."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from gurux_dlms.enums import AccessMode, Conformance, DataType, InterfaceType, Unit
from gurux_dlms.GXByteBuffer import GXByteBuffer
from gurux_dlms.GXCiphering import GXCiphering
from gurux_dlms.GXDateTime import GXDateTime
from gurux_dlms.GXDLMSLongTransaction import GXDLMSLongTransaction
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.objects import (
    GXDLMSAssociationLogicalName,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSDisconnectControl,
    GXDLMSImageTransfer,
    GXDLMSProfileGeneric,
)
from gurux_dlms.objects.enums import SecuritySuite
from gurux_dlms.objects.GXDLMSRegister import GXDLMSRegister
from gurux_dlms.secure import GXDLMSSecureServer
from gurux_dlms.ValueEventArgs import ValueEventArgs

ROWS = 60


def _keep_rest(transaction: Any, data: Any) -> None:
    transaction.data = GXByteBuffer(data)


GXDLMSLongTransaction.setData = _keep_rest  # its handlers call it, 1.0.203 does not have it


def _value(kind: type, name: str, value: Any, data_type: DataType) -> Any:
    item = kind(name)
    item.value = value
    item.setDataType(2, data_type)
    return item


class Meter(GXDLMSSecureServer):
    """gurux's server state with what its handlers of GET ask for."""

    def __init__(self, task: dict[str, Any]) -> None:
        hdlc = task["framing"] == "hdlc"
        super().__init__(True, InterfaceType.HDLC if hdlc else InterfaceType.WRAPPER)
        self.task = task
        settings = self.settings
        settings.gbtWndowSize = 1  # sic: its handlers ask for this name
        settings.cipher = GXCiphering(bytearray.fromhex(task["title"]))
        settings.cipher.blockCipherKey = bytearray.fromhex(task["encryption_key"])
        settings.cipher.securitySuite = SecuritySuite(task["suite"])
        proposed = settings.proposedConformance
        if not task["general"]:
            proposed &= ~Conformance.GENERAL_PROTECTION
        if task["general_blocks"]:
            proposed |= Conformance.GENERAL_BLOCK_TRANSFER
        settings.proposedConformance = proposed
        self.counter = 1000
        self.new_keys: dict[str, str] = {}
        self.kept: Any = None
        self.relay = GXDLMSDisconnectControl("0.0.96.3.10.255")
        self.relay.outputState, self.relay.controlState, self.relay.controlMode = True, 1, 4
        self.clock = GXDLMSClock("0.0.1.0.0.255")
        self.clock.time = GXDateTime(datetime.fromisoformat(task["now"]))
        self.image = GXDLMSImageTransfer("0.0.44.0.0.255")
        self.image.imageTransferEnabled = False
        self.image.imageBlockSize = task.get("image_block", 0)
        self.firmware = _value(GXDLMSData, "1.0.0.2.0.255", bytearray(b"G1.0"), DataType.OCTET_STRING)
        self.blocks: dict[int, bytes] = {}
        self.described: dict[int, tuple[list[Any], list[int]]] = {}
        self.long = _value(GXDLMSData, "0.0.10.0.98.255", bytearray(), DataType.OCTET_STRING)
        self._fill()

    def _fill(self) -> None:
        octets, words = DataType.OCTET_STRING, DataType.UINT16
        energy = _value(GXDLMSRegister, "1.0.1.8.0.255", 1234, DataType.UINT32)
        volts = _value(GXDLMSRegister, "1.0.12.27.0.255", 2300, words)
        volts.scaler, volts.unit = 0.1, Unit.VOLTAGE
        block = _value(GXDLMSRegister, "1.0.1.29.0.255", 0, DataType.UINT32)
        block.unit = Unit.ACTIVE_ENERGY
        self.profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
        for item in (self.clock, volts, block):
            self.profile.addCaptureObject(item, 2, 0)
        begin = datetime.fromisoformat(self.task["begin"])
        self.stamps = [begin + timedelta(minutes=30 * n) for n in range(ROWS)]
        self.profile.buffer = [[_stamp(at), 2300 + n, n] for n, at in enumerate(self.stamps)]
        self.profile.capturePeriod = 1800
        self.profile.entriesInUse = self.profile.profileEntries = ROWS
        self.association = GXDLMSAssociationLogicalName("0.0.40.0.0.255")
        for item in (
            _value(GXDLMSData, "0.0.96.1.0.255", bytearray(b"00000007"), octets),
            _value(GXDLMSData, "0.0.96.1.1.255", bytearray(b"GRX METERS"), octets),
            self.firmware,
            _value(
                GXDLMSData,
                self.task.get("counter_object", "0.0.43.1.3.255"),
                self.task["counter"],
                DataType.UINT32,
            ),
            energy,
            volts,
            block,
            self.clock,
            self.profile,
            self.relay,
            self.long,
            self.association,
        ):
            self.settings.objects.append(item)
        if self.image.imageBlockSize:
            self.settings.objects.append(self.image)
        for described in self.task.get("objects", ()):
            self._add(described)
        self.association.objectList = self.settings.objects

    def _add(self, described: dict[str, Any]) -> None:
        """Add an object as a task describes it: a Data, a register, or a profile with its columns and rows."""
        kind, name = described["class"], described["obis"]
        found = self.settings.objects.findByLN(kind, name)
        if kind == 7:
            item = found or GXDLMSProfileGeneric(name)
            item.captureObjects.clear()
            for class_id, obis, attribute in described["columns"]:
                captured = self.settings.objects.findByLN(class_id, obis)
                item.addCaptureObject(captured, attribute, 0)
            rows = described["rows"]
            item.buffer = [[_cell(cell) for cell in row] for row in rows]
            item.capturePeriod = described["period"]
            item.entriesInUse = item.profileEntries = len(rows)
            stamps = [datetime.fromisoformat(row[0]) if described["stamped"] else None for row in rows]
            self.described[id(item)] = stamps, described["types"]
        else:
            if found is not None:
                self.settings.objects.remove(found)
            values = {1: GXDLMSData, 3: GXDLMSRegister}[kind]
            value = described["value"]
            item = _value(
                values,
                name,
                bytearray(value) if isinstance(value, list) else value,
                DataType(described["type"]),
            )
            if kind == 3:
                item.scaler, item.unit = 10 ** described["scaler"], Unit(described["unit"])
        if item is not found:
            self.settings.objects.append(item)

    # what gurux's handlers call

    def notifyRead(self, *_args: Any) -> None:
        """Nothing is to be done before a read."""

    def onPreRead(self, args: Any) -> None:
        """Nothing is to be done before a read."""

    def onPostRead(self, args: Any = None) -> None:
        """Nothing is to be done after a read."""

    def onFindObject(self, _type: Any, _short: Any, _name: Any) -> None:
        """All objects are in the collection."""

    def onGetMethodAccess(self, _arg: Any) -> int:
        """Methods are allowed."""
        return 1

    def onGetAttributeAccess(self, arg: Any) -> AccessMode:
        """Allow all; a profile's buffer is selected here, since gurux's own selection fails."""
        if id(arg.target) in self.described and arg.index == 2:
            arg.value, arg.handled, arg.byteArray = self._described_rows(arg), True, True
        elif arg.target is self.profile and arg.index == 2:
            arg.value, arg.handled, arg.byteArray = self._rows(arg), True, True
        elif arg.target is self.association and arg.index == 2:
            self.settings.setIndex(0)
            arg.value = self.association.getObjects(self.settings, _unserved(arg)).array()
            arg.handled, arg.byteArray = True, True
            self.settings.setCount(0)
            self.settings.setIndex(0)
        return AccessMode.READ_WRITE

    def getTransaction(self) -> Any:
        """Give what is left of a long answer."""
        return self.kept

    def setTransaction(self, value: Any) -> None:
        """Keep what is left of a long answer."""
        self.kept = value

    def _rows(self, arg: Any) -> Any:
        rows = self.profile.buffer
        columns = None
        if arg.selector == 1:
            since, until = (_wall(edge) for edge in arg.parameters[1:3])
            rows = [row for row, at in zip(rows, self.stamps, strict=True) if since <= at <= until]
            if arg.parameters[3]:
                columns = self.profile.getColumns(arg.parameters[3])
                kept = [self.profile.captureObjects.index(_same(self.profile, one)) for one in columns]
                return self._encoded([[row[n] for n in kept] for row in rows], kept)
        elif arg.selector == 2:
            first, last = arg.parameters[:2]
            rows = rows[first - 1 : last or None]
        return self._encoded(rows, range(3))

    def _described_rows(self, arg: Any) -> Any:
        rows, (stamps, types) = arg.target.buffer, self.described[id(arg.target)]
        if arg.selector == 1:
            since, until = (_wall(edge) for edge in arg.parameters[1:3])
            rows = [row for row, at in zip(rows, stamps, strict=True) if since <= at <= until]
        elif arg.selector == 2:
            first, last = arg.parameters[:2]
            rows = rows[first - 1 : last or None]
        return self._written(rows, [DataType(one) for one in types])

    def _encoded(self, rows: list[list[Any]], kept: Any) -> Any:
        return self._written(
            rows, [(DataType.OCTET_STRING, DataType.UINT16, DataType.UINT32)[n] for n in kept]
        )

    def _written(self, rows: list[list[Any]], types: list[DataType]) -> Any:
        out = GXByteBuffer()
        out.setUInt8(DataType.ARRAY)
        _GXCommon.setObjectCount(len(rows), out)
        for row in rows:
            out.setUInt8(DataType.STRUCTURE)
            _GXCommon.setObjectCount(len(row), out)
            for data_type, value in zip(types, row, strict=True):
                if data_type == DataType.STRUCTURE:  # a scaler and unit
                    out.set(bytes((2, 2, DataType.INT8, value[0] & 0xFF, DataType.ENUM, value[1])))
                    continue
                _GXCommon.setData(self.settings, out, data_type, value)
        return out.array()


def _same(profile: Any, column: Any) -> Any:
    return next(one for one in profile.captureObjects if one[0] is column[0] and one[1] is column[1])


def _cell(value: Any) -> Any:
    """Give a value as a profile holds it: texts are times, lists a scaler and unit."""
    return _stamp(datetime.fromisoformat(value)) if isinstance(value, str) and "T" in value else value


def _unserved(arg: Any) -> Any:
    event = ValueEventArgs(arg.settings, arg.target, arg.index)
    event.isSkipMaxPduSize = True
    event.server = None
    return event


def _stamp(at: datetime) -> bytes:
    """Give a date-time as gurux writes it."""
    out = GXByteBuffer()
    _GXCommon.setData(None, out, DataType.OCTET_STRING, GXDateTime(at))
    return bytes(out.array()[2:])


def _wall(octets: Any) -> datetime:
    return datetime(octets[0] << 8 | octets[1], octets[2], octets[3], octets[5], octets[6], octets[7])
