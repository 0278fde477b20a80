"""The commands `commission` and `replace`: a meter is fitted, with proof."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.meter.lines import with_traces
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption, TraceOption, nearest, purpose, user
from gateway.cli.output import print_fields, print_json, print_line, print_problem, print_table
from gateway.config import file as configuration
from gateway.errors import UsageError
from gateway.roles.asked_visit import Asked, ask_to_commission, ask_to_replace, asking_visit
from gateway.roles.central_files import central_files_of
from gateway.roles.fieldwork import commission as commission_meter
from gateway.roles.fieldwork import field_work
from gateway.roles.fieldwork import replace as replace_meter
from mapping.directory import Role
from protocols.reading import MissingReason

CentralOption = Annotated[
    Path | None, typer.Option("--central", help="Central's data folder; by default the configuration's.")
]
RequestOption = Annotated[
    Path | None,
    typer.Option(
        "--request", help="This box has no central: write what it shall learn to this file, signed."
    ),
]
UsagePoint = Annotated[str, typer.Option("--usage-point", help="Where the meter is fitted.")]


def commission(
    meter: Annotated[str, typer.Argument(help="The job's meter, for example GEN:10000101.")],
    usage_point: UsagePoint,
    config: ConfigOption = CONFIG_FILE,
    central: CentralOption = None,
    role: Annotated[str, typer.Option(help="consumer, check, feeder, transformer or stock.")] = "consumer",
    new_usage_point: Annotated[
        bool, typer.Option("--new-usage-point", help="A new connection: the directory does not know it yet.")
    ] = False,
    request: RequestOption = None,
    trace: TraceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bind a meter to a usage point, with proof: serial read over the line, opening reading seen at central.

    Binding comes last: where the meter does not answer or central does not show its reading, nothing is bound.
    With --request a signed request is written instead: `directory apply FILE --verify-key KEY` binds it at central.

    Example: meter-gateway commission GEN:10000101 --usage-point UP-0101 --config edge.toml
    """
    if role not in list(Role):
        raise UsageError(f"there is no role `{role}`; roles: {', '.join(Role)}.{nearest(role, Role)}")
    loaded = with_traces(configuration.load(config), trace)

    if request is not None:
        _only_one_way(central)

        async def ask(file: Path) -> Asked:
            async with asking_visit(loaded, purpose=purpose(None), tell=print_problem) as visit:
                return (
                    await ask_to_commission(
                        visit, file, meter=meter, usage_point=usage_point, role=Role(role), by=user()
                    )
                )[1]

        _asked(asyncio.run(ask(request)), as_json=as_json)
        return

    async def work() -> dict[str, Any]:
        async with field_work(
            loaded, central_files_of(loaded, central), purpose=purpose(None), tell=print_problem
        ) as visit:
            plate, proof = await commission_meter(
                visit,
                meter=meter,
                usage_point=usage_point,
                role=Role(role),
                by=user(),
                new_usage_point=new_usage_point,
            )
        return {"usage_point": usage_point, "nameplate": plate.meter_id, **asdict(proof)}

    print_fields(asyncio.run(work()), as_json=as_json)
    if not as_json:
        print_line("commissioned: central holds the opening reading")


def replace(
    old: Annotated[str, typer.Argument(help="The meter that is taken away.")],
    new: Annotated[str, typer.Argument(help="The meter that is fitted.")],
    usage_point: UsagePoint,
    config: ConfigOption = CONFIG_FILE,
    central: CentralOption = None,
    no_final: Annotated[
        MissingReason | None, typer.Option("--no-final", help="The old meter cannot be read, because …")
    ] = None,
    request: RequestOption = None,
    trace: TraceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a meter: final reading of the old, opening reading of the new, both seen at central.

    The directory is changed last: where a reading does not reach central, the old meter stays bound.

    Example: meter-gateway replace GEN:10000101 SEC:20000007 --usage-point UP-0101 --config edge.toml
    """
    loaded = with_traces(configuration.load(config), trace)
    if request is not None:
        _only_one_way(central)

        async def ask(file: Path) -> Asked:
            async with asking_visit(loaded, purpose=purpose(None), tell=print_problem) as visit:
                return (
                    await ask_to_replace(
                        visit, file, old=old, new=new, usage_point=usage_point, by=user(), no_final=no_final
                    )
                )[1]

        _asked(asyncio.run(ask(request)), as_json=as_json)
        return

    async def work() -> dict[str, Any]:
        async with field_work(
            loaded, central_files_of(loaded, central), purpose=purpose(None), tell=print_problem
        ) as visit:
            final, plate, opening = await replace_meter(
                visit, old=old, new=new, usage_point=usage_point, by=user(), no_final=no_final
            )
        return {"final": asdict(final), "nameplate": plate.meter_id, "opening": asdict(opening)}

    result = asyncio.run(work())
    if as_json:
        print_json(result)
        return
    print_table([result["final"], result["opening"]], as_json=False, title=f"replaced at {usage_point}")


def _only_one_way(central: Path | None) -> None:
    if central is not None:
        raise UsageError("--request is for a box without central's files: leave out --central, or --request")


def _asked(asked: Asked, *, as_json: bool) -> None:
    print_fields(asdict(asked), as_json=as_json)
    if not as_json:
        print_line(
            f"at central: meter-gateway directory apply {asked.file.name} --verify-key {asked.verify_key.name}"
        )
