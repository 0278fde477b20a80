"""Pushes and meters that dial in, put together for an edge: peers, listener, intake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import ip_network
from zoneinfo import ZoneInfo

from gateway.config.companions import push_grammar_of, push_grammars
from gateway.config.file import Config
from gateway.config.meters import MeterSection
from gateway.config.push import PushSection
from gateway.edge.polling.poller import Poller
from gateway.edge.push.counters import PushCounters
from gateway.edge.push.intake import IntakeStatistics, PushIntake
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.push.peers import PushingMeter, PushPeers
from gateway.edge.stamping.appender import ReadingAppender
from protocols.dlms.apdu.notification import confirmation
from protocols.dlms.client.association_opener import counter_key
from protocols.dlms.companion import PushGrammar
from protocols.dlms.companion.zones import zone_of
from protocols.dlms.push.dial_in import DialInLine
from protocols.dlms.push.limits import PushLimits
from protocols.dlms.push.listener import PushListener
from protocols.dlms.push.receiver import Notification, PushReceiver
from protocols.dlms.push.senders import PLAIN, CounterRestarts, PushPeer, usual_title
from protocols.dlms.security.ciphered_forms import AUTHENTICATED, AUTHENTICATED_ENCRYPTED, ENCRYPTED, Form
from protocols.dlms.security.ciphering import protect_apdu
from protocols.dlms.security.suites import Keys
from protocols.dlms.session import open_dlms
from protocols.errors import MeterConfigError, ProtocolError
from protocols.line import Line
from protocols.session import DlmsSettings, MeterSpec, SessionContext

PROTECTIONS = {
    "authenticated-encrypted": AUTHENTICATED_ENCRYPTED,
    "authenticated": AUTHENTICATED,
    "encrypted": ENCRYPTED,
    "plain": PLAIN,
}
PUBLIC_CLIENT = 16
PROTECTED = AUTHENTICATED_ENCRYPTED
"""Bits of a security control that say how an APDU is protected."""
NAMED = 5
"""Meters of one kind that an alarm names."""
SHUT_OUT = 3
"""Pushes of a meter that are refused as replayed in a row until an alarm says what to do; one is a repetition."""
ALARMING = ("plain_refused", "weak_protection", "no_keys", "wrong_key", "replayed", "wrong_device")
"""Refusals of senders that claim to be one of ours: somebody should look."""


class PushRole:
    """A running push listener with its intake, beside the poller: what is pushed goes the way of readings."""

    def __init__(
        self,
        config: Config,
        section: PushSection,
        *,
        meters: Sequence[PushingMeter],
        layouts: PushLayouts,
        lines: Mapping[str, Line],
        counters: PushCounters,
        appender: ReadingAppender,
        poller: Poller,
        context: SessionContext,
    ) -> None:
        self._section = section
        self._context = context
        self._counters = counters
        pushing = {meter.peer.name for meter in meters}
        self._specs = {
            m.meter: config.spec(m, config.gateway.name) for m in config.meters if m.meter in pushing
        }
        self._lines = {
            m.meter: line for m in config.meters if isinstance(line := lines.get(m.line), DialInLine)
        }
        peers = self._peers = PushPeers(meters, context.secrets, self._dedicated_keys)
        by_line = {m.line: m.meter for m in config.meters if m.meter in self._lines}
        self.listener = PushListener(
            PushReceiver(peers, counters),
            limits=PushLimits(
                connections=section.connections,
                first=section.first_seconds,
                idle=section.idle_seconds,
                octets=section.max_push,
                queue=section.queue,
                ask_after=section.ask_seconds,
            ),
            networks=[ip_network(network) for network in section.networks],
            lines=self._lines,
            addresses={
                line.address: by_line[line.name]
                for line in config.lines
                if line.address is not None and line.name in by_line
            },
            hints={
                meter.push.address: peer
                for meter in config.meters
                if meter.push is not None
                and meter.push.address is not None
                and (peer := peers.named(meter.meter)) is not None
            },
            peer_of=peers.named,
            ask=None if section.ask == "none" else self._ask,
        )
        self._intake = PushIntake(
            self.listener,
            counters,
            layouts,
            appender=appender,
            poller=poller,
            zones={meter.peer.name: meter.zone for meter in meters},
            clock=context.clock,
            confirm=self._confirmation,
        )
        for line in self._lines.values():
            line.on_connected = partial(poller.connected, line.name)

    async def start(self) -> None:
        """Listen; LineUnavailable when a port is taken."""
        section = self._section
        await self.listener.start(section.host, section.tcp_port, section.udp_port)

    async def run(self) -> None:
        """Journal what comes until cancelled."""
        await self._intake.run()

    async def close(self) -> None:
        """Stop listening and keep the counters."""
        await self.listener.close()
        self._counters.close()

    def intake_statistics(self) -> IntakeStatistics:
        """Return the intake's counters, frozen."""
        return self._intake.statistics()

    def refused(self) -> dict[str, int]:
        """Tell how many pushes that claim to be of our meters were refused, by reason."""
        counts = self.listener.refusals
        found = {reason: count for reason in ALARMING if (count := getattr(counts, reason))}
        for meter, count in sorted(counts.unread.items())[:NAMED]:
            found[f"no form for {meter}"] = count
        return found

    def shut_out(self) -> str:
        """Say which meters push nothing but what was refused as replayed, and what is to be done; "" for none."""
        meters = sorted(name for name, count in self.listener.refusals.replays.items() if count >= SHUT_OUT)
        if not meters:
            return ""
        more = f" and {len(meters) - NAMED} more" if len(meters) > NAMED else ""
        return (
            f"{', '.join(meters[:NAMED])}{more}: nothing but replays since the last push that was taken. Somebody plays"
            " recorded pushes, or its counter began anew and its clock does not show that it did (it sends none,"
            " or was set back): look at the meter, then stop the edge and `counters reset METER --pushes`"
        )

    def _dedicated_keys(self, meter: str) -> Keys | None:
        line = self._lines.get(meter)
        return None if line is None else line.dedicated

    def _confirmation(self, found: Notification) -> bytes:
        """Return the answer to a push that wants to be confirmed, protected as the push was.

        MeterConfigError without keys; LocalError when the counters are used up.
        """
        plain = confirmation(found.confirms or 0)
        if found.counter is None:
            return plain
        keys = self._peers.keys_for(found.peer.title)
        dlms = self._specs[found.peer.name].dlms
        if keys is None or dlms is None:
            raise MeterConfigError(f"{found.peer.name} has no keys to confirm its push with")
        title = dlms.system_title
        counter = self._context.counters.next(counter_key(keys, title))
        return protect_apdu(
            keys, title, counter, plain, control=found.control & PROTECTED, form=Form.GENERAL_GLO
        )

    async def _ask(self, line: DialInLine) -> str | None:
        """Ask a silent caller who it is, through the public client; its answer is checked when it is polled."""
        settings = DlmsSettings(client=PUBLIC_CLIENT, framing=self._section.ask)
        spec = MeterSpec(meter=None, dlms=settings)
        try:
            async with open_dlms(line, spec, self._context) as session:
                plate = await session.identify()
        except (ProtocolError, OSError):
            return None
        serials = {name.partition(":")[2]: name for name in self._lines}
        exact = plate.meter_id if plate.meter_id in self._lines else None
        return exact or serials.get(plate.serial)


