"""The commands `campaign …`: everybody is told the new number, by SMS, slip or at the meter, and nobody twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.campaign.coverage import Coverage, by_day, by_route, total
from gateway.central.campaign.reaching import Messages
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.targets import PlanState, Targets
from gateway.central.office.actors import Right
from gateway.central.people.database import PeopleStore
from gateway.cli.office.acting import Acting, acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_json, print_line, print_table
from gateway.config import file as configuration
from gateway.errors import UsageError
from gateway.roles.central_files import CentralFiles
from mapping.store import DirectoryStore

NameArgument = Annotated[str, typer.Argument(help="The campaign's name: letters, digits, _ and -.")]
MAX_ROUTES = 40
"""Routes shown in a terminal; --json shows all."""

campaign_group = typer.Typer(help="Everybody is told the new number, and nobody twice.", no_args_is_help=True)


@campaign_group.command("plan")
def plan(
    name: NameArgument, data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False
) -> None:
    """Plan whom to tell by which way, or bring the plan to what the directory says now. Nobody is told yet.

    By SMS where a mobile was verified in the last 12 months and wants messages, else by slip, by route.

    Example: meter-gateway campaign plan rekey-2026 --data DIR
    """
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 40:
        raise UsageError(f"{name[:60]} is no name of a campaign: letters, digits, _ and -, at most 40")
    with _opened(data, config, Right.CONSUMERS) as (files, who, store):
        people = PeopleStore(files.people)
        try:
            messages = Messages(people)
            with DirectoryStore(files.directory) as directory:
                done = Targets(store).plan(
                    name,
                    directory.snapshot(),
                    messages.reaching,
                    messages.withdraw,
                    by=who.name,
                    now=datetime.now(UTC),
                )
        finally:
            people.close()
        who.note("campaign.planned", f"campaign:{name}", asdict(done))
        fields = asdict(done) | {
            f"by_{way}": count for way, count in _ways(total(by_route(store, name))).items()
        }
    print_fields(fields, as_json=as_json)
    if config is not None and configuration.load(config).sms.provider == "none" and not as_json:
        print_line("[sms] names no provider: what goes by SMS waits until there is one")


@campaign_group.command("start")
def start(name: NameArgument, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Let a campaign go on: the running gateway that sends SMS feeds its queue, route after route.

    Example: meter-gateway campaign start rekey-2026 --data DIR
    """
    _set(name, PlanState.RUNNING, "campaign.started", data, config)
    print_line(f"{name} runs; slips that it needs are made by `slips make FOLDER --campaign {name}`")


@campaign_group.command("pause")
def pause(name: NameArgument, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Hold a campaign: what waits in the queue is taken back, and sent when it goes on.

    Example: meter-gateway campaign pause rekey-2026 --data DIR
    """
    _set(name, PlanState.PAUSED, "campaign.paused", data, config)
    print_line(f"{name} is paused: within seconds no message of it waits to be sent")


@campaign_group.command("status")
def status(
    name: NameArgument, data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False
) -> None:
    """Show how far a campaign is: who was told by which way, by route and by day, and who is left.

    Example: meter-gateway campaign status rekey-2026 --data DIR
    """
    with _opened(data, config, Right.SEE) as (_, _who, store):
        targets = Targets(store)
        held = targets.find(name)
        if held is None:
            raise UsageError(f"there is no campaign {name}: `campaign plan` makes one")
        targets.settle_slips(name)
        routes, days = by_route(store, name), by_day(store, name)
    whole = total(routes)
    if as_json:
        print_json(
            {
                "campaign": name,
                "state": held.state.value,
                "total": _row(whole),
                "routes": [{"route": route or None} | _row(one) for route, one in routes.items()],
                "days": [asdict(day) | {"day": day.day.isoformat()} for day in days],
            }
        )
        return
    print_fields({"campaign": name, "state": held.state.value} | _row(whole), as_json=False)
    shown = [{"route": route or None} | _short(one) for route, one in list(routes.items())[:MAX_ROUTES]]
    print_table(shown, as_json=False, title="by route")
    if len(routes) > MAX_ROUTES:
        print_line(f"… and {len(routes) - MAX_ROUTES} more routes (--json shows them)")
    if days:
        told = [
            {"day": d.day.isoformat(), "sms": d.sms, "slip": d.slip, "at_meter": d.meter, "left": d.left}
            for d in days
        ]
        print_table(told, as_json=False, title="by day")


@contextmanager
def _opened(
    data: Path | None, config: Path | None, right: Right
) -> Iterator[tuple[CentralFiles, Acting, CampaignStore]]:
    files = find_files(data, config).made()
    with acting(files, right) as who, CampaignStore(files.campaign) as store:
        yield files, who, store


def _set(name: str, state: PlanState, act: str, data: Path | None, config: Path | None) -> None:
    with _opened(data, config, Right.CONSUMERS) as (_, who, store):
        Targets(store).set_state(name, state)
        who.note(act, f"campaign:{name}")


def _ways(one: Coverage) -> dict[str, int]:
    return {
        "sms": one.sms_waiting + one.sms_sent,
        "slip": one.slip_to_make + one.slip_out,
        "nothing": one.unreachable,
    }


def _row(one: Coverage) -> dict[str, Any]:
    return asdict(one) | {"left": one.left}


def _short(one: Coverage) -> dict[str, int]:
    return {
        "accounts": one.accounts,
        "told_sms": one.told_sms,
        "told_slip": one.told_slip,
        "at_meter": one.told_meter,
        "sms_to_go": one.sms_waiting + one.sms_sent,
        "slips_to_make": one.slip_to_make,
        "slips_out": one.slip_out,
        "unreachable": one.unreachable,
        "left": one.left,
    }
