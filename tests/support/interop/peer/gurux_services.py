"""The services of the meter made of gurux-dlms: associations, GET, SET, ACTION, and the blocks of each."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import keywrap
from gurux_dlms._GXAPDU import _GXAPDU
from gurux_dlms.AesGcmParameter import AesGcmParameter
from gurux_dlms.ConnectionState import ConnectionState
from gurux_dlms.ecdsa.GXEcdsa import GXEcdsa
from gurux_dlms.ecdsa.GXPrivateKey import GXPrivateKey
from gurux_dlms.ecdsa.GXPublicKey import GXPublicKey
from gurux_dlms.enums import Authentication, Command, DataType, ErrorCode, ObjectType, Security
from gurux_dlms.GXByteBuffer import GXByteBuffer
from gurux_dlms.GXCiphering import GXCiphering
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.GXDLMSLNCommandHandler import GXDLMSLNCommandHandler
from gurux_dlms.GXDLMSLNParameters import GXDLMSLNParameters
from gurux_dlms.GXDLMSLongTransaction import GXDLMSLongTransaction
from gurux_dlms.GXSecure import GXSecure
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo
from gurux_dlms.objects.enums import ImageTransferStatus, SecuritySuite
from gurux_dlms.objects.GXDLMSImageActivateInfo import GXDLMSImageActivateInfo
from gurux_dlms.ValueEventArgs import ValueEventArgs
from gurux_objects import Meter

ECHO = "0.0.10.0.99.255"
DED_TAGS = (*range(0xD0, 0xD8), 0xDC)
CIPHERED_TAGS = (*range(0xC8, 0xD8), 0xDB, 0xDC)
CONTROL = {
    "plain": Security.NONE,
    "authenticated": Security.AUTHENTICATION,
    "encrypted": Security.ENCRYPTION,
    "authenticated-encrypted": Security.AUTHENTICATION_ENCRYPTION,
}
EXCEPTION = bytes((0xD8, 1, 1))


class Services:
    """What the meter answers to one client."""

    def __init__(self, meter: Meter, seen: dict[str, Any]) -> None:
        self.meter = meter
        self.settings = meter.settings
        self.task = meter.task
        self.seen = seen
        self.reply = GXByteBuffer()
        self.released = False
        self.parts = GXByteBuffer()  # of a request in blocks
        self.target: tuple[Any, int] | None = None
        self.key = bytearray.fromhex(self.task["authentication_key"])
        self.answer_key = bytearray.fromhex(self.task["answer_key"])  # a wrong one, where the test wants that

    def take(self, octets: bytes) -> None:
        """Take a request; its answer is in `reply`, with the LLC header where HDLC is used."""
        self.reply.clear()
        self.released = False
        tag = octets[0]
        if tag == Command.AARQ:
            self._associate(octets)
        elif tag == Command.RELEASE_REQUEST:
            self._release(octets)
        elif tag == Command.GENERAL_BLOCK_TRANSFER:
            self._general_block(octets)
        else:
            self._service(octets)

    def _say(self, octets: bytes) -> None:
        self.reply.set(octets)
        if self.task["framing"] == "hdlc":
            GXDLMS.addLLCBytes(self.settings, self.reply)

    def _public(self) -> bool:
        return self.settings.clientAddress == 16

    def _associate(self, octets: bytes) -> None:
        settings, cipher, task = self.settings, self.settings.cipher, self.task
        settings.authentication, settings.password = Authentication.NONE, None
        settings.sourceSystemTitle = settings.ctoSChallenge = None
        settings.connected &= ~ConnectionState.DLMS
        settings.resetBlockIndex()
        cipher.dedicatedKey = None
        cipher.invocationCounter = self.meter.counter
        cipher.authenticationKey = self.key
        _GXAPDU.parsePDU(settings, cipher, GXByteBuffer(octets), None)
        cipher.authenticationKey = self.answer_key
        cipher.securitySuite = SecuritySuite(task["suite"])  # what the public client spoke is kept otherwise
        settings.maxPduSize = min(settings.maxPduSize or 0xFFFF, task["max_pdu"])
        wanted = ("NONE", "plain") if self._public() else (task["auth"], task["protection"])
        found = (Authentication(settings.authentication).name, _name_of(cipher.security))
        self.seen["associations"].append([settings.clientAddress, *found])
        password = bytes(settings.password or b"")
        refused = found != wanted
        if wanted[0] == "LOW" and not refused:
            refused = password != bytes.fromhex(task["password"])
        proof = settings.authentication > Authentication.LOW
        if not refused and not proof:
            settings.connected |= ConnectionState.DLMS
        if proof:
            settings.stoCChallenge = bytearray(GXSecure.generateChallenge())
        self._say(self._aare(13 if refused else 14 if proof else 0, refused=refused))

    def _aare(self, diagnostic: int, *, refused: bool) -> bytes:
        settings, cipher = self.settings, self.settings.cipher
        body = GXByteBuffer()
        _GXAPDU.generateApplicationContextName(settings, body, cipher)
        body.set(bytes((0xA2, 3, 2, 1, int(refused), 0xA3, 5, 0xA1, 3, 2, 1, diagnostic)))
        titled = (Authentication.HIGH_GMAC, Authentication.HIGH_SHA256, Authentication.HIGH_ECDSA)
        if cipher.isCiphered() or settings.authentication in titled:
            body.set(bytes((0xA4, 10, 4, 8)) + bytes(cipher.systemTitle))
        if diagnostic == 14:
            mechanism = bytes((0x60, 0x85, 0x74, 5, 8, 2, settings.authentication))
            challenge = bytes(settings.stoCChallenge)
            body.set(b"\x88\x02\x07\x80\x89\x07" + mechanism)
            body.set(bytes((0xAA, 2 + len(challenge), 0x80, len(challenge))) + challenge)
        if not refused:
            user = _initiate(settings)
            cipher.invocationCounter += 1
            body.set(bytes((0xBE, 2 + len(user), 4, len(user))) + user)
        return bytes((0x61, len(body))) + bytes(body.array())

    def _release(self, octets: bytes) -> None:
        self.seen["released"].append(octets.hex())
        settings = self.settings
        settings.connected &= ~ConnectionState.DLMS
        user = b""
        if 0xBE in octets:
            user = _initiate(settings)
            settings.cipher.invocationCounter += 1
            user = bytes((0xBE, 2 + len(user), 4, len(user))) + user
        body = b"\x80\x01\x00" + user
        self._say(bytes((0x63, len(body))) + body)
        self.meter.counter = settings.cipher.invocationCounter
        self.released = True

    def _service(self, octets: bytes) -> None:
        settings, cipher = self.settings, self.settings.cipher
        if cipher.security != Security.NONE:
            if octets[0] not in CIPHERED_TAGS:
                self._say(EXCEPTION)
                return
            octets = self._decipher(octets)
        body = GXByteBuffer(octets)
        command = body.getUInt8()
        settings.invokeId = octets[2] & 0x0F  # sic: gurux keeps it under another name than it answers with
        proved = settings.connected & ConnectionState.DLMS
        if not proved and (
            command != Command.METHOD_REQUEST or settings.authentication <= Authentication.LOW
        ):
            self._say(EXCEPTION)
        elif command == Command.GET_REQUEST:
            GXDLMSLNCommandHandler.handleGetRequest(settings, self.meter, body, self.reply, None)
        elif command == Command.SET_REQUEST:
            self._set(body)
        elif command == Command.METHOD_REQUEST:
            self._method(body)
        else:
            self._say(EXCEPTION)

    def _decipher(self, octets: bytes) -> bytes:
        cipher = self.settings.cipher
        key = cipher.dedicatedKey if octets[0] in DED_TAGS else cipher.blockCipherKey
        parameter = AesGcmParameter(0, self.settings.sourceSystemTitle, key, self.key)
        plain = bytes(GXCiphering.decrypt(self.settings, parameter, GXByteBuffer(octets)))
        if parameter.security != cipher.security:
            raise ValueError(f"ciphered with {parameter.security}, {cipher.security} was agreed")
        return plain

    def _answer(
        self, command: int, kind: int, invoke: int, body: Any, status: int, *, blocks: bool = False
    ) -> None:
        parameter = GXDLMSLNParameters(self.settings, invoke, command, kind, None, body, status)
        parameter.RequestType = kind  # sic: gurux asks for both spellings
        parameter.multipleBlocks |= blocks
        GXDLMS.getLNPdu(parameter, self.reply)
        if body is not None and body.position != len(body):
            self.meter.setTransaction(GXDLMSLongTransaction(None, command, body))

    # general block transfer: one block of a long answer for each acknowledgement

    def _general_block(self, octets: bytes) -> None:
        if self.meter.getTransaction() is None:
            self._say(EXCEPTION)
            return
        # gurux's own handler marks each of these blocks as streamed, which it does not do
        self.settings.blockNumberAck = int.from_bytes(octets[2:4], "big")
        self.settings.increaseBlockIndex()
        body = GXByteBuffer(self.meter.getTransaction().data)
        self.meter.setTransaction(None)
        self._answer(Command.GENERAL_BLOCK_TRANSFER, 0, 0, body, 0, blocks=True)

    # SET

    def _set(self, body: Any) -> None:
        kind, invoke = body.getUInt8(), body.getUInt8()
        self.settings.resetBlockIndex()
        if kind == 1:
            target = self._target(body)
            body.getUInt8()
            self._answer(Command.SET_RESPONSE, 1, invoke, None, self._write(target, self._data(body)))
        elif kind == 4:
            targets = []
            for _ in range(_GXCommon.getObjectCount(body)):
                targets.append(self._target(body))
                body.getUInt8()
            _GXCommon.getObjectCount(body)
            results = bytes([len(targets), *(self._write(one, self._data(body)) for one in targets)])
            self._answer(Command.SET_RESPONSE, 5, invoke, GXByteBuffer(results), 0xFF)
        else:
            last, number = self._block(body, first=kind == 2, selection=True)
            done = number.to_bytes(4, "big")
            if last:
                done = bytes((self._write(self.target, self._data(self.parts)),)) + done
            self._answer(Command.SET_RESPONSE, 3 if last else 2, invoke, GXByteBuffer(done), 0xFF)

    def _target(self, body: Any) -> tuple[Any, int]:
        kind, name = ObjectType(body.getUInt16()), bytearray(6)
        body.get(name)
        return self.settings.objects.findByLN(kind, _GXCommon.toLogicalName(name)), body.getUInt8()

    def _data(self, body: Any) -> Any:
        return _GXCommon.getData(self.settings, body, _GXDataInfo())

    def _block(self, body: Any, *, first: bool, selection: bool) -> tuple[bool, int]:
        if first:
            self.target = self._target(body)
            if selection:
                body.getUInt8()
            self.parts = GXByteBuffer()
        last, number = bool(body.getUInt8()), body.getUInt32()
        _GXCommon.getObjectCount(body)
        self.parts.set(body)
        self.seen["blocks"] += 1
        return last, number

    def _write(self, target: Any, value: Any) -> int:
        item, attribute = target
        if item is None:
            return int(ErrorCode.UNDEFINED_OBJECT)
        event = ValueEventArgs(self.settings, item, attribute)
        event.value = value
        item.setValue(self.settings, event)
        return int(event.error)

    # ACTION

    def _method(self, body: Any) -> None:
        kind, invoke = body.getUInt8(), body.getUInt8()
        if kind == 2:
            self._rest(invoke)
            return
        self.settings.resetBlockIndex()
        if kind == 1:
            self.target = self._method_target(body)
            self._act(invoke, self._data(body) if body.getUInt8() else None)
            return
        if kind == 4:
            self.target = self._method_target(body)
            self.parts = GXByteBuffer()
        last, number = self._block(body, first=False, selection=False)
        if last:
            self._act(invoke, self._data(self.parts))
        else:
            self._answer(Command.METHOD_RESPONSE, 4, invoke, GXByteBuffer(number.to_bytes(4, "big")), 0xFF)

    def _method_target(self, body: Any) -> tuple[Any, int]:
        kind, name = body.getUInt16(), bytearray(6)
        body.get(name)
        return (kind, _GXCommon.toLogicalName(name)), body.getUInt8()

    def _act(self, invoke: int, parameter: Any) -> None:
        assert self.target is not None
        (kind, name), method = self.target
        out = GXByteBuffer()
        error = 0
        if (kind, name, method) == (15, "0.0.40.0.0.255", 1):
            answer = self._prove(bytes(parameter))
            self._returned(out, answer)
            error = 0 if answer else 3
        elif not self.settings.connected & ConnectionState.DLMS:
            self._say(EXCEPTION)
            return
        elif (name, method) == (ECHO, 1):
            self._returned(out, parameter)
        elif (kind, method) == (64, 2):
            error = self._take_keys(parameter)
            self._returned(out, None)
        elif kind == 18 and self.meter.image.imageBlockSize:
            error = self._take_image(method, parameter)
            self._returned(out, None)
        elif kind == 70:
            self.meter.relay.outputState = method == 2
            self.meter.relay.controlState = int(method == 2)
            self._returned(out, None)
        else:
            self._returned(out, None)
            error = int(ErrorCode.UNDEFINED_OBJECT)
        self._answer(Command.METHOD_RESPONSE, 1, invoke, out, error)
        if kind == 15 and not error:  # only now, since the fourth pass is not ciphered like what follows
            self.settings.connected |= ConnectionState.DLMS

    def _take_keys(self, entries: Any) -> int:
        """Take new keys, which count from the next connection on. Gurux's own unwrap fails: an index is no integer."""
        kek = bytes.fromhex(self.task["master_key"])
        names = {0: "encryption_key", 2: "authentication_key", 3: "master_key"}
        try:
            new = {names[int(kind)]: keywrap.aes_key_unwrap(kek, bytes(key)).hex() for kind, key in entries}
        except Exception:  # noqa: BLE001 - whatever a foreign stack raises, it takes no key
            return int(ErrorCode.OTHER_REASON)
        self.meter.new_keys |= new
        return 0

    def _take_image(self, method: int, parameter: Any) -> int:
        """Run a method of the image target; gurux's own `invoke` fails at the first two. What it shows is gurux's."""
        item, blocks = self.meter.image, self.meter.blocks
        missing = item.imageTransferredBlocksStatus.find("0")
        if not item.imageTransferEnabled:
            return int(ErrorCode.READ_WRITE_DENIED)
        if method == 1:
            self.seen["failed"] += [] if item.imageSize == 0 else ["the image transfer began twice"]
            self.identification, item.imageSize = bytes(parameter[0]), parameter[1]
            item.imageTransferredBlocksStatus = "0" * -(-item.imageSize // item.imageBlockSize)
            item.imageTransferStatus = ImageTransferStatus.IMAGE_TRANSFER_INITIATED
            item.imageFirstNotTransferredBlockNumber = 0
        elif method == 2:
            blocks[parameter[0]] = bytes(parameter[1])
            bits = "".join("01"[n in blocks] for n in range(len(item.imageTransferredBlocksStatus)))
            item.imageTransferredBlocksStatus = bits
            item.imageFirstNotTransferredBlockNumber = (bits + "0").find("0")
        elif method == 3:
            whole = b"".join(blocks[n] for n in sorted(blocks))
            if missing >= 0 or len(whole) != item.imageSize:
                item.imageTransferStatus = ImageTransferStatus.IMAGE_VERIFICATION_FAILED
                return int(ErrorCode.OTHER_REASON)
            self.seen["image"] = whole.hex()
            info = GXDLMSImageActivateInfo()
            info.size, info.identification, info.signature = item.imageSize, self.identification, b""
            item.imageActivateInfo = [info]
            item.imageTransferStatus = ImageTransferStatus.IMAGE_VERIFICATION_SUCCESSFUL
        else:
            item.imageTransferStatus = ImageTransferStatus.IMAGE_ACTIVATION_SUCCESSFUL
            self.meter.firmware.value = bytearray(item.imageActivateInfo[0].identification)
        return 0

    def _returned(self, out: Any, value: Any) -> None:
        if value is None:
            out.setUInt8(0)
            return
        out.set(b"\x01\x00")
        _GXCommon.setData(self.settings, out, DataType.OCTET_STRING, bytearray(value))

    def _rest(self, invoke: int) -> None:
        left = self.meter.getTransaction()
        self.meter.setTransaction(None)
        self.settings.increaseBlockIndex()
        self._answer(Command.METHOD_RESPONSE, 2, invoke, GXByteBuffer(left.data), 0xFF, blocks=True)

    def _prove(self, answer: bytes) -> bytes | None:
        settings, cipher = self.settings, self.settings.cipher
        client, meter = bytes(settings.sourceSystemTitle or b""), bytes(cipher.systemTitle)
        to_meter, to_client = bytes(settings.ctoSChallenge), bytes(settings.stoCChallenge)
        secret = bytes.fromhex(self.task["password"])
        counter = 0
        theirs = ours = bytearray(secret)
        if settings.authentication == Authentication.HIGH_GMAC:
            theirs, ours = bytearray(client), bytearray(meter)
            counter = int.from_bytes(answer[1:5], "big")
        elif settings.authentication == Authentication.HIGH_SHA256:
            theirs = bytearray(secret + client + meter + to_client + to_meter)
            ours = bytearray(secret + meter + client + to_meter + to_client)
        elif settings.authentication == Authentication.HIGH_ECDSA:
            return self._sign(answer, client, meter, to_meter, to_client)
        cipher.authenticationKey = self.key
        expected = GXSecure.secure(settings, cipher, counter, bytearray(to_client), theirs)
        cipher.authenticationKey = self.answer_key
        if bytes(expected) != answer:
            return None
        proof = GXSecure.secure(settings, cipher, cipher.invocationCounter, bytearray(to_meter), ours)
        cipher.invocationCounter += 1
        return bytes(proof)

    def _sign(
        self, answer: bytes, client: bytes, meter: bytes, to_meter: bytes, to_client: bytes
    ) -> bytes | None:
        signer = GXPublicKey.fromRawBytes(bytes.fromhex(self.task["signer"]))
        if not GXEcdsa(signer).verify(answer, client + meter + to_client + to_meter):
            return None
        own = GXPrivateKey.fromRawBytes(bytes.fromhex(self.task["signing"]))
        return bytes(GXEcdsa(own).sign(meter + client + to_meter + to_client))


def _initiate(settings: Any) -> bytes:
    """Give the Initiate of AARE and RLRE; gurux's own ciphers it under suite 0 whatever the suite is."""
    cipher = settings.cipher
    plain = bytes(_GXAPDU.getUserInformation(settings, None))
    if cipher.security == Security.NONE:
        return plain
    parameter = AesGcmParameter(
        Command.GLO_INITIATE_RESPONSE, cipher.systemTitle, cipher.blockCipherKey, cipher.authenticationKey
    )
    parameter.security, parameter.securitySuite = cipher.security, cipher.securitySuite
    parameter.invocationCounter = cipher.invocationCounter
    return bytes(GXCiphering.encrypt(parameter, plain))


def _name_of(security: Any) -> str:
    return next(name for name, value in CONTROL.items() if value == security)
