"""The commands `firmware …`: images described, and meters upgraded by a plan."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.acts.audit import ActRecord
from gateway.acts.firmware import (
    IMAGE_SUFFIX,
    KIND,
    NOT_COUNTED,
    STOP_ON,
    UpgradePlan,
    UpgradeVisitor,
    told_again,
)
from gateway.acts.firmware_file import ImageSection, declare, load_image, read_content, sha256_of
from gateway.cli.meter.access import find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.lots import (
    LotName,
    PlanOptions,
    add_lot_commands,
    chosen_meters,
    make_lot,
    open_lot,
    planned,
    run_lot,
    terms,
    work_off,
)
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption, TrustHostOption, parse_time, user
from gateway.cli.options_object import with_options
from gateway.cli.output import print_fields
from gateway.config import file as configuration
from gateway.errors import UsageError
from gateway.lots.core import Lot
from gateway.roles.doors import Doors
from protocols.dlms.companion import companion
from protocols.dlms.firmware.steps import Activation, How
from protocols.dlms.firmware.visit import image_objects
from protocols.dlms.objects import ImageTransfer, SingleActionSchedule
from protocols.dlms.session import DlmsSession
from protocols.errors import MeterRefused, NotSupported
from protocols.meters.secrets import FileSecrets

firmware_group = typer.Typer(help="Firmware images, and upgrades of many meters.", no_args_is_help=True)
PROGRAM = "lots-firmware"


@firmware_group.command("image")
def image(
    file: Annotated[Path, typer.Argument(help="The maker's image.")],
    maker: Annotated[str, typer.Option(help="The maker's three FLAG letters.")],
    model: Annotated[
        list[str], typer.Option("--model", help="A model as the nameplate shows it; repeatable.")
    ],
    hardware: Annotated[
        list[str],
        typer.Option("--hardware", help="OBIS=TEXT: what a Data object of the meter must show; repeatable."),
    ],
    version: Annotated[str, typer.Option(help="What the meter shows as its firmware once the image runs.")],
    identification: Annotated[
        str | None, typer.Option(help="Name it is transferred under, or hex:DIGITS; by default the version.")
    ] = None,
    from_version: Annotated[
        list[str] | None, typer.Option("--from-version", help="Firmware that may be upgraded; repeatable.")
    ] = None,
    meter_signature: Annotated[
        str | None,
        typer.Option(
            help="Signature in hex that the meter shows of the verified image, if the maker says it."
        ),
    ] = None,
    sign_key: Annotated[
        Path | None,
        typer.Option("--sign-key", help="Private file with an Ed25519 key: the declaration is signed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Describe an image in a small TOML file beside it: what it is, for which meters, its SHA-256, signed or not.

    Example: meter-gateway firmware image sim.bin --maker GEN --model 6 --hardware 0-0:94.91.11=D1 --version SIM-1.5.0
    """
    content = read_content(file)
    pairs = [one.partition("=") for one in hardware]
    fields = {
        "file": file.name,
        "sha256": sha256_of(content),
        "maker": maker,
        "models": model,
        "hardware": {code: text for code, _, text in pairs},
        "version": version,
        "identification": identification or version,
        "from_versions": from_version or [],
        "meter_signature": meter_signature,
    }
    target = file.with_suffix(".toml")
    if target == file or target.exists():
        raise UsageError(f"{target} is there already")
    try:
        section = ImageSection.model_validate(fields)
    except ValueError as error:
        raise UsageError(f"the image cannot be described so: {error}") from error
    key = None if sign_key is None else FileSecrets(sign_key.parent).secret(sign_key.name)
    target.write_text(declare(section, key), encoding="utf-8")
    load_image(target)
    print_fields({"written": target, "sha256": section.sha256, "octets": len(content)}, as_json=as_json)


def _activation(activate: str, by: How, watch: int, now: datetime) -> Activation:
    if activate == "never":
        return Activation(how=How.NEVER)
    at = None if activate == "now" else parse_time(activate, option="--activate")
    if by is How.SCHEDULE and at is None:
        raise UsageError("--by schedule needs a time: --activate 2026-12-05T02:00")
    if at is not None and at <= now:
        raise UsageError(f"--activate: {activate} is over: `now` activates as soon as an image is verified")
    wait = timedelta(seconds=watch)
    return Activation(how=by, at=at, watch=wait, settle=min(wait, Activation().settle))


