"""The command `simulate`."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import print_line
from gateway.cli.tools.saved_meter import ReplaySettings, serve_saved_meter
from gateway.cli.until_signal import until_signal
from gateway.errors import UsageError
from protocols.simulator.dlms.push_makes import MAKES
from protocols.simulator.faults.script import load as load_faults
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import MeterPlan, Plan
from protocols.simulator.neighbourhood.pushes import PushTo
from protocols.simulator.neighbourhood.run import SimulatorSettings, run_simulator

_SPEED = re.compile(r"(\d+(?:\.\d+)?)x?")
A_WHILE = timedelta(minutes=10)
"""Time for which an example's meter keeps its supply: a newcomer types it that soon."""


def simulate(
    meters: Annotated[int, typer.Option(min=5, max=2000, help="How many meters.")] = 26,
    seed: Annotated[int, typer.Option(help="Same seed, same meters, same readings.")] = 1,
    speed: Annotated[str, typer.Option(help="How fast simulated time runs, e.g. 60x.")] = "1x",
    behind: Annotated[
        float, typer.Option(min=0, help="Hours before now at which simulated time starts.")
    ] = 2.0,
    folder: Annotated[
        Path | None, typer.Option(help="Where plan, keys, edge.toml and gateway.toml are written.")
    ] = None,
    unnamed: Annotated[
        int | None, typer.Option(help="Consumers without a new number (default: all).")
    ] = None,
    calm: Annotated[bool, typer.Option("--calm", help="No power cuts while it runs.")] = False,
    hdlc_tcp: Annotated[
        bool, typer.Option("--hdlc-tcp", help="HDLC buses behind converters on TCP ports, not on ptys.")
    ] = False,
    suite: Annotated[
        int, typer.Option(min=0, max=2, help="Security suite of the DLMS meters that cipher.")
    ] = 0,
    concentrator: Annotated[
        bool,
        typer.Option(
            "--concentrator", help="Put the DLMS meters on TCP behind one concentrator (one socket)."
        ),
    ] = False,
    push_to: Annotated[
        str | None, typer.Option(help="HOST:PORT to which meters on TCP push; edge.toml then listens there.")
    ] = None,
    dial_in: Annotated[
        bool, typer.Option("--dial-in", help="With --push-to: meters on TCP open the connection themselves.")
    ] = False,
    push_as: Annotated[
        str | None,
        typer.Option(help="With --push-to: readings are pushed as this make does, for example kaifa."),
    ] = None,
    replayed: Annotated[
        Path | None,
        typer.Option("--replay", help="Serve one meter from a file of `explore --save` instead."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve a replayed meter at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its TCP port; 0 = any that is free.")] = 0,
    framing: Annotated[str, typer.Option(help="Its framing: wrapper or hdlc.")] = "wrapper",
    frozen: Annotated[bool, typer.Option("--frozen", help="Its clock stands still.")] = False,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="Its password and keys: yours to choose, none is in the file."),
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(help="A fault script by its name, or a TOML file of faults (docs/simulator.md)."),
    ] = None,
) -> None:
    """Serve a neighbourhood of simulated meters on real sockets and ptys, or one replayed meter, until Ctrl-C.

    Example: meter-gateway simulate --meters 26 --seed 7 --speed 60x --folder /tmp/town
    """
    if replayed is not None:
        served = ReplaySettings(host=host, port=port, framing=framing, frozen=frozen, key_file=key_file)
        asyncio.run(until_signal(serve_saved_meter(replayed, served)))
        return
    pace = _speed(speed)
    faults = load_faults(fault) if fault is not None else None
    receiver = None if push_to is None else _push_target(push_to, dial_in=dial_in, make=push_as)
    with tempfile.TemporaryDirectory(prefix="meter-gateway-town-") as temporary:
        where = folder if folder is not None else Path(temporary)
        settings = SimulatorSettings(
            meters=meters,
            seed=seed,
            speed=pace,
            behind=timedelta(hours=behind),
            folder=where,
            unnamed=unnamed,
            cuts=not calm,
            push_to=receiver,
            faults=faults,
            suite=suite,
            hdlc_tcp=hdlc_tcp,
            concentrator=concentrator,
        )
        asyncio.run(run_simulator(settings, ready=lambda running: _print_addresses(running, where)))


def _speed(text: str) -> float:
    match = _SPEED.fullmatch(text)
    if match is None or not 1 <= float(match[1]) <= 100_000:
        raise UsageError(f"--speed: `{text}` is not a speed; write 1x to 100000x, for example 60x")
    return float(match[1])


def _push_target(text: str, *, dial_in: bool, make: str | None) -> PushTo:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--push-to: `{text}` is no address; write HOST:PORT, for example 127.0.0.1:4059")
    if make is not None and make not in MAKES:
        raise UsageError(f"--push-as: there is no make `{make}`; there are {', '.join(MAKES)}")
    return PushTo(host.strip("[]"), int(port), dial_in, make)


def _print_addresses(running: Neighbourhood, folder: Path) -> None:
    """Print how meters of a neighbourhood that is served now are read; writes gateway.toml for it.

    A meter in a simulated power cut does not answer: one that has supply is named.
    """
    config, plan = write_gateway_toml(folder), running.plan
    print_line(f"{len(plan.meters)} meters answer on {len(plan.lines)} lines; files are in {folder}")
    lit = [meter for meter in plan.meters if running.has_supply(meter.meter, A_WHILE)] or list(plan.meters)
    for example in _examples(plan, lit):
        print_line(example)
    print_line(f"meter-gateway read {lit[0].meter} instantaneous --config {config}")
    print_line("Ctrl-C ends it.")


def write_gateway_toml(folder: Path) -> Path:
    """Write a configuration that runs and reads the neighbourhood of `folder`; return its path."""
    path = folder / "gateway.toml"
    head = (
        "[gateway]",
        'name = "town"',
        f"data = {_toml_path(folder / 'data')}",
        f"secrets = {_toml_path(folder / 'keys')}",
        "",
        "[time]",
        'trust = "host"  # the meters are simulated: they show this machine\'s time',
    )
    path.write_text(
        "\n".join((*head, "", (folder / "edge.toml").read_text(encoding="utf-8"))), encoding="utf-8"
    )
    return path


def _toml_path(path: Path) -> str:
    return json.dumps(str(path.absolute()), ensure_ascii=False)


def _examples(plan: Plan, meters: Sequence[MeterPlan]) -> Iterator[str]:
    """Name the first DLMS meter of these on TCP and on a bus by their addresses."""
    lines = {line.name: line for line in plan.lines}
    seen = set()
    for meter in meters:
        line = lines[meter.line]
        if meter.spec.dlms is None or line.serves in seen:
            continue
        seen.add(line.serves)
        place = f"serial://{line.device}" if line.kind == "serial" else f"tcp://{line.host}:{line.port}"
        physical = meter.spec.dlms.physical
        yield f"{meter.meter} is at {place}" + (f" --physical {physical}" if physical is not None else "")
