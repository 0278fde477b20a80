"""The commands for invocation counters: those that the edge uses with each meter, those of the meters' pushes."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption, nearest
from gateway.cli.output import print_line, print_table
from gateway.config import file as configuration
from gateway.config.meters import MeterSection
from gateway.edge.push.counters import PushCounters, load_push_counters
from gateway.errors import UsageError
from gateway.roles.key_ring import key_ring
from gateway.roles.push import pushing_meter
from protocols.dlms.client.association_opener import association_settings, counter_key
from protocols.dlms.push.senders import sender_key
from protocols.dlms.security.suites import Keys
from protocols.errors import MeterConfigError
from protocols.meters.counters import MAX_COUNTER, FileCounters, KeyCounters, load_counters

counters_group = typer.Typer(
    help="Invocation counters: ours with each meter, and the meters' own of pushes.", no_args_is_help=True
)


@counters_group.command("show")
def show(
    meter: Annotated[str | None, typer.Argument(help="One meter; by default all that use keys.")] = None,
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Show where the counters stand, and which meters showed one that was not believed.

    `next` is the first counter that no run has reserved, `proven` the last one that the meter answered with proof,
    `not_believed` what it showed to whoever asks, far above that; `push` is the last counter taken from its
    pushes. Example: meter-gateway counters show --config edge.toml
    """
    loaded = configuration.load(config)
    held = load_counters(loaded.edge_folder / "counters.json")
    pushed = load_push_counters(loaded.edge_folder / "push.db")
    rows = [_row(loaded, one, held, pushed) for one in _meters(loaded, meter)]
    print_table(rows, as_json=as_json, empty="no meter uses keys")


@counters_group.command("reset")
def reset(
    meter: Annotated[str, typer.Argument(help="The meter, as the configuration names it.")],
    to: Annotated[
        int | None,
        typer.Option("--to", min=1, max=MAX_COUNTER, help="Go on with this counter: one above the meter's."),
    ] = None,
    pushes: Annotated[
        bool,
        typer.Option(
            "--pushes", help="Forget the counter of its pushes: the next one is taken whatever it says."
        ),
    ] = False,
    config: ConfigOption = CONFIG_FILE,
) -> None:
    """Set a meter's counter by hand, after comparing it with another reader. The edge must not run.

    A counter is never set back: the cipher would break. Where a false one was used up to its end, the meter needs
    a new key, or another `system_title` in the configuration.
    Example: meter-gateway counters reset GEN:12345678 --to 20000001 --config edge.toml
    """
    if (to is None) == (not pushes):
        raise UsageError(
            "say what to reset: --to COUNTER for ours with the meter, --pushes for the meter's own"
        )
    loaded = configuration.load(config)
    [found] = _meters(loaded, meter)
    ours, sender = _names(loaded, found)
    # The lock of the counters says that the edge is stopped, for its pushes too.
    with closing(FileCounters(loaded.edge_folder / "counters.json")) as counters:
        if to is not None:
            if ours is None:
                raise UsageError(f"{meter} has no authentication key: nothing of ours is ciphered")
            counters.raise_to(ours, to)
            print_line(f"{meter}: the next association uses counter {to:,}")
            return
        if sender is None:
            raise UsageError(f"{meter} does not push with a system title: it has no counter to forget")
        with closing(PushCounters(loaded.edge_folder / "push.db")) as pushed:
            pushed.forget(sender)
        print_line(
            f"{meter}: its next push is taken, whatever counter it has; those recorded before could be, too"
        )


def _meters(config: configuration.Config, name: str | None) -> list[MeterSection]:
    """Return the meter of that name, or all that use keys."""
    with_keys = [m for m in config.meters if m.dlms is not None and m.dlms.encryption_key_ref is not None]
    if name is None:
        return with_keys
    found = [m for m in with_keys if m.meter == name]
    if not found and any(m.meter == name for m in config.meters):
        raise UsageError(f"{name} has no keys: nothing is ciphered, and no counter is used with it")
    if not found:
        raise UsageError(
            f"there is no meter `{name}` with keys in the configuration."
            + nearest(name, (m.meter for m in with_keys))
        )
    return found


def _names(config: configuration.Config, meter: MeterSection) -> tuple[str | None, str | None]:
    """Return the names under which the stores hold our counter with a meter, and that of its pushes."""
    spec = config.spec(meter, config.gateway.name)
    if spec.dlms is None:
        raise UsageError(f"{meter.meter} is no DLMS meter")
    ring = key_ring(config, config.clock())
    try:
        secrets = ring.choices(meter.meter, spec.dlms)[0]
    finally:
        ring.close()
    settings = association_settings(spec.dlms, secrets)
    ours = None if settings.keys is None else counter_key(settings.keys, settings.system_title)
    title = pushing_meter(meter).peer.title if meter.push is not None else b""
    ref = spec.dlms.encryption_key_ref
    if not title or ref is None:
        return ours, None
    encryption = secrets.secret(ref)  # the counter is the encryption key's: pushes may need no other
    return ours, sender_key(Keys(encryption=encryption, authentication=bytes(len(encryption))), title)


def _row(
    config: configuration.Config, meter: MeterSection, held: dict[str, KeyCounters], pushed: dict[str, int]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "meter": meter.meter,
        "next": None,
        "proven": None,
        "not_believed": None,
        "push": None,
        "problem": None,
    }
    try:
        ours, sender = _names(config, meter)
    except (MeterConfigError, UsageError) as error:
        return {**row, "problem": str(error)}
    known = held.get(ours or "") or KeyCounters()
    return {
        **row,
        "next": known.reserved,
        "proven": known.confirmed or None,
        "not_believed": known.doubted,
        "push": None if sender is None else pushed.get(sender),
    }
