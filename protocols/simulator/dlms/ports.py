"""Simulated DLMS meters on TCP ports and ptys; a meter without supply is silent, as a real one is."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from protocols.conversations import Conversations
from protocols.dlms.apdu.conformance import Conformance
from protocols.dlms.client.association_opener import behind
from protocols.dlms.framing.gateway import Behind
from protocols.dlms.server.connection import SendCounter, ServerConnection, ServerSettings
from protocols.dlms.server.gateway import ServedGateway
from protocols.dlms.server.links import (
    MANAGEMENT,
    HdlcBus,
    Served,
    ServedAssociation,
    ServedMeter,
    WrapperServer,
)
from protocols.dlms.server.ports import FRAME_SILENCE
from protocols.errors import LineClosed, ProtocolError
from protocols.lines.connection import HANG_UP_TIMEOUT
from protocols.session import MeterSpec
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.faults import wire as fault_wire
from protocols.simulator.faults.conversation import FaultyConversation
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.model import FaultyModel
from protocols.simulator.faults.script import FaultPlayer, FaultScript
from protocols.simulator.faults.wire import PortStep

READ_OCTETS = 4096
_LOOK_AGAIN = 0.02
GENERAL_BLOCK_TRANSFER = Conformance.GENERAL_BLOCK_TRANSFER
"""Meters with a tiny PDU do not have it."""
MAX_QUEUED = 256
"""Answers of a faulty bus that wait for their pauses to pass; more are lost."""


@dataclass(frozen=True, kw_only=True)
class SimulatedMeter(ServedMeter):
    """A household's meter as the ports serve it, with its faults. Made by `simulated`."""

    household: HouseholdModel
    player: FaultPlayer | None = None

    @property
    def powered(self) -> bool:
        """Say whether the meter has supply and answers."""
        return self.household.powered

    def limits(self, common: ServerSettings) -> ServerSettings:
        """Return the limits, smaller ones where the script says so."""
        if self.player is None:
            return common
        self.player.turn()
        pdu, info = self.player.standing(FaultKind.SMALL_PDU), self.player.standing(FaultKind.SMALL_FRAMES)
        return replace(
            common,
            max_pdu=min(common.max_pdu, pdu.amount) if pdu else common.max_pdu,
            conformance=common.conformance & ~GENERAL_BLOCK_TRANSFER if pdu else common.conformance,
            max_info=min(common.max_info, max(16, info.amount)) if info else common.max_info,
            first_block=0 if self.player.standing(FaultKind.BLOCKS_FROM_ZERO) else common.first_block,
        )

    def associate(self, client: int, settings: ServerSettings) -> ServedAssociation:
        """Begin a conversation with a client address."""
        inner = ServerConnection(self.model, client, settings, self.counter)
        if self.player is None or not isinstance(self.model, FaultyModel):
            return inner
        return FaultyConversation(
            inner, self.household, client, self.player, self.counter, self.model.note_association
        )


def simulated_meter(
    model: HouseholdModel, *, counter_start: int = 0, script: FaultScript | None = None
) -> SimulatedMeter:
    """Make a meter for the ports; without a script (or with an empty one) nothing goes wrong."""
    if script is None or not script.faults:
        return SimulatedMeter(model=model, household=model, counter=SendCounter(counter_start))
    player = FaultPlayer(script, f"{model.household.manufacturer}:{model.household.serial}")
    model.keep_history = player.has(FaultKind.KEEP_OLD_PERIOD)
    return SimulatedMeter(
        model=FaultyModel(model, player, model.image),
        household=model,
        counter=SendCounter(counter_start),
        one_client=player.has(FaultKind.ONE_CLIENT),
        player=player,
    )


class PoweredMeters(Mapping[int, SimulatedMeter]):
    """Meters by address, as the bus sees them: those without supply are not there."""

    def __init__(self, meters: Mapping[int, SimulatedMeter]) -> None:
        self._meters = dict(meters)

    def __getitem__(self, address: int) -> SimulatedMeter:
        meter = self._meters[address]
        if not meter.powered:
            raise KeyError(address)
        return meter

    def __iter__(self) -> Iterator[int]:
        return (address for address, meter in self._meters.items() if meter.powered)

    def __len__(self) -> int:
        return len(self._meters)

    def players(self) -> dict[int, FaultPlayer]:
        """Fault players by address."""
        return {a: m.player for a, m in self._meters.items() if m.player is not None}