def pushing_meters(config: Config, lines: Mapping[str, Line]) -> list[PushingMeter]:
    """Return the meters that push or dial in, as the receiver sees them."""
    if config.push is None:
        return []
    grammars = push_grammars(config.push.companions)
    return [
        pushing_meter(meter, push_grammar_of(meter, grammars))
        for meter in config.meters
        if meter.dlms is not None
        and (meter.push is not None or isinstance(lines.get(meter.line), DialInLine))
    ]


def pushing_meter(meter: MeterSection, grammar: PushGrammar | None = None) -> PushingMeter:
    """Return the receiver's view of a meter whose pushes are read by `grammar`."""
    maker, _, serial = meter.meter.partition(":")
    push = meter.push
    given = push.system_title if push is not None else None
    device = push.device_id if push is not None else None
    dlms = meter.dlms
    assert dlms is not None
    return PushingMeter(
        peer=PushPeer(
            name=meter.meter,
            title=bytes.fromhex(given) if given is not None else usual_title(meter.meter),
            devices=frozenset({device} if device is not None else {serial, maker + serial, meter.meter}),
            required=PROTECTIONS[push.protection] if push is not None else PROTECTIONS["authenticated"],
            pinned=device is not None,
            grammar=grammar,
            confirm=push.confirm if push is not None else None,
            restarts=CounterRestarts(push.counter_restarts if push is not None else CounterRestarts.PROVEN),
        ),
        encryption_key_ref=dlms.encryption_key_ref,
        authentication_key_ref=dlms.authentication_key_ref,
        suite=dlms.suite,
        zone=zone_of(ZoneInfo(meter.zone), dlms),
        companion_columns=push is not None and push.columns == "companion",
        pushes=push is not None,
        dlms=dlms,
    )
