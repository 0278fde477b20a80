"""Lines and meters of a running edge follow its configuration: read anew, looked at whole, changed where it differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import structlog

from gateway.config.file import Config
from gateway.config.file import load as load_config
from gateway.config.meters import LineSection
from gateway.edge.field.messages import Called
from gateway.edge.polling.schedule import PolledMeter
from gateway.errors import ConfigError, UsageError
from gateway.roles.reach import place_of
from protocols.errors import MeterConfigError
from protocols.line import Line
from protocols.modbus.format.library import load_model, model_names
from protocols.modbus.format.model import MeterModel
from protocols.session import SecretSource

LIVE = frozenset({"lines", "meters", "modbus"})
"""Parts of the configuration that change while the edge runs; every other takes a restart."""
MOST_LINES = 60
"""Lines of an answer; the rest is counted."""
REFS = ("password_ref", "encryption_key_ref", "authentication_key_ref")
log = structlog.get_logger("gateway.roles")


class Changeable(Protocol):
    """The edge whose lines and meters are changed."""

    def make_line(self, section: LineSection) -> Line:
        """Make a line that nobody serves yet; UsageError or MeterConfigError where it cannot be."""

    def add_line(self, name: str, line: Line) -> None:
        """Serve one more line."""

    async def remove_line(self, name: str) -> None:
        """Serve a line no more; returns when its conversation is over and it is closed."""

    def add_meter(self, meter: PolledMeter) -> None:
        """Poll one more meter, at once."""

    async def remove_meter(self, name: str) -> None:
        """Poll a meter no more; returns when nobody talks to it."""

    async def replace_meter(self, meter: PolledMeter) -> None:
        """Poll a meter in another way."""

    def changed(self, config: Config) -> None:
        """Take note that lines and meters are now those of `config`."""


@dataclass(slots=True)
class Plan:
    """What differs between two configurations.

    `moved_lines` are gone and new, `same_meters` go and come with them; `held` says what takes a restart.
    """

    gone_meters: list[str] = field(default_factory=list)
    gone_lines: list[str] = field(default_factory=list)
    new_lines: list[LineSection] = field(default_factory=list)
    new_meters: list[PolledMeter] = field(default_factory=list)
    other_meters: list[PolledMeter] = field(default_factory=list)
    same_meters: list[PolledMeter] = field(default_factory=list)
    moved_lines: frozenset[str] = frozenset()
    held: list[str] = field(default_factory=list)

    def told(self) -> Iterator[str]:
        """Yield each change in words."""
        yield from (
            f"line {line.name}: {'changed' if line.name in self.moved_lines else 'new'}"
            for line in self.new_lines
        )
        yield from (f"line {name}: gone" for name in self.gone_lines if name not in self.moved_lines)
        yield from (f"{meter.meter}: new on line {meter.line}, read at once" for meter in self.new_meters)
        yield from (f"{meter.meter}: changed" for meter in self.other_meters)
        yield from (f"{name}: gone" for name in self.gone_meters)
        yield from (f"needs a restart: {why}" for why in self.held)


def plan_of(
    old: Config,
    new: Config,
    polled: Callable[[Config], list[PolledMeter]],
    other_models: Collection[str] = (),
) -> Plan:
    """Return what is to be done so that an edge of the configuration `old` polls as `new` says.

    `other_models` are meters whose model is another one under the same name.
    """
    plan = Plan()
    for name in Config.model_fields:
        if name not in LIVE and getattr(old, name) != getattr(new, name):
            plan.held.append(f"[{name}] is as at the start until then")
    old_lines = {line.name: line for line in old.lines}
    new_lines = {line.name: line for line in new.lines}
    dial_in = {line.name for line in (*old.lines, *new.lines) if line.kind == "dial-in"}
    for name in sorted(dial_in):
        if old_lines.get(name) != new_lines.get(name):
            plan.held.append(f"line {name}, on which a meter dials in")
    lines = (old_lines.keys() | new_lines.keys()) - dial_in
    other = {name for name in lines if old_lines.get(name) != new_lines.get(name)}
    plan.gone_lines = [name for name in old_lines if name in other]
    plan.new_lines = [line for name, line in new_lines.items() if name in other]
    plan.moved_lines = frozenset(other & old_lines.keys() & new_lines.keys())
    before, after = ({m.meter: m for m in polled(config)} for config in (old, new))
    changed = {name for name in before.keys() & after.keys() if _named(before[name]) != _named(after[name])}
    _plan_pushes(plan, old, new)
    _plan_meters(plan, before, after, dial_in, other, changed.union(other_models))
    return plan


def _named(meter: PolledMeter) -> PolledMeter:
    """Return a meter without the folder of users' models where its model is a shipped one, the same in any folder."""
    modbus = meter.spec.modbus
    if modbus is None or modbus.model not in model_names():
        return meter
    return replace(meter, spec=replace(meter.spec, modbus=replace(modbus, models=None)))