def plan(
    name: LotName,
    image_file: Annotated[Path, typer.Option("--image", help="The TOML file that describes the image.")],
    plan_options: PlanOptions,
    activate: Annotated[
        str, typer.Option(help="now (as soon as it is verified), never, or a time: 2026-12-05T02:00.")
    ] = "now",
    by: Annotated[
        str,
        typer.Option("--by", help="method: we tell it at that time; schedule: the meter does it by itself."),
    ] = "method",
    watch: Annotated[
        int, typer.Option(min=0, max=604_800, help="Seconds after which the version is looked at once more.")
    ] = 900,
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Plan the upgrade of many meters. Nothing goes to a meter before `run`.

    Example: meter-gateway firmware plan july --image sim.toml --meters list.csv --rate 60 --window 22:00-05:00
    """
    if by not in ("method", "schedule"):
        raise UsageError(f"--by: `{by}` is not one of method, schedule")
    loaded = configuration.load(config)
    key = loaded.acts.image_key_ref
    keys = () if key is None else (FileSecrets(loaded.secrets).secret(key),)
    section, image = load_image(image_file, keys)
    meters = chosen_meters(loaded, plan_options)
    clock, zone = loaded.clock(), meters[0].zone
    upgrade = UpgradePlan(section=section, activation=_activation(activate, How(by), watch, clock.now()))
    lot = Lot(
        name=name,
        kind=KIND,
        created=clock.now(),
        by=user(),
        terms=terms(plan_options, zone, stop_on=STOP_ON, not_counted=NOT_COUNTED),
        facts=upgrade.as_facts(),
    )
    with closing(Doors(loaded, PROGRAM, clock, firmware=True)) as doors:
        doors.refuse_unreachable(meter.meter for meter in meters)
    make_lot(loaded, lot, meters, beside={IMAGE_SUFFIX: image.content})
    facts = lot.facts
    told = planned(
        lot,
        len(meters),
        image=f"{section.version} of {section.maker} for model {', '.join(section.models)},"
        f" {len(image.content)} octets",
        activation="never"
        if facts["how"] == How.NEVER
        else f"by {facts['how']}, {facts['at'] or 'once verified'}",
    )
    print_fields(told, as_json=as_json)


firmware_group.command("plan")(with_options(plan, "plan_options", PlanOptions))


@firmware_group.command("run")
def run(
    name: LotName,
    config: ConfigOption = CONFIG_FILE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the first meter.")] = False,
    trust_host: TrustHostOption = False,
    as_json: JsonOption = False,
) -> None:
    """Work a planned upgrade off until it is finished, paused or stopped. Ctrl-C is safe: the next `run` goes on.

    Example: meter-gateway firmware run july
    """
    loaded = configuration.load(config)
    clock = loaded.clock()
    with (
        open_lot(loaded, name, KIND) as store,
        closing(Doors(loaded, PROGRAM, clock, firmware=True)) as doors,
    ):
        lot, items = store.lot(), store.items()
        doors.refuse_unreachable(item.meter for item in items if item.ended is None)
        visitor = UpgradeVisitor.of_lot(
            store.path, lot.facts, doors.open, ActRecord(loaded.gateway.data), clock, user()
        )
        upgrade = UpgradePlan.of(lot.facts)
        timed = upgrade.activation.at is not None
        run_lot(
            store,
            lambda: work_off(store, visitor, clock, as_json=as_json, trust_host=trust_host, timed=timed),
            f"Upgrade {len(items)} meters of lot {name} to {upgrade.section.version}?",
            yes=yes,
            as_json=as_json,
        )


@firmware_group.command("show")
@meter_command
def show(meter: MeterArgument, options: AddressOptions, as_json: JsonOption = False) -> None:
    """Show a meter's firmware and where an image transfer stands in it. Nothing is changed.

    With --config the association of [meters.firmware] is used where there is one.

    Example: meter-gateway firmware show GEN:12345678 --config gateway.toml
    """
    print_fields(asyncio.run(_show(meter, options)), as_json=as_json)


async def _show(meter: str, options: AddressOptions) -> dict[str, Any]:
    access = find_meter(meter, options)
    spec = access.spec
    if spec.dlms is None:
        raise UsageError(f"{meter} is no DLMS meter")
    if options.config is not None:
        loaded = configuration.load(options.config)
        own = next((m.firmware for m in loaded.meters if m.meter == meter), None)
        if own is not None:
            section = next(m for m in loaded.meters if m.meter == meter)
            taking = section.model_copy(update={"dlms": own})
            access = replace(access, spec=loaded.spec(taking, f"{loaded.gateway.name}/cli"))
    async with open_meter(access) as session:
        assert isinstance(session, DlmsSession)
        plate = await session.identify()
        objects = image_objects(companion(spec.dlms.companion))
        target = ImageTransfer(objects.image, session.exchange)
        found: dict[str, Any] = {"meter": plate.meter_id, "model": plate.model, "firmware": plate.firmware}
        for attribute in (
            target.image_transfer_enabled,
            target.image_transfer_status,
            target.image_block_size,
            target.image_first_not_transferred_block_number,
            target.image_to_activate_info,
        ):
            found[attribute.name] = await _shown(attribute)
        if objects.schedule is not None:
            schedule = SingleActionSchedule(objects.schedule, session.exchange)
            found["activation_schedule"] = await _shown(schedule.execution_time)
        return found


async def _shown(attribute: Any) -> Any:
    try:
        found = attribute.codec.show(await attribute.get())
        return None if found == [] else found
    except (NotSupported, MeterRefused) as error:
        return f"! {error}"


add_lot_commands(firmware_group, KIND, keeps=told_again)
