"""A neighbourhood planned from one seed: every line, meter, consumer, number and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from protocols.dlms.security.ciphered_forms import KEY_OCTETS, LONG_KEY_OCTETS
from protocols.errors import MeterConfigError
from protocols.reading import ProfileName
from protocols.session import Auth, DlmsSettings, KeyInfo, MeterSpec, ModbusSettings
from protocols.simulator.household.chance import Dice
from protocols.simulator.household.demand import local_midnight

MIN_METERS = 5
MAX_METERS = 5_000
_ON_ONE_BUS = 32  # unit loads on one RS-485 segment
_FIRST_PHYSICAL = 17
_BAUD = 115_200  # a pty has no wire: clients that pace themselves by the rate need not crawl
_LOCALITIES = ("Govind Nagar", "Kidwai Nagar", "Swaroop Nagar", "Kakadeo", "Shyam Nagar", "Barra", "Juhi")
_DLMS_MAKERS = ("GEN", "SEC", "HPL", "LNT")
_DLMS_PROFILES = (
    ProfileName.INSTANTANEOUS,
    ProfileName.BLOCK_LOAD,
    ProfileName.DAILY,
    ProfileName.BILLING,
    ProfileName.PREPAYMENT,
    ProfileName.EVENTS,
)
_MODBUS_PROFILES: Mapping[str, tuple[ProfileName, ...]] = {
    "sdm320y-sim": (ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT),
    "sdm120": (ProfileName.INSTANTANEOUS,),
    "abb-b23": (ProfileName.INSTANTANEOUS,),
}
_MODBUS_MAKERS = {"sdm320y-sim": "EAS", "sdm120": "EAS", "abb-b23": "ABB"}


SIGNING_KEY, AGREEMENT_KEY, TRUST_ANCHOR = "client-signing", "client-agreement", "trust-anchor"
"""Names of the client's private keys, and of the certificate that vouches for the meters, under suites 1 and 2."""


CONCENTRATOR = "concentrator"
"""Name of the line that meters behind a concentrator share."""
FIRST_PORT, MAX_PORTS = 16, 1000
"""First wPort of meters behind a concentrator that have one, and how many may."""


class MeterKind(StrEnum):
    """How a meter is reached."""

    DLMS_TCP = "dlms-tcp"
    DLMS_HDLC = "dlms-hdlc"
    MODBUS_TCP = "modbus-tcp"
    MODBUS_RTU = "modbus-rtu"
    MODBUS_RTU_TCP = "modbus-rtu-tcp"


SHARES: Mapping[MeterKind, int] = {
    MeterKind.DLMS_TCP: 10,
    MeterKind.DLMS_HDLC: 4,
    MeterKind.MODBUS_TCP: 6,
    MeterKind.MODBUS_RTU: 4,
    MeterKind.MODBUS_RTU_TCP: 2,
}
"""Meters of each kind among 26; another total keeps the proportions, with at least one of each."""