def _plan_pushes(plan: Plan, old: Config, new: Config) -> None:
    before, after = ({m.meter: m.push for m in config.meters if m.push} for config in (old, new))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            plan.held.append(f"{name} pushes: its pushes are met as at the start until then")


def _plan_meters(
    plan: Plan,
    before: Mapping[str, PolledMeter],
    after: Mapping[str, PolledMeter],
    dial_in: set[str],
    other_lines: set[str],
    changed: Collection[str],
) -> None:
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if {meter.line for meter in (was, now) if meter is not None} & dial_in:
            if was is None or now is None or name in changed:
                plan.held.append(f"{name}, which dials in")
        elif now is None:
            plan.gone_meters.append(name)
        elif was is None:
            plan.new_meters.append(now)
        elif was.line in other_lines:  # it goes with its line, and comes again
            (plan.other_meters if name in changed else plan.same_meters).append(now)
        elif name in changed:
            plan.other_meters.append(now)


def _models_of(meters: Iterable[PolledMeter]) -> dict[str, MeterModel]:
    """Return the models of users' own by meter: a file that was changed is another model under the same name."""
    found = {}
    for meter in meters:
        modbus = meter.spec.modbus
        if modbus is not None and modbus.model not in model_names():
            with suppress(MeterConfigError):  # told when the meter is met
                found[meter.meter] = load_model(modbus.model, modbus.models)
    return found