class TcpPort(ABC):
    """A TCP port that serves each connection with a core of its own, and plays its faults."""

    def __init__(self, meters: Mapping[int, SimulatedMeter]) -> None:
        self._meters = PoweredMeters(meters)
        self._conversations = Conversations(self._talk)
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> int:
        """Listen on a port that the system chooses; return it."""
        self._server = await asyncio.start_server(self._conversations, host, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        await self._conversations.close()

    @abstractmethod
    def _core(self) -> WrapperServer | HdlcBus:
        """Return what serves one connection."""

    @abstractmethod
    def _plan(self, answer: bytes) -> list[PortStep]:
        """Return the steps in which an answer leaves."""

    @property
    @abstractmethod
    def _up(self) -> bool:
        """Say whether the port has supply."""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        core = self._core()
        deaf = False
        try:
            # A meter that lost its supply hangs up at the next octet; until then the connection looks open.
            while (data := await reader.read(READ_OCTETS)) and self._up:
                for step in self._plan(b"" if deaf else core.receive_data(data)):
                    await asyncio.sleep(step.pause)
                    writer.write(step.octets)
                    await writer.drain()
                    if step.hang_up:
                        return
                    if step.last_octets:
                        writer.write_eof()
                        deaf = True
        except (ProtocolError, OSError):
            pass  # the client broke the framing or went away, or the meter reboots: the connection ends
        except asyncio.CancelledError:
            return  # the port closes; the task is its own
        finally:
            # The descriptor is free when the port is closed, not some time later; a peer that takes nothing is dropped.
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                async with asyncio.timeout(HANG_UP_TIMEOUT):
                    await writer.wait_closed()
            writer.transport.abort()


class WrapperPort(TcpPort):
    """One meter on a TCP port of its own, which grants `limits` at most; without supply it hangs up."""

    def __init__(self, meter: SimulatedMeter, limits: ServerSettings | None = None) -> None:
        super().__init__({MANAGEMENT: meter})
        self._meter = meter
        self._limits = limits or ServerSettings()

    def _core(self) -> WrapperServer:
        return WrapperServer(self._meters, self._limits)

    def _plan(self, answer: bytes) -> list[PortStep]:
        return fault_wire.plan(self._meter.player, answer)

    @property
    def _up(self) -> bool:
        return self._meter.powered


class ConcentratorPort(TcpPort):
    """Meters behind one socket, by wPort or by the gateway's prefix; the concentrator has a supply of its own."""

    def __init__(self, meters: Mapping[MeterSpec, SimulatedMeter]) -> None:
        ports: dict[int, SimulatedMeter] = {}
        prefixed: dict[Behind, ServedMeter] = {}
        for spec, meter in meters.items():
            assert spec.dlms is not None
            if spec.dlms.gateway_address is None:
                ports[spec.dlms.server] = meter
            else:
                prefixed[behind(spec.dlms.gateway_network or 0, spec.dlms.gateway_address)] = meter
        super().__init__(ports)
        self._gateway = ServedGateway(meters=prefixed, reaches=_reaches)

    def _core(self) -> WrapperServer:
        return WrapperServer(_WithGateway(self._gateway, self._meters), ServerSettings())

    def _plan(self, answer: bytes) -> list[PortStep]:
        return fault_wire.plan(None, answer)

    @property
    def _up(self) -> bool:
        return True


class _WithGateway(Mapping[int, Served]):
    """The gateway at its wPort, and the meters that have wPorts of their own."""

    def __init__(self, gateway: ServedGateway, meters: Mapping[int, SimulatedMeter]) -> None:
        self._gateway = gateway
        self._meters = meters

    def __getitem__(self, port: int) -> Served:
        return self._gateway if port == MANAGEMENT else self._meters[port]

    def __iter__(self) -> Iterator[int]:
        return iter((MANAGEMENT, *self._meters))

    def __len__(self) -> int:
        return 1 + len(self._meters)


def _reaches(meter: ServedMeter) -> bool:
    return not isinstance(meter, SimulatedMeter) or meter.powered


class HdlcTcpPort(TcpPort):
    """Meters of one bus behind a converter on a TCP port; the converter has a supply of its own."""

    def _core(self) -> HdlcBus:
        return HdlcBus(self._meters, ServerSettings())

    def _plan(self, answer: bytes) -> list[PortStep]:
        return fault_wire.plan_bus(self._meters.players(), answer)

    @property
    def _up(self) -> bool:
        return True


class HdlcPort:
    """Meters of one bus on the master side of a pty; the caller owns the descriptor.

    `limits` are what the meters grant at most: HDLC information fields and window among them.
    """

    def __init__(
        self, meters: Mapping[int, SimulatedMeter], master_fd: int, limits: ServerSettings | None = None
    ) -> None:
        self._meters = PoweredMeters(meters)
        self._players = self._meters.players()
        self._limits = limits or ServerSettings()
        self._bus = HdlcBus(self._meters, self._limits)
        self._fd = master_fd
        self._loop = asyncio.get_running_loop()
        self._last_octets = self._loop.time()
        self._later: asyncio.TimerHandle | None = None
        self._queue: asyncio.Queue[Sequence[PortStep]] = asyncio.Queue(MAX_QUEUED)
        self._sender: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to answer."""
        os.set_blocking(self._fd, False)
        if self._players:
            self._sender = self._loop.create_task(self._send_queued())
        self._watch()

    async def close(self) -> None:
        """Stop answering. Idempotent."""
        if not self._stopped:
            self._stopped = True
            self._loop.remove_reader(self._fd)
            if self._later is not None:
                self._later.cancel()
            if self._sender is not None:
                self._sender.cancel()
                await asyncio.gather(self._sender, return_exceptions=True)

    def _watch(self) -> None:
        if not self._stopped:
            self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_OCTETS)
        except BlockingIOError:
            return
        except OSError:  # the other side is not open: a pty stays readable with an error, so look again later
            self._loop.remove_reader(self._fd)
            self._later = self._loop.call_later(_LOOK_AGAIN, self._watch)
            return
        if self._loop.time() - self._last_octets > FRAME_SILENCE:  # half a frame of a client that gave up
            self._bus.quiet()
        self._last_octets = self._loop.time()
        try:
            answer = self._bus.receive_data(data)
        except LineClosed:  # a meter reboots: what the bus knew of all its conversations is gone
            self._bus = HdlcBus(self._meters, self._limits)
            return
        if self._sender is None:  # no faults: nothing waits, so no task is needed
            self._write(answer)
            return
        with suppress(asyncio.QueueFull):  # a bus that is asked faster than it answers loses answers
            self._queue.put_nowait(fault_wire.plan_bus(self._players, answer))

    async def _send_queued(self) -> None:
        while True:
            for step in await self._queue.get():
                await asyncio.sleep(step.pause)
                self._write(step.octets)

    def _write(self, octets: bytes) -> None:
        if octets:
            with suppress(OSError):  # a client that does not read loses the answer, as on a real bus
                os.write(self._fd, octets)
