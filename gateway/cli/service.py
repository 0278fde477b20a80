"""Commands that run the gateway and look at its journal: run, check, simulate, listen, outbox, replay."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from gateway.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    console,
    load_config,
    print_json,
    problems,
    show,
    show_one,
)
from gateway.cli.listen import listen as listen_to
from gateway.cli.replayed import ReplaySettings, serve_replayed
from gateway.config.file import Config, ConfigMistakes
from gateway.contract.envelope import wrap
from gateway.contract.messages import ReplayRequest
from gateway.contract.topics import Topics
from gateway.edge.journal.view import JournalView, view
from gateway.errors import UsageError
from gateway.mqtt.connection import connect
from gateway.roles import app as composition
from gateway.roles.edge import edge_folder
from gateway.roles.mqtt_settings import mqtt_settings, password
from protocols.simulator.faults.script import load as load_faults
from protocols.simulator.neighbourhood.plan import Plan
from protocols.simulator.neighbourhood.pushes import PushTo
from protocols.simulator.neighbourhood.run import SimulatorSettings, run_simulator


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(run)
    app.command()(check)
    app.command()(simulate)
    app.command()(listen)
    app.command()(outbox)
    app.command()(replay)


def run(config: ConfigOption = Path("/etc/meter-gateway/gateway.toml")) -> None:
    """Run the roles that the configuration names, until SIGTERM or Ctrl-C.

    Example: meter-gateway run --config /etc/meter-gateway/substation-7.toml
    """
    asyncio.run(_run_until_signal(config))


async def _run_until_signal(path: Path) -> None:
    from gateway.observe import setup_logging

    loaded = load_config(path)
    setup_logging(loaded.gateway.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with composition.running(loaded):
        await stop.wait()


def check(
    config: ConfigOption = Path("/etc/meter-gateway/gateway.toml"), as_json: JsonOption = False
) -> None:
    """Check a configuration file and the secrets it names; every mistake is shown where it stands.

    Example: meter-gateway check --config edge.toml
    """
    try:
        loaded = load_config(config)
    except ConfigMistakes as error:
        if as_json:
            print_json(
                [
                    {
                        "file": m.file,
                        "line": m.line,
                        "field": m.field,
                        "problem": m.problem,
                        "nearest": m.nearest,
                    }
                    for m in error.mistakes
                ]
            )
            raise typer.Exit(Exit.CONFIG) from error
        raise
    missing = composition.missing_secrets(loaded)
    result = {
        "file": str(config),
        "gateway": loaded.gateway.name,
        "roles": list(loaded.gateway.roles),
        "lines": len(loaded.lines),
        "meters": len(loaded.meters),
        "secrets_missing": missing if as_json else len(missing),
    }
    show_one(result, as_json=as_json)
    if missing and loaded.secrets.is_dir():
        for text in missing:
            problems.print(text, markup=False)
        raise typer.Exit(Exit.CONFIG)
    if missing and not as_json:
        typer.echo(f"the secrets folder {loaded.secrets} is not on this machine, so secrets were not checked")


_SPEED = re.compile(r"(\d+(?:\.\d+)?)x?")


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
    push_to: Annotated[
        str | None, typer.Option(help="HOST:PORT to which meters on TCP push; edge.toml then listens there.")
    ] = None,
    dial_in: Annotated[
        bool, typer.Option("--dial-in", help="With --push-to: meters on TCP open the connection themselves.")
    ] = False,
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
        asyncio.run(_interruptible(serve_replayed(replayed, served)))
        return
    match = _SPEED.fullmatch(speed)
    if match is None or not 1 <= float(match[1]) <= 100_000:
        raise UsageError(f"--speed: `{speed}` is not a speed; write 1x to 100000x, for example 60x")
    faults = load_faults(fault) if fault is not None else None

    receiver = None if push_to is None else _push_target(push_to, dial_in=dial_in)

    def ready(plan: Plan) -> None:
        config = write_gateway_toml(where)
        console.print(f"{len(plan.meters)} meters answer on {len(plan.lines)} lines; files are in {where}")
        for shown in _examples(plan):
            console.print(shown, markup=False)
        console.print(
            f"meter-gateway read {plan.meters[0].meter} instantaneous --config {config}", markup=False
        )
        console.print("Ctrl-C ends it.")

    with tempfile.TemporaryDirectory(prefix="meter-gateway-town-") as temporary:
        where = folder if folder is not None else Path(temporary)
        pace, past = float(match[1]), timedelta(hours=behind)
        asyncio.run(
            run_simulator(
                SimulatorSettings(
                    meters=meters,
                    seed=seed,
                    speed=pace,
                    behind=past,
                    folder=where,
                    unnamed=unnamed,
                    cuts=not calm,
                    push_to=receiver,
                    faults=faults,
                ),
                ready=ready,
            )
        )


def write_gateway_toml(folder: Path) -> Path:
    """Write a configuration that runs and reads the neighbourhood of `folder`; give its path."""
    path = folder / "gateway.toml"
    head = (
        "[gateway]",
        'name = "town"',
        f"data = {_quoted(folder / 'data')}",
        f"secrets = {_quoted(folder / 'keys')}",
    )
    path.write_text(
        "\n".join((*head, "", (folder / "edge.toml").read_text(encoding="utf-8"))), encoding="utf-8"
    )
    return path


def _quoted(path: Path) -> str:
    return json.dumps(str(path.absolute()), ensure_ascii=False)


def _examples(plan: Plan) -> Iterator[str]:
    """Name the first DLMS meter on TCP and on a bus by their addresses."""
    lines = {line.name: line for line in plan.lines}
    seen = set()
    for meter in plan.meters:
        line = lines[meter.line]
        if meter.spec.dlms is None or line.kind in seen:
            continue
        seen.add(line.kind)
        place = f"serial://{line.device}" if line.kind == "serial" else f"tcp://{line.host}:{line.port}"
        physical = meter.spec.dlms.physical
        yield f"{meter.meter} is at {place}" + (f" --physical {physical}" if physical is not None else "")


def _push_target(text: str, *, dial_in: bool) -> PushTo:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--push-to: `{text}` is no address; write HOST:PORT, for example 127.0.0.1:4059")
    return PushTo(host.strip("[]"), int(port), dial_in)


def listen(
    config: ConfigOption = Path("/etc/meter-gateway/gateway.toml"),
    ack: Annotated[
        bool, typer.Option("--ack", help="Acknowledge what was printed, as billing would.")
    ] = False,
) -> None:
    """Print deliveries as billing would take them: the smallest example of a consumer.

    Example: meter-gateway listen --config central.toml
    """
    loaded = load_config(config)
    settings = mqtt_settings(loaded.mqtt, f"{loaded.gateway.name}-listen")
    asyncio.run(
        _interruptible(listen_to(settings, loaded.mqtt.root, _say, ack=ack, password=password(loaded)))
    )


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


async def _interruptible(work: Coroutine[None, None, None]) -> None:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def outbox(
    config: ConfigOption = Path("/etc/meter-gateway/gateway.toml"),
    dead: Annotated[
        bool, typer.Option("--dead", help="List what a peer refused for good, with its reason.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the edge's journal holds and how far each delivery is.

    Example: meter-gateway outbox --config edge.toml --dead
    """
    seen = _journal(load_config(config))
    if dead:
        show(list(seen.dead_letters), as_json=as_json, empty="no dead letters")
        return
    fields = {k: v for k, v in asdict(seen).items() if k not in ("cursors", "dead_letters")}
    waiting = {f"waiting_for_{sink}": seen.backlog(sink) for sink in seen.cursors}
    show_one({**fields, **waiting, "dead_letters": len(seen.dead_letters)}, as_json=as_json)


