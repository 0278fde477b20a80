"""The commands `keys plan` and `keys run`: keys of many meters changed by a durable plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from gateway.cli.keys.edge import ClientOption, WhatOption, chosen
from gateway.cli.meter.lots import (
    LotName,
    PlanOptions,
    chosen_meters,
    make_lot,
    open_lot,
    planned,
    run_lot,
    terms,
    work_off,
)
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption, TrustHostOption, user
from gateway.cli.options_object import with_options
from gateway.cli.output import print_fields
from gateway.config import file as configuration
from gateway.config.file import Config
from gateway.edge.keys.change import Stage
from gateway.errors import PeerError, UsageError
from gateway.lots.core import Done, Failed, Lot, Outcome
from gateway.lots.runner import Visit
from gateway.lots.store import LotStore
from gateway.roles.beside_edge import client_beside_edge
from gateway.roles.keys import KeyWork, SealTo, key_work
from gateway.roles.keys_wanted import wanted
from protocols.errors import error_code
from protocols.session import Clock

KIND = "keys"
STOP_ON = ("peer_unavailable", "peer_refused_data", "peer_refused_login", "peer_denies_topic")
"""Without central no meter gets new keys: the lot waits for somebody who looks at the broker, or at central."""
MAX_NAMED = 100
"""Meters that are named with the reason why their keys cannot be changed."""
NOT_TAKEN = "keys_not_taken"


def plan(
    name: LotName,
    plan_options: PlanOptions,
    what: WhatOption = None,
    client: ClientOption = None,
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Plan new keys for many meters. Nothing is made before `run`.

    Example: meter-gateway keys plan july --meters list.csv --what global --rate 120 --window 22:00-05:00
    """
    loaded = configuration.load(config)
    SealTo(loaded)
    meters = chosen_meters(loaded, plan_options)
    whats = chosen(what)
    for meter in meters:
        client_beside_edge(loaded, meter, "keys")
    _check_all(loaded, [meter.meter for meter in meters], client, whats)
    clock = loaded.clock()
    lot = Lot(
        name=name,
        kind=KIND,
        created=clock.now(),
        by=user(),
        terms=terms(plan_options, meters[0].zone, stop_on=STOP_ON),
        facts={"what": whats, "client": client},
    )
    make_lot(loaded, lot, meters)
    print_fields(planned(lot, len(meters), keys=" ".join(whats)), as_json=as_json)


def _check_all(config: Config, meters: Sequence[str], client: int | None, whats: Sequence[str]) -> None:
    """Refuse a lot in which some meters' keys cannot be changed so; each of them is named with the reason."""
    why: dict[str, str] = {}
    for meter in meters:
        for what in whats:
            try:
                wanted(config, meter, client, what)
            except UsageError as error:
                why.setdefault(meter, str(error))
    if len(why) > 1:
        shown = [
            *list(why.values())[:MAX_NAMED],
            *([f"and {len(why) - MAX_NAMED} more"] * (len(why) > MAX_NAMED)),
        ]
        raise UsageError(
            "; ".join((f"{len(why)} of {len(meters)} meters cannot be in this lot: {shown[0]}", *shown[1:]))
        )
    if why:
        raise UsageError(*why.values())


plan_command = with_options(plan, "plan_options", PlanOptions)


def run(
    name: LotName,
    config: ConfigOption = CONFIG_FILE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the first meter.")] = False,
    trust_host: TrustHostOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give the meters of a lot new keys until it is finished, paused or stopped. Ctrl-C is safe: `run` goes on.

    Example: meter-gateway keys run july
    """
    loaded = configuration.load(config)
    with open_lot(loaded, name, KIND) as store:
        keys = " and ".join(store.lot().facts["what"])
        run_lot(
            store,
            lambda: _run(loaded, store, loaded.clock(), as_json=as_json, trust_host=trust_host),
            f"Give {len(store.items())} meters of lot {name} new {keys} keys?",
            yes=yes,
            as_json=as_json,
        )


async def _run(
    config: Config, store: LotStore, clock: Clock, *, as_json: bool, trust_host: bool
) -> Lot | None:
    async with key_work(config, clock) as work:

        async def visit(one: Visit) -> Outcome:
            return await visited(config, work, one)

        return await work_off(store, visit, clock, as_json=as_json, trust_host=trust_host)


async def visited(config: Config, work: KeyWork, visit: Visit) -> Outcome:
    """Change the keys of one meter, or go on with them; errors are its failures, those of central the lot's."""
    names: list[str] = []
    for what in visit.facts["what"]:
        try:
            job = wanted(config, visit.item.meter, visit.facts["client"], what)
        except UsageError as error:
            return Failed(reason="not_possible", note=str(error), final=True)
        if what in visit.item.kept.get("done", ()):
            names.append(what)
            continue
        try:
            change = await work.rotate(job)
        except PeerError as error:  # no other meter fares better, nor this one by itself: the lot stops
            return Failed(reason=error_code(type(error)), note=str(error), final=True)
        if change.stage is not Stage.PROVEN:
            return Failed(reason=NOT_TAKEN, note=change.note or "the meter proves to have its old keys")
        names.append(what)
        await visit.keep({"done": names})  # a visit that is cut off gives no meter the same kind of key twice
    return Done(note=" ".join(names))
