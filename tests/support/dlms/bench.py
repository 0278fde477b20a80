"""A small COSEM model and two cores joined in memory, for the tests of this folder."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.apdu.services import GetRequest
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.core.outcomes import Event
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    boolean,
    capture_object,
    double_long,
    double_long_unsigned,
    enum,
    long_unsigned,
    octets,
    scaler_unit,
    structure,
    text,
    unsigned,
)
from protocols.dlms.framing.gateway import Behind, GatewayLink
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.framing.link import ClientLink
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.dlms.security import curves
from protocols.dlms.security.curves import OwnKeys, PeerKey, PeerKeys
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import ServerConnection, ServerSettings
from protocols.dlms.server.gateway import ServedGateway
from protocols.dlms.server.links import HdlcBus, ServedMeter, WrapperServer
from protocols.dlms.server.model import OBJECT_UNDEFINED, TYPE_UNMATCHED, AccessDenied, AssociationPolicy
from protocols.reading import Obis
from protocols.session import Auth, KeyInfo

EK = bytes.fromhex("000102030405060708090A0B0C0D0E0F")
AK = bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")
KEYS = Keys(encryption=EK, authentication=AK)
LONG_EK, LONG_AK = EK + AK, AK + EK
"""Keys of suite 2."""
SIGNERS = {
    (suite, side): curves.private_key(side[:1].encode() * curves.CURVES[suite].octets, side)
    for suite in (1, 2)
    for side in ("client", "meter")
}
"""Private signing keys of both sides under suites 1 and 2."""
AGREERS = {
    (suite, side): curves.private_key(side[1:2].encode() * curves.CURVES[suite].octets, side)
    for suite in (1, 2)
    for side in ("client", "meter")
}
"""Private agreement keys of both sides."""
PASSWORD = b"12345678"
HLS_KEY = b"0123456789ABCDEF"
TITLE = b"GEN\x00\x00\x00\x00\x07"
START = datetime(2026, 5, 31, 18, 30, tzinfo=UTC)  # midnight of 1 June in India
CLOCK = Obis(0, 0, 1, 0, 0)
BEHIND = Behind(3, b"00000007")
"""Where the meter is behind a gateway."""
ECHO = ("0-0:10.0.99*255", 1)
"""A method that gives its parameter back."""


def o(dotted: str) -> Obis:
    return Obis.parse(dotted)


CapturedObject = tuple[int, Obis, int, tuple[int, int] | None]
"""Class, OBIS code, attribute, and scaler and unit of one column of a profile."""


class SmallMeter:
    """A single-phase meter with 96 half-hours, two days, a few events and prepayment objects."""

    system_title = TITLE

    def __init__(self, policies: Mapping[int, AssociationPolicy] | None = None) -> None:
        self.policies = dict(policies or {})
        self.policies.setdefault(16, AssociationPolicy(auth=Auth.NONE))
        self.counters: dict[int, int] = {}
        self.relay_closed = True
        self.clock_set: bytes | None = None
        self.blocks = [(START + timedelta(minutes=30 * (n + 1)), n) for n in range(96)]
        self.null_stamps = False
        self.writable: set[tuple[str, int]] = set()
        self.attributes = self._objects()

    def associations(self) -> Mapping[int, AssociationPolicy]:
        return self.policies

    def frame_counter(self, client: int) -> int:
        return self.counters.get(client, 0)

    def note_frame_counter(self, client: int, value: int) -> None:
        self.counters[client] = max(value, self.frame_counter(client))

    def get(self, client: int, target: Target) -> Data:
        obis, attribute, selection = target.obis, target.index, target.selection
        if obis.c == 43 and obis.d == 1:
            return double_long_unsigned(self.frame_counter((obis.e - 1 + 1) * 16))
        value = self.attributes.get((str(obis), attribute))
        if (str(obis), attribute) == ("0-0:96.3.10*255", 2):
            return boolean(self.relay_closed)
        if value is None:
            raise AccessDenied(OBJECT_UNDEFINED)
        if selection is not None:
            return self._select(value, selection)
        return value

    def set(self, client: int, target: Target, value: Data) -> None:
        obis, attribute = target.obis, target.index
        if (str(obis), attribute) in self.writable:
            self.attributes[str(obis), attribute] = value
            return
        if obis != CLOCK:
            raise AccessDenied(OBJECT_UNDEFINED)
        if value.octets is None:
            raise AccessDenied(TYPE_UNMATCHED)
        self.clock_set = value.octets

    def action(self, client: int, target: Target, parameter: Data | None) -> Data | None:
        obis, method = target.obis, target.index
        if (str(obis), method) == ECHO:
            return parameter
        if (target.class_id, str(obis)) != (70, "0-0:96.3.10*255"):
            raise AccessDenied(OBJECT_UNDEFINED)
        self.relay_closed = method == 2
        return None

    def _select(self, value: Data, selection: RangeSelection | EntrySelection) -> Data:
        rows = list(value.items)
        if isinstance(selection, EntrySelection):
            last = selection.last or len(rows)
            return array(*rows[selection.first - 1 : last])
        low, high = (cosem_time.decode(edge).at for edge in (selection.since, selection.until))
        if low is None or high is None:
            raise AccessDenied(TYPE_UNMATCHED)
        kept = []
        for row in rows:
            stamp = row.items[0].octets
            at = cosem_time.decode(stamp).at if stamp else None
            if at is not None and low <= at <= high:
                kept.append(row)
        if self.null_stamps:
            kept = kept[:1] + [structure(NULL, *row.items[1:]) for row in kept[1:]]
        return array(*kept)

    def _objects(self) -> dict[tuple[str, int], Data]:
        now = octets(cosem_time.encode(START + timedelta(hours=36)))
        objects = {
            ("0-0:1.0.0*255", 2): now,
            ("0-0:96.1.0*255", 2): octets(b"00000007"),
            ("0-0:96.1.1*255", 2): octets(b"GENERIC METERS LIMITED"),
            ("1-0:0.2.0*255", 2): octets(b"F1.0"),
            ("0-0:94.91.9*255", 2): unsigned(6),
            ("0-0:96.1.4*255", 2): long_unsigned(2025),
            # one amount at the newer place, the rest at the older
            ("0-0:94.96.20*255", 2): unsigned(1),
            ("0-0:94.91.24*255", 2): double_long(-12345),
            ("0-0:94.91.25*255", 2): now,
        }
        self._profile(
            objects,
            "1-0:94.91.0*255",
            "1-0:94.91.3*255",
            [
                (8, CLOCK, 2, None),
                (3, o("1-0:12.7.0"), 2, (-2, 35)),
                (3, o("1-0:13.7.0"), 2, (-3, 255)),
                (3, o("1-0:1.8.0"), 2, (1, 30)),
                (4, o("1-0:1.6.0"), 2, (0, 27)),
                (4, o("1-0:1.6.0"), 5, None),
                (70, o("0-0:96.3.10"), 2, None),
            ],
            [
                structure(
                    now,
                    long_unsigned(23012),
                    Data(Tag.LONG, -987),
                    double_long_unsigned(1234),
                    double_long_unsigned(900),
                    octets(bytes.fromhex("FFFF0000FF00000000014AFF")),
                    boolean(True),
                )
            ],
        )
        self._profile(
            objects,
            "1-0:99.1.0*255",
            "1-0:94.91.4*255",
            [(8, CLOCK, 2, None), (3, o("1-0:12.27.0"), 2, (-2, 35)), (3, o("1-0:1.29.0"), 2, (0, 30))],
            [
                structure(octets(cosem_time.encode(at)), long_unsigned(23000 + n), double_long_unsigned(n))
                for at, n in self.blocks
            ],
            period=1800,
        )
        control: list[CapturedObject] = [(8, CLOCK, 2, None), (1, o("0-0:96.11.6"), 2, None)]
        at = octets(cosem_time.encode(START + timedelta(hours=3)))
        self._profile(
            objects,
            "0-0:99.98.6*255",
            None,
            control,
            [
                structure(at, long_unsigned(301)),
                structure(at, long_unsigned(302)),
                structure(octets(cosem_time.encode(START + timedelta(hours=4))), long_unsigned(301)),
            ],
        )
        power: list[CapturedObject] = [
            (8, CLOCK, 2, None),
            (1, o("0-0:96.11.2"), 2, None),
            (1, o("0-0:96.15.2"), 2, None),
        ]
        self._profile(
            objects, "0-0:99.98.2*255", None, power, [structure(at, long_unsigned(101), long_unsigned(44))]
        )
        return objects

    def _profile(
        self,
        objects: dict[tuple[str, int], Data],
        obis: str,
        scalers: str | None,
        columns: list[CapturedObject],
        rows: list[Data],
        period: int = 0,
    ) -> None:
        objects[obis, 2] = array(*rows)
        objects[obis, 3] = array(*(capture_object(c, name, attribute) for c, name, attribute, _ in columns))
        objects[obis, 4] = double_long_unsigned(period)
        objects[obis, 5] = enum(1)
        objects[obis, 7] = double_long_unsigned(len(rows))
        if scalers:
            scaled = [(c, name, pair) for c, name, _, pair in columns if pair]
            scaled.reverse()  # the order of a scaler profile is its own
            objects[scalers, 3] = array(*(capture_object(c, name, 3) for c, name, _ in scaled))
            objects[scalers, 2] = array(structure(*(scaler_unit(*pair) for _, _, pair in scaled)))


LONG_TEXT = text("x" * 5000)


def suite_keys(suite: int) -> Keys:
    """Keys of a suite."""
    encryption, authentication = (LONG_EK, LONG_AK) if suite == 2 else (EK, AK)
    return Keys(encryption=encryption, authentication=authentication, suite=suite)


def of_suite(
    suite: int, auth: Auth, *, key_info: KeyInfo | None = None, signed: bool = False
) -> tuple[AssociationPolicy, AssociationSettings]:
    """Both sides of a ciphered association under a suite that has key pairs."""
    keys = suite_keys(suite)
    client, meter = SIGNERS[suite, "client"], SIGNERS[suite, "meter"]
    policy = AssociationPolicy(
        auth=auth,
        ciphered=True,
        encryption_key=keys.encryption,
        authentication_key=keys.authentication,
        suite=suite,
        own=OwnKeys(signing=meter, agreement=AGREERS[suite, "meter"]),
        peer=PeerKeys(
            signing=PeerKey(client.public_key()), agreement=PeerKey(AGREERS[suite, "client"].public_key())
        ),
        master_key=keys.authentication,
        may_write=True,
    )
    settings = AssociationSettings(
        auth=auth,
        ciphered=True,
        keys=keys,
        own=OwnKeys(signing=client, agreement=AGREERS[suite, "client"]),
        peer=PeerKeys(
            signing=PeerKey(meter.public_key()), agreement=PeerKey(AGREERS[suite, "meter"].public_key())
        ),
        master=keys.authentication,
        key_info=key_info,
        signed=signed,
    )
    return policy, settings


POLICIES = {
    "none": (AssociationPolicy(auth=Auth.NONE, may_write=True), AssociationSettings()),
    "lls": (
        AssociationPolicy(auth=Auth.LLS, secret=PASSWORD, may_write=True),
        AssociationSettings(auth=Auth.LLS, secret=PASSWORD),
    ),
    "lls-ciphered": (
        AssociationPolicy(
            auth=Auth.LLS,
            ciphered=True,
            secret=PASSWORD,
            encryption_key=EK,
            authentication_key=AK,
            may_write=True,
        ),
        AssociationSettings(auth=Auth.LLS, ciphered=True, secret=PASSWORD, keys=KEYS),
    ),
    "hls2": (
        AssociationPolicy(
            auth=Auth.HLS2,
            ciphered=True,
            secret=HLS_KEY,
            encryption_key=EK,
            authentication_key=AK,
            may_write=True,
        ),
        AssociationSettings(auth=Auth.HLS2, ciphered=True, secret=HLS_KEY, keys=KEYS),
    ),
    "gmac": (
        AssociationPolicy(
            auth=Auth.HLS_GMAC, ciphered=True, encryption_key=EK, authentication_key=AK, may_write=True
        ),
        AssociationSettings(auth=Auth.HLS_GMAC, ciphered=True, keys=KEYS),
    ),
    "gmac-plain": (
        AssociationPolicy(
            auth=Auth.HLS_GMAC, ciphered=False, encryption_key=EK, authentication_key=AK, may_write=True
        ),
        AssociationSettings(auth=Auth.HLS_GMAC, ciphered=False, keys=KEYS),
    ),
}
SUITE_POLICIES = {
    "suite-1-ecdsa": of_suite(1, Auth.HLS_ECDSA),
    "suite-2-ecdsa": of_suite(2, Auth.HLS_ECDSA),
    "suite-1-gmac": of_suite(1, Auth.HLS_GMAC),
    "suite-2-gmac": of_suite(2, Auth.HLS_GMAC),
}
"""Associations under suites 1 and 2."""
GENERAL_POLICIES = {
    f"suite-{suite}-{key_info or 'general-glo'}{'-signed' if signed else ''}": of_suite(
        suite, Auth.HLS_ECDSA, key_info=key_info, signed=signed
    )
    for suite in (1, 2)
    for key_info in (*KeyInfo, None)
    for signed in (False, True)
    if signed or key_info
}
"""Associations with general-ciphering and general-signing."""


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.last = start

    def __call__(self) -> int:
        self.last += 1
        return self.last


@dataclass(frozen=True, kw_only=True)
class RepeatableMeter(ServedMeter):
    """A meter whose challenges are those of `random_octets`."""

    random_octets: Callable[[int], bytes]

    def associate(self, client: int, settings: ServerSettings) -> ServerConnection:
        return ServerConnection(self.model, client, settings, self.counter, self.random_octets)


class Joined:
    """A client core and a server core with the wire between them in memory."""

    def __init__(
        self,
        meter: SmallMeter,
        settings: AssociationSettings,
        *,
        framing: str = "wrapper",
        client: int = 48,
        limits: ServerSettings | None = None,
        counter: Counter | None = None,
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        served = RepeatableMeter(model=meter, random_octets=random_octets)
        limits = limits or ServerSettings()
        self.server: WrapperServer | HdlcBus
        link: ClientLink
        if framing == "hdlc":
            self.server = HdlcBus({17: served}, limits)
            link = HdlcClientLink(client=client, server=1, physical=17)
        elif framing == "gateway":
            self.server = WrapperServer({1: ServedGateway(meters={BEHIND: served})}, limits)
            link = GatewayLink(WrapperClientLink(client=client, server=1), BEHIND)
        else:
            self.server = WrapperServer({1: served}, limits)
            link = WrapperClientLink(client=client, server=1)
        self.counter = counter or Counter()
        self.client = ClientConnection(link, settings, self.counter, random_octets)
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.tamper: Callable[[bytes], bytes] = lambda data: data

    def run(self, events: list[Event] | None = None) -> list[Event]:
        """Carry octets both ways until nothing moves, client octets one by one."""
        events = list(events or [])
        while data := self.client.data_to_send():
            self.to_server.append(data)
            answer = b"".join(self.server.receive_data(bytes((octet,))) for octet in data)
            answer = self.tamper(answer)
            self.to_client.append(answer)
            for octet in answer:
                events += self.client.receive_data(bytes((octet,)))
        return events

    def associate(self) -> list[Event]:
        events = self.run(self.client.open())
        self.client.associate()
        return events + self.run()

    def get(
        self, class_id: int, obis: str, attribute: int = 2, selection: RangeSelection | None = None
    ) -> Event:
        self.client.request(GetRequest(target=Target(class_id, o(obis), attribute, selection)))
        (event,) = self.run()
        return event
