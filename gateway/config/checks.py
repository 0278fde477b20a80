"""What no section can see by itself: names given twice, meters that do not fit their line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.config.companions import push_grammar_of, push_grammars
from gateway.config.meters import LineSection, MeterSection
from gateway.config.mistakes import nearest_name
from gateway.config.push import PushSection
from protocols.errors import MeterConfigError
from protocols.session import Auth
from protocols.toml_lines import Path as Trail


class Finding(NamedTuple):
    """What is wrong at a field, with the nearest valid name."""

    trail: Trail
    problem: str
    nearest: str | None = None


def check_meters(
    lines: Sequence[LineSection], meters: Sequence[MeterSection], push: PushSection | None
) -> Iterator[Finding]:
    """Yield what is wrong between lines, meters and the [push] section."""
    first_line: dict[str, int] = {}
    for i, line in enumerate(lines):
        if line.name in first_line:
            yield Finding(("lines", i, "name"), _twice("line", "defined", "lines", line.name, first_line))
        first_line.setdefault(line.name, i)
    first_meter: dict[str, int] = {}
    for i, meter in enumerate(meters):
        if meter.line not in first_line:
            hint = nearest_name(meter.line, first_line)
            yield Finding(("meters", i, "line"), f"there is no line `{meter.line}`", hint)
        elif why := _unfit(lines[first_line[meter.line]], meter):
            yield Finding(("meters", i, "line"), why)
        if meter.meter in first_meter:
            problem = _twice("meter", "listed", "meters", meter.meter, first_meter)
            yield Finding(("meters", i, "meter"), problem)
        first_meter.setdefault(meter.meter, i)
    yield from _check_push(lines, meters, push)


def _twice(kind: str, done: str, table: str, name: str, first: Mapping[str, int]) -> str:
    return f"{kind} `{name}` is {done} twice (first as {table}[{first[name]}])"


def _unfit(line: LineSection, meter: MeterSection) -> str:
    """Return why a meter cannot be on a line; "" when it can."""
    framing = meter.dlms.framing if meter.dlms is not None else None
    if meter.modbus is None and (line.kind == "udp") != (framing == "wrapper-udp"):
        return f'line `{line.name}` is {line.kind}: a udp line and `framing = "wrapper-udp"` go together'
    if line.mode_e and framing != "hdlc":
        return f'line `{line.name}` has `mode_e`, which needs a DLMS meter with `framing = "hdlc"`'
    return ""


def _check_push(
    lines: Sequence[LineSection], meters: Sequence[MeterSection], push: PushSection | None
) -> Iterator[Finding]:
    dial_in = {line.name for line in lines if line.kind == "dial-in"}
    if push is None:
        for i, line in enumerate(lines):
            if line.name in dial_in:
                problem = "a line that the meter opens needs a [push] section to listen for it"
                yield Finding(("lines", i, "kind"), problem)
        for i, meter in enumerate(meters):
            if meter.push is not None:
                problem = "a meter that pushes needs a [push] section to listen for it"
                yield Finding(("meters", i, "push"), problem)
        return
    yield from _check_companions(meters, push)
    for i, meter in enumerate(meters):
        if meter.line not in dial_in:
            continue
        if meter.dlms is None:
            yield Finding(("meters", i, "line"), "only DLMS meters dial in")
        elif meter.dlms.auth is Auth.LLS and not push.networks:
            yield Finding(
                ("meters", i, "dlms", "auth"),
                "a password would go to anybody who dials in: name `networks` in [push], or use HLS",
            )


def _check_companions(meters: Sequence[MeterSection], push: PushSection) -> Iterator[Finding]:
    """Yield what is wrong with the companions that pushes are read by."""
    try:
        known = push_grammars(push.companions)
    except MeterConfigError as error:
        yield Finding(("push", "companions"), str(error))
        return
    for i, meter in enumerate(meters):
        if meter.push is None:
            continue
        try:
            push_grammar_of(meter, known)
        except MeterConfigError as error:
            yield Finding(("meters", i, "push", "companion"), str(error))
