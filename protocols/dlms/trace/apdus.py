"""APDUs of a trace as trees: read by their declarations, then what follows from each in its conversation.

What follows: ciphered APDUs are opened with the keys given, blocks are joined and read as a whole, answers to
HLS challenges are checked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from protocols.capture.tree import MAX_NODES, Node, WrongByte
from protocols.dlms.apdu import acse, gbt, notification, services
from protocols.dlms.apdu.acse import (
    CLIENT_SECRET,
    CLIENT_TITLE,
    METER_CHALLENGE,
    METER_TITLE,
    InitiateRequest,
    Mechanism,
)
from protocols.dlms.apdu.fields import DATA_OR_RESULT, METHOD, VALUE, Descriptor
from protocols.dlms.apdu.gbt import GeneralBlock
from protocols.dlms.apdu.lists import (
    GET_OUTCOME,
    ActionBlock,
    ActionListRequest,
    ActionListResponse,
    ActionNext,
    GetListRequest,
    RequestBlock,
    Target,
)
from protocols.dlms.apdu.services import ActionRequest, ActionResponse, GetBlock, GetRequest
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import (
    CosemValue,
    Field,
    OctetString,
    Record,
    Sequence,
    UnsignedNumber,
)
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.framing import gateway
from protocols.dlms.objects.catalogue import catalogue
from protocols.dlms.objects.describe import describe_parameter
from protocols.dlms.security.ciphered_forms import (
    DED_TAGS,
    GENERAL_CIPHERED,
    GENERAL_CIPHERING,
    GENERAL_DED,
    GENERAL_GLO,
    KEY_OCTETS,
    LONG_KEY_OCTETS,
    PLAIN_TAGS,
    SECURED_TEXT,
    SERVICE_CIPHERED,
    CipheredApdu,
    SecuredText,
)
from protocols.dlms.security.general_forms import (
    CIPHERING,
    GENERAL_SIGNING,
    HEADER,
    SIGNING,
    GeneralCiphering,
    GeneralSigning,
    IdentifiedKey,
)
from protocols.dlms.trace.state import TraceState
from protocols.dlms.trace.tree import TraceCursor
from protocols.errors import MeterConfigError, MeterError, SecurityFailure
from protocols.reading import Obis

if TYPE_CHECKING:
    from protocols.dlms.security.suites import Keys

MAX_APDU_DEPTH = 8
"""APDUs in APDUs; a ciphered initiate in a general-glo association in general blocks would be five."""
_AARQ = 0x60
_LLS, _SUITE = 1, 0x0F
_HLS = (15, 1)
_DEDICATED = frozenset((*DED_TAGS.values(), GENERAL_DED))


class InnerApdu(Field[None]):
    """All that is left, which is an APDU."""

    def read(self, cursor: Cursor) -> None:
        cursor.part(cursor.left).inner_apdu()


_PREFIXED = Record(
    tuple,
    ("", UnsignedNumber("network")),
    ("", OctetString("address of the meter")),
    ("", InnerApdu()),
)
_APDUS: dict[int, tuple[str, Field[Any]]] = {
    **services.APDUS,
    **notification.APDUS,
    **acse.APDUS,
    notification.CONFIRM: ("data-notification-confirm", notification.CONFIRMATION),
    GENERAL_GLO: ("general-glo-ciphering", GENERAL_CIPHERED),
    GENERAL_DED: ("general-ded-ciphering", GENERAL_CIPHERED),
    GENERAL_CIPHERING: ("general-ciphering", CIPHERING),
    GENERAL_SIGNING: ("general-signing", SIGNING),
    gbt.TAG: ("general-block-transfer", gbt.BLOCK),
    gateway.REQUEST: ("gateway-request", _PREFIXED),
    gateway.RESPONSE: ("gateway-response", _PREFIXED),
}
for _ciphered, _plain in PLAIN_TAGS.items():
    _form = "ded" if _ciphered in _DEDICATED else "glo"
    _APDUS[_ciphered] = (f"{_form}-{_APDUS[_plain][0]}", SERVICE_CIPHERED)

_ALL_BLOCKS = CosemValue("value of all blocks")
_ALL_RESULTS = Sequence("results of all blocks", GET_OUTCOME)
_ALL_VALUES = Sequence("values of all blocks", VALUE)


def apdu_name(tag: int) -> str | None:
    """Return the name of an APDU by its tag; None for what is no APDU."""
    if tag == GENERAL_CIPHERING:
        return "general-ciphering"
    return _APDUS[tag][0] if tag in _APDUS else None


_SECRET_MEMBERS = frozenset({(15, 7, False), (15, 2, True), (64, 2, True)})
"""Members whose values are secrets, with whether each is a method: password, HLS secret, key transfer."""


MAX_MEANING = 200
"""Characters of what a parameter means."""


class ApduReader:
    """Reads the APDUs of one conversation; `state` is what is known of it, `parts_left` bounds the tree."""

    def __init__(self, state: TraceState, parts_left: list[int] | None = None) -> None:
        self.state = state
        self.parts_left = [MAX_NODES] if parts_left is None else parts_left
        self.hides = False
        self._depth = 0

    def read_apdu(self, cursor: TraceCursor) -> bool:
        """Read one APDU into the tree and say whether it was an answer; WrongByte at the first octet that cannot be."""
        start = cursor.offset
        with cursor.group("APDU") as node:
            tag = cursor.u8()
            name = apdu_name(tag)
            if name is None:
                raise WrongByte(cursor.place(start), f"APDU tag {tag:#04x} is not known", cursor.space)
            node.name = name
            if self._depth >= MAX_APDU_DEPTH:
                raise cursor.error(f"APDUs nested deeper than {MAX_APDU_DEPTH}")
            self._depth += 1
            self.hides = False
            try:
                if tag == _AARQ:
                    self.state.begin_association()
                self._follow(tag, cursor.field(_APDUS[tag][1]), cursor)
            finally:
                self._depth -= 1
                self.hides = False
            return PLAIN_TAGS.get(tag, tag) in services.RESPONSES

    def noted(self, field: Field[Any], value: Any) -> str | None:
        """Remember what an association says of its sides; passwords are not shown."""
        state = self.state
        match field:
            case Mechanism():
                state.mechanism = value or 0
            case _ if field is METER_TITLE:
                state.meter = value
            case _ if field is CLIENT_TITLE:
                state.client = value
            case _ if field is METER_CHALLENGE:
                state.meter_challenge = value
                return f"{self._shown(value)} (HLS pass 2: the meter's challenge)"
            case _ if field is CLIENT_SECRET and state.mechanism > _LLS:
                state.client_challenge = value
                return f"{self._shown(value)} (HLS pass 1: the client's challenge)"
            case _ if field is CLIENT_SECRET:
                return f"{len(value)} octets, not shown"
            case Descriptor():
                class_id, _, number = value
                self.hides = self.hides or (class_id, number, field is METHOD) in _SECRET_MEMBERS
                return f"{field.show(value)}{_names(field, *value)}"
        return None

    def _shown(self, octets: bytes) -> str:
        return f"{len(octets)} octets, not shown" if self.state.guessable else octets.hex(" ")

    def _follow(self, tag: int, apdu: object, cursor: TraceCursor) -> None:
        state = self.state
        match apdu:
            case CipheredApdu(secured, title):
                titles = [title] if title else state.candidates(tag)
                self._open(cursor, secured, titles, inner=PLAIN_TAGS.get(tag), dedicated=tag in _DEDICATED)
            case GeneralCiphering(header=header, key=None | IdentifiedKey(key_id=0), secured=secured):
                of_header = HEADER.write(header)
                self._open(
                    cursor, secured, [header.originator], inner=None, dedicated=False, header=of_header
                )
            case GeneralCiphering():
                self._open_general(cursor, apdu)
            case GeneralSigning():
                self._open_signed(cursor, apdu)
            case InitiateRequest(dedicated_key=bytes() as key):
                state.dedicated = key if len(key) in (KEY_OCTETS, LONG_KEY_OCTETS) else b""
            case GetRequest() | GetListRequest():
                state.get_list = isinstance(apdu, GetListRequest)
            case ActionRequest(target=target, parameter=parameter):
                state.proving = (target.class_id, target.index) == _HLS
                if state.proving:
                    self._proof(cursor, parameter, by_client=True)
                elif parameter is not None:
                    self._explain(cursor, target, parameter)
            case ActionResponse(data=Data() as answer) if state.proving:
                state.proving = False
                self._proof(cursor, answer, by_client=False)
            case ActionListRequest() | ActionListResponse() | ActionNext():
                state.proving = False
            case GetBlock(error=None):
                self._join(cursor, "get", apdu, _ALL_RESULTS if state.get_list else _ALL_BLOCKS)
            case RequestBlock():
                state.proving = state.proving and not apdu.action
                what = "action" if apdu.action else "set"
                self._join(cursor, what, apdu, _ALL_VALUES if apdu.listed else _ALL_BLOCKS)
            case ActionBlock():
                self._join(cursor, "action answer", apdu, None)
            case GeneralBlock():
                self._join_general(cursor, apdu)

    # blocks

    def _join(
        self,
        cursor: TraceCursor,
        what: str,
        block: GetBlock | RequestBlock | ActionBlock,
        whole: Field[Any] | None,
    ) -> None:
        """Add a block; the last one is followed by all of them, read as `whole` or as what a method returned."""
        if not self.state.block(what, cursor, block.raw, block.number) or not block.last:
            return
        joined = self.state.whole(what, cursor, self)
        if whole is None:
            # Get-Data-Result, or the value alone as some meters send it
            whole = DATA_OR_RESULT if joined.left > 1 and joined.peek() == 0 else _ALL_BLOCKS
        joined.field(whole)
        joined.finish_apdu("the blocks", answer=what != "set" and what != "action")

    def _join_general(self, cursor: TraceCursor, block: GeneralBlock) -> None:
        if not block.data and not block.last:
            return  # an acknowledgement only
        if self.state.block("general", cursor, block.data, block.number) and block.last:
            joined = self.state.whole("general", cursor, self)
            if joined.left:
                joined.finish_apdu("the APDU of all blocks", answer=self.read_apdu(joined))

    def _explain(self, cursor: TraceCursor, target: Target, parameter: Data) -> None:
        """Show what a method's parameter means by its class; of keys and secrets no octet."""
        found = describe_parameter(target.class_id, target.index, parameter)
        if found is None or not cursor.node.children:
            return
        text = str(found)
        text = text if len(text) <= MAX_MEANING else f"{text[:MAX_MEANING]} …"
        cursor.node.children.append(Node(cursor.node.children[-1].offset, "means", text, cursor.space))

    # security

    def _proof(self, cursor: TraceCursor, answer: Data | None, *, by_client: bool) -> None:
        """Show whether an answer to an HLS challenge is right."""
        if answer is None or answer.tag is not Tag.OCTET_STRING or len(answer.octets or b"") >= 0x80:
            return
        step = (
            "HLS pass 3, answer to the meter's challenge"
            if by_client
            else "HLS pass 4, answer to the client's"
        )
        found = self.state.proof(answer.octets or b"", by_client=by_client)
        last = cursor.node.children[-1]
        place = last.offset
        if self.state.guessable:
            last.value = f"octet-string {self._shown(answer.octets or b'')}"
        cursor.node.children.append(Node(place, step, found, cursor.space))

    def _open(
        self,
        cursor: TraceCursor,
        secured: SecuredText,
        titles: list[bytes],
        *,
        inner: int | None,
        dedicated: bool,
        header: bytes = b"",
    ) -> None:
        """Decipher what was read last, and read the APDU in it."""
        keys = self.state.key_for(dedicated=dedicated)
        if keys is None:
            if self.state.keys is not None:
                cursor.note("not deciphered: the dedicated key is not in the trace")
            return
        if not titles:
            cursor.note("not deciphered: no system title is known")
            return
        plain = _opened(keys, titles, secured, inner, header)
        if plain is None:
            start = cursor.place(cursor.offset - len(SECURED_TEXT.write(secured)))
            raise WrongByte(start, "not deciphered: wrong tag (keys, system title or damage)", cursor.space)
        opened = TraceCursor(plain, range(len(plain)), cursor.node, self, "deciphered")
        if inner is not None and opened.left and opened.peek() != inner:
            raise WrongByte(0, f"deciphers to tag {opened.peek():#04x} (wrong key?)", "deciphered")
        opened.finish_apdu("the deciphered APDU", answer=self.read_apdu(opened))

    def _open_general(self, cursor: TraceCursor, found: GeneralCiphering) -> None:
        """Decipher with a key that came wrapped or was agreed, where what it takes is given."""
        state = self.state
        if state.pairs is None or state.keys is None:
            cursor.note("not deciphered: its key is wrapped or agreed")
            return
        from protocols.dlms.trace.pairs import NotGiven

        if proof := state.pairs.ephemeral_proof(found):
            place = cursor.node.children[-1].offset
            cursor.node.children.append(Node(place, "signature of the ephemeral key", proof, cursor.space))
        try:
            candidates = state.pairs.keys_of(found)
            header = HEADER.write(found.header)
            for key in candidates:
                keys = replace(state.keys, encryption=key)
                plain = _opened(keys, [found.header.originator], found.secured, None, header)
                if plain is not None:
                    opened = TraceCursor(plain, range(len(plain)), cursor.node, self, "deciphered")
                    opened.finish_apdu("the deciphered APDU", answer=self.read_apdu(opened))
                    return
        except (NotGiven, SecurityFailure, MeterConfigError) as error:
            cursor.note(f"not deciphered: {error}")
            return
        cursor.note("not deciphered: the keys given do not open it (it may be for the other side's)")

    def _open_signed(self, cursor: TraceCursor, signed: GeneralSigning) -> None:
        """Show whether the signature is right, and read the APDU that is signed."""
        pairs = self.state.pairs
        proof = (
            "not checked: the signer's certificate is not given" if pairs is None else pairs.signature(signed)
        )
        place = cursor.node.children[-1].offset
        cursor.node.children.append(Node(place, "signature", proof, cursor.space))
        if signed.content:
            content = TraceCursor(signed.content, range(len(signed.content)), cursor.node, self, "signed")
            content.finish_apdu("the signed APDU", answer=self.read_apdu(content))


def _opened(
    keys: Keys, titles: list[bytes], secured: SecuredText, inner_tag: int | None, header: bytes
) -> bytes | None:
    """Open with the first title that fits; without a tag to check, that is the one that gives `inner_tag`."""
    from protocols.dlms.security.suites import unsecure  # the ciphers are imported where keys are given

    found = None
    for title in titles:
        try:
            of_suite = replace(keys, suite=secured.control & _SUITE)
            plain = unsecure(of_suite, title, secured, required=0, header=header).plain
        except (
            MeterError,
            MeterConfigError,
            KeyError,
            ValueError,
        ):  # keys of another suite, an impossible nonce
            continue
        if inner_tag is None or plain[:1] == bytes((inner_tag,)):
            return plain
        found = plain if found is None else found
    return found


def _names(field: Descriptor, class_id: int, _obis: Obis, number: int) -> str:
    """Return the Blue Book's names of a class and its member in brackets; "" for a class that is not known."""
    known = catalogue(class_id)
    if known is None:
        return ""
    name = known.method_name(number) if field is METHOD else known.attribute_name(number)
    return f" ({known.name}: {name})" if number and not name.endswith(f" {number}") else f" ({known.name})"