_AUTHS: Mapping[MeterKind, tuple[Auth, ...]] = {
    MeterKind.DLMS_TCP: (Auth.HLS2, Auth.HLS2, Auth.LLS, Auth.HLS2, Auth.HLS_GMAC),
    MeterKind.DLMS_HDLC: (Auth.HLS2, Auth.LLS, Auth.HLS2, Auth.HLS_GMAC),
}
_ON_ONE_PAGE = 10
_CATEGORIES: Mapping[MeterKind, Mapping[int, str]] = {
    MeterKind.DLMS_TCP: {5: "D2", 8: "D3"},
    MeterKind.DLMS_HDLC: {3: "D2", 7: "D2"},
}
"""Which of each ten DLMS meters have three phases (D2: whole-current, D3: behind transformers, no relay)."""
_MODELS: Mapping[MeterKind, tuple[str, ...]] = {
    MeterKind.MODBUS_TCP: ("abb-b23", "sdm320y-sim", "sdm320y-sim", "sdm120"),
    MeterKind.MODBUS_RTU: ("sdm320y-sim", "sdm120"),
    MeterKind.MODBUS_RTU_TCP: ("sdm320y-sim",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """One line: kind as the configuration names it; `port` or `device` is known once it is served."""

    name: str
    kind: str
    serves: MeterKind
    host: str | None = None
    port: int | None = None
    device: str | None = None
    baud: int = 9600
    parity: str = "N"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """A DLMS meter's secrets, 16 octets each (under suite 2 ciphering keys have 32) but the password."""

    password: bytes = field(repr=False)
    hls_key: bytes = field(repr=False)
    encryption_key: bytes = field(repr=False)
    authentication_key: bytes = field(repr=False)
    firmware_key: bytes = field(repr=False)
    master_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPlan:
    """One meter and whose it is.

    `role` is consumer, feeder or stock; only a consumer has numbers, a mobile and a usage point of its own
    with an account. Texts are as the directory wants them: `meter` is `GEN:12345678`, `account_number` has
    10 digits. `category` is of IS 15959, for DLMS meters.
    """

    meter: str
    manufacturer: str
    serial: str
    kind: MeterKind
    line: str
    role: str
    usage_point: str
    locality: str
    profiles: tuple[ProfileName, ...]
    spec: MeterSpec
    category: str = "D1"
    legacy_number: str | None = None
    account_number: str | None = None
    mobile: str | None = None
    secrets: Secrets | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Stem of the names of its secrets."""
        return f"{self.manufacturer}{self.serial}"

    @property
    def load_percent(self) -> int:
        """Per cent of a household's load that it carries."""
        return {"feeder": 900, "stock": 0}.get(self.role, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole neighbourhood.

    `history_from` is when its meters began to record; no power cut lasts beyond `cuts_until`. `suite` is the
    security suite of the DLMS meters that cipher; with a `concentrator` the DLMS meters on TCP share one line.
    """

    seed: int
    suite: int = 0
    concentrator: bool = False
    history_from: datetime
    cuts_until: datetime | None = None
    lines: tuple[LinePlan, ...]
    meters: tuple[MeterPlan, ...]

    @property
    def consumers(self) -> tuple[MeterPlan, ...]:
        """The meters of consumers."""
        return tuple(m for m in self.meters if m.role == "consumer")

    def meter(self, meter: str) -> MeterPlan:
        """Find a meter by its text; MeterConfigError when it is not of this neighbourhood."""
        for known in self.meters:
            if known.meter == meter:
                return known
        raise MeterConfigError(f"{meter} is not in this neighbourhood")

    def on_line(self, name: str) -> tuple[MeterPlan, ...]:
        """Return the meters of one line, in the order of their addresses."""
        return tuple(m for m in self.meters if m.line == name)

    def with_line(self, line: LinePlan) -> Plan:
        """Replace a line by one whose address is known."""
        return replace(self, lines=tuple(line if old.name == line.name else old for old in self.lines))


def plan_neighbourhood(
    *,
    seed: int,
    history_from: datetime,
    meters: int = 26,
    cuts_until: datetime | None = None,
    suite: int = 0,
    concentrator: bool = False,
) -> Plan:
    """Plan a neighbourhood; MeterConfigError when `meters` is not in 5..5000.

    `history_from` is taken back to local midnight. Under suites 1 and 2 meters with HLS-GMAC
    have HLS-ECDSA. The first Modbus TCP meter is the feeder's, the last
    Modbus RTU meter is in stock.
    """
    if not MIN_METERS <= meters <= MAX_METERS:
        raise MeterConfigError(f"a neighbourhood has {MIN_METERS} to {MAX_METERS} meters, not {meters}")
    dice = Dice(seed, "neighbourhood", draws=meters * 8 + 16)
    numbers = _Numbers(dice)
    first_serial = 10_000_000 + dice.below(80) * 1_000_000
    lines: dict[str, LinePlan] = {}
    planned: list[MeterPlan] = []
    for kind, count in share_out(meters).items():
        for index in range(count):
            role = _role(kind, index, count)
            serial = str(first_serial + len(planned) + 1)
            plan = _meter(seed, kind, index, serial, role, len(planned) + 1, suite)
            if concentrator and kind is MeterKind.DLMS_TCP:
                plan = _behind(plan, index)
            planned.append(numbers.assign(plan) if role == "consumer" else plan)
            lines.setdefault(plan.line, _line(plan.line, kind))
    return Plan(
        seed=seed,
        suite=suite,
        concentrator=concentrator,
        history_from=local_midnight(history_from),
        cuts_until=cuts_until,
        lines=tuple(lines.values()),
        meters=tuple(planned),
    )


def share_out(meters: int) -> dict[MeterKind, int]:
    """Divide a number of meters among the kinds: one each, then to whoever is furthest below its share."""
    counts = dict.fromkeys(SHARES, 1)
    total = sum(SHARES.values())
    for _ in range(meters - len(counts)):
        neediest = max(counts, key=lambda kind: SHARES[kind] * meters - counts[kind] * total)
        counts[neediest] += 1
    return counts


class _Numbers:
    """Draws numbers of consumers, never one twice."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._taken: set[str] = set()

    def assign(self, meter: MeterPlan) -> MeterPlan:
        """Return a consumer's meter with a legacy number, an account number and a mobile."""
        return replace(
            meter,
            legacy_number=self._new("KE", 9_999_999, 7),
            account_number=self._new(str(self._dice.below(6)), 999_999_999, 9),
            mobile=self._new("+9199999", 99_999, 5),
        )

    def _new(self, head: str, most: int, width: int) -> str:
        text = f"{head}{self._dice.between(1, most):0{width}d}"
        while text in self._taken:
            text = f"{head}{self._dice.between(1, most):0{width}d}"
        self._taken.add(text)
        return text


def _role(kind: MeterKind, index: int, count: int) -> str:
    if kind is MeterKind.MODBUS_TCP and index == 0:
        return "feeder"
    return "stock" if kind is MeterKind.MODBUS_RTU and index == count - 1 else "consumer"


def _meter(
    seed: int, kind: MeterKind, index: int, serial: str, role: str, number: int, suite: int
) -> MeterPlan:
    secrets: Secrets | None = None
    profiles: tuple[ProfileName, ...] = _DLMS_PROFILES
    if kind in _AUTHS:
        maker = _DLMS_MAKERS[index % len(_DLMS_MAKERS)]
        auth = _AUTHS[kind][index % len(_AUTHS[kind])]
        dlms = _dlms(kind, index, auth, f"{maker}{serial}", suite)
        spec = MeterSpec(meter=f"{maker}:{serial}", dlms=dlms)
        secrets = _secrets(seed, maker, serial, dlms.suite)
    else:
        model = "sdm120" if role == "stock" else _MODELS[kind][index % len(_MODELS[kind])]
        maker = _MODBUS_MAKERS[model]
        spec = MeterSpec(meter=f"{maker}:{serial}", modbus=_modbus(kind, index, model))
        profiles = _MODBUS_PROFILES[model]
    return MeterPlan(
        meter=f"{maker}:{serial}",
        manufacturer=maker,
        serial=serial,
        kind=kind,
        line=_line_name(kind, index, f"{maker}{serial}"),
        role=role,
        usage_point=f"UP-{number:04d}",
        locality=_LOCALITIES[number % len(_LOCALITIES)],
        profiles=profiles,
        spec=spec,
        category=_CATEGORIES.get(kind, {}).get(index % _ON_ONE_PAGE, "D1"),
        secrets=secrets,
    )


def _behind(meter: MeterPlan, index: int) -> MeterPlan:
    """Put a meter behind the concentrator: every other one by a wPort of its own, the rest by the prefix."""
    dlms = meter.spec.dlms
    assert dlms is not None
    if index % 2 and index < MAX_PORTS:
        dlms = replace(dlms, server=FIRST_PORT + index)
    else:
        dlms = replace(dlms, gateway_network=0, gateway_address=meter.serial)
    return replace(meter, line=CONCENTRATOR, spec=replace(meter.spec, dlms=dlms))


def _dlms(kind: MeterKind, index: int, auth: Auth, key: str, suite: int) -> DlmsSettings:
    ciphered = auth is not Auth.LLS
    hdlc = kind is MeterKind.DLMS_HDLC
    signs = bool(suite) and auth is Auth.HLS_GMAC
    auth = Auth.HLS_ECDSA if signs else auth
    return DlmsSettings(
        client=32 if auth is Auth.LLS else 48,
        physical=_FIRST_PHYSICAL + index % _ON_ONE_BUS if hdlc else None,
        framing="hdlc" if hdlc else "wrapper",
        auth=auth,
        ciphered=ciphered,
        password_ref=f"{key}-secret" if auth.needs_secret else None,
        encryption_key_ref=f"{key}-ek" if ciphered else None,
        authentication_key_ref=f"{key}-ak" if ciphered else None,
        suite=suite if ciphered else 0,
        signing_key_ref=SIGNING_KEY if signs else None,
        trust_anchor_ref=TRUST_ANCHOR if signs else None,
        key_info=KeyInfo.AGREED if signs else None,
        signed=signs,
        agreement_key_ref=AGREEMENT_KEY if signs else None,
        meter_agreement_ref=f"{key}-agreement" if signs else None,
    )


def _modbus(kind: MeterKind, index: int, model: str) -> ModbusSettings:
    own = kind is MeterKind.MODBUS_TCP
    unit = 1 if own else index % _ON_ONE_BUS + 1
    return ModbusSettings(unit=unit, model=model, framing="tcp" if own else "rtu", trusted=True)


def _secrets(seed: int, maker: str, serial: str, suite: int) -> Secrets:
    dice = Dice(seed, "secrets", maker, serial, draws=32)
    octets = LONG_KEY_OCTETS if suite == 2 else KEY_OCTETS
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return Secrets(
        password="".join(letters[dice.below(len(letters))] for _ in range(8)).encode(),
        hls_key=dice.octets(16),
        encryption_key=dice.octets(octets),
        authentication_key=dice.octets(octets),
        firmware_key=dice.octets(16),
        master_key=dice.octets(octets),
    )


def _line_name(kind: MeterKind, index: int, key: str) -> str:
    bus = index // _ON_ONE_BUS + 1
    match kind:
        case MeterKind.DLMS_TCP | MeterKind.MODBUS_TCP:
            return f"tcp-{key}"
        case MeterKind.DLMS_HDLC:
            return f"hdlc-bus-{bus}"
        case MeterKind.MODBUS_RTU:
            return f"rtu-bus-{bus}"
        case MeterKind.MODBUS_RTU_TCP:
            return f"rtu-tcp-{bus}"


def _line(name: str, kind: MeterKind) -> LinePlan:
    if kind in (MeterKind.DLMS_HDLC, MeterKind.MODBUS_RTU):
        return LinePlan(name=name, kind="serial", serves=kind, baud=_BAUD)
    network = "rtu-over-tcp" if kind is MeterKind.MODBUS_RTU_TCP else "tcp"
    return LinePlan(name=name, kind=network, serves=kind, host="127.0.0.1")