def _journal(config: Config) -> JournalView:
    return view(edge_folder(config) / "journal.db")


def replay(
    first: Annotated[int, typer.Argument(min=1, help="First sequence number wanted again.")],
    last: Annotated[int, typer.Argument(min=1, help="Last sequence number wanted again.")],
    config: ConfigOption = Path("/etc/meter-gateway/gateway.toml"),
    gateway: Annotated[
        str | None, typer.Option(help="Which gateway; by default the configuration's.")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="Journal uuid; by default the local journal's.")] = None,
) -> None:
    """Ask a running edge to send a range of its journal again.

    Example: meter-gateway replay 1200 1300 --config edge.toml
    """
    if last < first:
        raise UsageError(f"the range {first}..{last} is empty")
    loaded = load_config(config)
    uuid = journal or _held(_journal(loaded), first, last)
    asyncio.run(_ask_replay(loaded, gateway or loaded.gateway.name, uuid, first, last))
    typer.echo(f"asked {gateway or loaded.gateway.name} for {first}..{last}")


def _held(seen: JournalView, first: int, last: int) -> str:
    """Return the local journal's uuid when it can send the range; UsageError says what it holds."""
    if not seen.first_seq <= first <= last <= seen.last_seq:
        holds = f"{seen.first_seq}..{seen.last_seq}" if seen.first_seq <= seen.last_seq else "nothing more"
        raise UsageError(f"the journal holds {holds}; what everybody acknowledged is gone from it")
    return seen.journal


async def _ask_replay(config: Config, gateway: str, journal: str, first: int, last: int) -> None:
    request = ReplayRequest(journal=journal, first=first, last=last, consumer="operator")
    payload = wrap(
        request,
        id=f"replay/{uuid4()}",
        source=f"/{config.gateway.name}/operator",
        time=datetime.now(UTC),
    )
    settings = mqtt_settings(config.mqtt, f"{config.gateway.name}-replay")
    async with connect(settings, password=password(config)) as connection:
        await connection.publish(Topics(config.mqtt.root).replay(gateway), payload)
