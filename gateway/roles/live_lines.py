"""The lines and meters that a running edge has now: `gateway.roles.reload` changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.config.file import Config
from gateway.config.meters import LineSection
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter
from gateway.roles.lines import make_line
from protocols.line import Line


class LiveLines:
    """Implements `gateway.roles.reload.Changeable`. `lines` is changed in place, `on_change` told when all is done."""

    def __init__(
        self, config: Config, poller: Poller, lines: dict[str, Line], on_change: Callable[[Config], None]
    ) -> None:
        self._config = config
        self._poller = poller
        self._lines = lines
        self._on_change = on_change

    def sections(self) -> Mapping[str, LineSection]:
        """Return how the lines are configured, by their names."""
        return {line.name: line for line in self._config.lines}

    def make_line(self, section: LineSection) -> Line:
        """Make a line that nobody serves yet; UsageError or MeterConfigError where it cannot be."""
        return make_line(section)

    def add_line(self, name: str, line: Line) -> None:
        """Serve one more line."""
        self._lines[name] = line
        self._poller.add_line(name, line)

    async def remove_line(self, name: str) -> None:
        """Serve a line no more; returns when its conversation is over and it is closed."""
        line = await self._poller.remove_line(name)
        del self._lines[name]
        await line.close()

    def add_meter(self, meter: PolledMeter) -> None:
        """Poll one more meter, at once."""
        self._poller.add_meter(meter)

    async def remove_meter(self, name: str) -> None:
        """Poll a meter no more; returns when nobody talks to it."""
        await self._poller.remove_meter(name)

    async def replace_meter(self, meter: PolledMeter) -> None:
        """Poll a meter in another way."""
        await self._poller.replace_meter(meter)

    def changed(self, config: Config) -> None:
        """Take note that lines and meters are now those of `config`."""
        self._config = config
        self._on_change(config)
