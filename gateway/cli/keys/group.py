"""The group `keys`: every command of it, by the place where it is given."""

from __future__ import annotations

from collections.abc import Callable

import typer

from gateway.cli.keys import central, consign, edge, escrow, lots
from gateway.cli.meter.lots import add_lot_commands

keys_group = typer.Typer(
    help="Keys of meters: changed in two phases, escrowed, imported, given to edges.", no_args_is_help=True
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "rotate": edge.rotate,
    "plan": lots.plan_command,
    "run": lots.run,
    "status": edge.status,
    "box": edge.box,
    "take": edge.take,
    "escrow-new": escrow.escrow_new,
    "store-new": escrow.store_new,
    "open": escrow.open_keys,
    "import": consign.import_keys,
    "kept": central.kept,
    "check": central.check,
    "boxes": central.boxes,
    "trust": central.trust,
    "bundle": central.bundle,
}
for name, command in _COMMANDS.items():
    keys_group.command(name)(command)
add_lot_commands(keys_group, lots.KIND)