class EdgeReload:
    """Reads an edge's file anew when it is asked to; one at a time. `fault` is why the last reading was refused."""

    def __init__(
        self,
        edge: Changeable,
        config: Config,
        path: Path | None,
        secrets: SecretSource,
        polled: Callable[[Config], list[PolledMeter]],
    ) -> None:
        self._edge = edge
        self._config = config
        self._path = None if path is None else path.resolve()
        self._secrets = secrets
        self._polled = polled
        self._models = _models_of(polled(config))
        self._one = asyncio.Lock()
        self.fault: str | None = None
        self.done = 0

    async def reload(self, by: str, words: Sequence[str] = ()) -> Called:
        """Read the file, and change what differs, for `by`; a file with a mistake changes nothing. Raises nothing."""
        if words:
            return Called(done=False, lines=("`reload` takes no words: the edge reads its own file",))
        async with self._one:
            if self._path is None:
                return Called(done=False, lines=("this edge was not started from a file",))
            try:
                return await self._follow(self._path, by)
            except (ConfigError, UsageError, MeterConfigError) as error:
                return self._refused(by, str(error).splitlines())
            except Exception as error:
                log.exception("reload_failed", by=by, file=str(self._path))
                self.fault = f"the configuration was followed in part, the log says how far: {error}"
                return self._answer([self.fault], done=False)

    async def _follow(self, path: Path, by: str) -> Called:
        new = await asyncio.to_thread(load_config, path)
        models = _models_of(self._polled(new))
        other = {name for name, model in models.items() if self._models.get(name, model) != model}
        plan = plan_of(self._config, new, self._polled, other)
        # Made before anything is changed: a trace that cannot be written is a mistake of the file, too.
        made = {line.name: self._edge.make_line(line) for line in plan.new_lines}
        await self._carry_out(plan, made)
        self._models = models
        self._config = self._with_live(new)
        self._edge.changed(self._config)
        self.fault = None
        self.done += 1
        told = [*plan.told(), *self._missing(new, plan)]
        log.info("configuration_reloaded", by=by, file=str(path), changes=told)
        return self._answer(told or ["nothing changed"], done=True)

    def _refused(self, by: str, mistakes: list[str]) -> Called:
        more = f", and {len(mistakes) - 1} more" if len(mistakes) > 1 else ""
        self.fault = f"the configuration was not taken: {mistakes[0]}{more}"
        log.error("reload_refused", by=by, file=str(self._path), mistakes=mistakes)
        return self._answer(mistakes, done=False)

    async def _carry_out(self, plan: Plan, made: Mapping[str, Line]) -> None:
        """First what waits for nobody, then what waits until the conversation of a line that changes is over."""
        leaving = {line.name: place_of(line) for line in self._config.lines if line.name in plan.gone_lines}
        lost = {self._line_of(name) for name in plan.gone_meters}
        late_lines = {n.name for n in plan.new_lines if n.name in leaving or place_of(n) in leaving.values()}
        late = [one for one in plan.new_meters if one.line in late_lines | lost]
        for name, line in made.items():
            if name not in late_lines:
                self._edge.add_line(name, line)
        for meter in plan.new_meters:
            if meter not in late:
                self._edge.add_meter(meter)
        stay = [name for name in plan.gone_meters if self._line_of(name) not in leaving]
        await asyncio.gather(
            *(self._edge.remove_meter(name) for name in stay),
            *(self._edge.remove_line(name) for name in plan.gone_lines),
        )
        for name in sorted(late_lines):
            self._edge.add_line(name, made[name])
        # A meter that is polled in another way went with its line where that went; else it is replaced in place.
        again = [meter for meter in plan.other_meters if self._line_of(meter.meter) in leaving]
        for meter in (*late, *again, *plan.same_meters):
            self._edge.add_meter(meter)
        changed = [meter for meter in plan.other_meters if meter not in again]
        await asyncio.gather(*(self._edge.replace_meter(meter) for meter in changed))

    def _line_of(self, meter: str) -> str:
        return next(one.line for one in self._config.meters if one.meter == meter)

    def _with_live(self, new: Config) -> Config:
        """Return the configuration that the edge now runs by: all else is as at its start."""
        old = self._config
        dial_in = [line for line in old.lines if line.kind == "dial-in"]
        names = {line.name for line in dial_in}
        lines = [line for line in new.lines if line.kind != "dial-in"]
        meters = [meter for meter in new.meters if meter.line in {line.name for line in lines}]
        kept = [meter for meter in old.meters if meter.line in names]
        live = {"lines": (*lines, *dial_in), "meters": (*meters, *kept), "modbus": new.modbus}
        return old.model_copy(update=live)

    def _missing(self, new: Config, plan: Plan) -> Iterator[str]:
        """Yield which secrets of new and changed meters are not there: they are asked for at each poll."""
        wanted = {meter.meter for meter in (*plan.new_meters, *plan.other_meters)}
        for meter in new.meters:
            if meter.meter not in wanted or meter.dlms is None:
                continue
            for ref in filter(None, (getattr(meter.dlms, name) for name in REFS)):
                try:
                    self._secrets.secret(ref)
                except MeterConfigError as error:
                    yield f"{meter.meter}: {error}"

    def _answer(self, told: list[str], *, done: bool) -> Called:
        lines = [text[:1_900] for text in told[:MOST_LINES]]
        if len(told) > MOST_LINES:
            lines.append(f"and {len(told) - MOST_LINES} more")
        return Called(done=done, about=str(self._path), lines=tuple(lines))
