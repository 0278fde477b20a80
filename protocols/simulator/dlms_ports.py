"""Simulated DLMS meters on TCP ports and ptys; a meter without supply is silent, as a real one is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from protocols.dlms.server import SendCounter, ServerSettings
from protocols.dlms.server_asyncio import FRAME_SILENCE
from protocols.dlms.server_links import MANAGEMENT, HdlcBus, ServedMeter, WrapperServer
from protocols.errors import MeterProtocolError
from protocols.simulator.cosem import HouseholdModel

READ_OCTETS = 4096
_LOOK_AGAIN = 0.02


class PoweredMeters(Mapping[int, ServedMeter]):
    """Meters by address, as the bus sees them: those without supply are not there."""

    def __init__(self, models: Mapping[int, HouseholdModel], counter_start: int) -> None:
        self._models = models
        self._served = {
            a: ServedMeter(model=m, counter=SendCounter(counter_start)) for a, m in models.items()
        }

    def __getitem__(self, address: int) -> ServedMeter:
        if not self._models[address].powered:
            raise KeyError(address)
        return self._served[address]

    def __iter__(self) -> Iterator[int]:
        return (address for address, model in self._models.items() if model.powered)

    def __len__(self) -> int:
        return len(self._models)


class WrapperPort:
    """One meter on a TCP port of its own; without supply it hangs up."""

    def __init__(self, model: HouseholdModel, counter_start: int) -> None:
        self._model = model
        self._meters = PoweredMeters({MANAGEMENT: model}, counter_start)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> int:
        """Listen on a port that the system chooses; gives it."""
        self._server = await asyncio.start_server(self._connected, host, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        core = WrapperServer(self._meters, ServerSettings())
        try:
            while (data := await reader.read(READ_OCTETS)) and self._model.powered:
                writer.write(core.receive_data(data))
                await writer.drain()
        except (MeterProtocolError, OSError):
            pass  # the client broke the framing or went away: the connection ends
        finally:
            writer.close()


class HdlcPort:
    """Meters of one bus on the master side of a pty; the caller owns the descriptor."""

    def __init__(self, models: Mapping[int, HouseholdModel], master_fd: int, counter_start: int) -> None:
        self._bus = HdlcBus(PoweredMeters(models, counter_start), ServerSettings())
        self._fd = master_fd
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._later: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to answer."""
        os.set_blocking(self._fd, False)
        self._watch()

    async def close(self) -> None:
        """Stop answering. Idempotent."""
        if not self._stopped:
            self._stopped = True
            self._loop.remove_reader(self._fd)
            if self._later is not None:
                self._later.cancel()

    def _watch(self) -> None:
        if not self._stopped:
            self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_OCTETS)
        except BlockingIOError:
            return
        except OSError:  # nobody has the other side open
            self._loop.remove_reader(self._fd)
            self._later = self._loop.call_later(_LOOK_AGAIN, self._watch)
            return
        if self._loop.time() - self._heard > FRAME_SILENCE:
            self._bus.quiet()
        self._heard = self._loop.time()
        answer = self._bus.receive_data(data)
        if not answer:
            return
        with suppress(OSError):  # a client that does not read loses the answer, as on a real bus
            os.write(self._fd, answer)
