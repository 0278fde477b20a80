"""The commands of `keys` at central: kept, boxes, trust, bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.keys.store import SealedStore
from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import Right
from gateway.cli.exits import Exit
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from gateway.cli.output import print_fields, print_problem, print_table
from gateway.config import file as configuration
from gateway.config.file import Config
from gateway.errors import ConfigError, JournalError, UsageError
from gateway.private_file import write_private
from gateway.roles.central import key_desk
from gateway.roles.central_files import CentralFiles, central_files_of
from protocols.meters.secrets import FileSecrets

GatewayArgument = Annotated[str, typer.Argument(help="The gateway's name.")]


@contextmanager
def sealed_store(files: CentralFiles, *, make: bool = False) -> Iterator[SealedStore]:
    """Open central's sealed keys for a block, with what the second copy has more; UsageError where there are none.

    `make`: for whoever adds to them, which needs the second copy; others are only told where it cannot be used.
    """
    if not make and not files.keys.is_file():
        raise UsageError(f"there are no sealed keys at {files.keys}: is this central's data folder?")
    store = SealedStore(files.keys, files.second_copy)
    try:
        try:
            store.settle()
        except JournalError as error:
            if make:
                raise
            print_problem(str(error))
        yield store
    finally:
        store.close()


def kept(
    meter: Annotated[str | None, typer.Argument(help="Only this meter.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """List the sealed keys that central keeps: of which meter, from where, and whether they are proved. None is opened.

    Example: meter-gateway keys kept --data DIR
    """
    with sealed_store(find_files(data, config)) as store:
        found = store.all() if meter is None else store.of_meters([meter])
    rows = [
        {
            "meter": one.meter,
            "keys": " ".join(one.slots),
            "from": one.gateway or one.source,
            "made": one.made_at,
            "kept": one.kept_at,
            "proved": one.proved_at,
            "key_id": one.key_id,
        }
        for one in found
    ]
    print_table(rows, as_json=as_json, empty="no keys are kept")


def check(
    anew: Annotated[
        bool, typer.Option("--anew", help="Make the second copy again, where it is gone for good.")
    ] = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Compare central's sealed keys with their second copy, and give each what it lacks. No key is opened or shown.

    Exit code 1 where the copy has lines that cannot be read, 5 where it is gone or cannot be used.

    Example: meter-gateway keys check --config central.toml
    """
    files = find_files(data, config)
    if not files.keys.is_file():
        raise UsageError(f"there are no sealed keys at {files.keys}: is this central's data folder?")
    store = SealedStore(files.keys, files.second_copy)
    try:
        settled = store.settle(anew=anew, look=True)
        told = {
            "sealed_keys": files.keys,
            "kept": len(store.all()),
            "second_copy": store.copy.path,
            "filled from it": settled.filled,
            "copied to it": settled.copied,
            "lines that cannot be read": settled.damaged,
            "on another disk": "yes"
            if _elsewhere(files.keys, store.copy.path)
            else "no: a lost disk takes both",
        }
    finally:
        store.close()
    print_fields(told, as_json=as_json)
    if settled.damaged:
        raise typer.Exit(Exit.FAILED)


def _elsewhere(path: Path, other: Path) -> bool:
    return path.stat().st_dev != other.stat().st_dev


def boxes(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List the boxes that asked for their meters' keys, and which of them a person trusts.

    Example: meter-gateway keys boxes --data DIR
    """
    with sealed_store(find_files(data, config)) as store:
        rows: list[dict[str, Any]] = [
            {
                "gateway": one.gateway,
                "box": one.name,
                "asked": one.asked_at,
                "trusted": "yes" if one.trusted == one.name else "no",
                "by": one.trusted_by,
            }
            for one in store.boxes()
        ]
    print_table(rows, as_json=as_json, empty="no box ever asked for keys")


def trust(
    gateway: GatewayArgument,
    name: Annotated[str, typer.Argument(help="The box's name, read on the box itself (`keys box`).")],
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a gateway's box: the keys of its meters are sealed to it from now on, and to no box before it.

    Example: meter-gateway keys trust edge-1 9f2c01ab5e7d3344 --data DIR
    """
    files = find_files(data, config)
    with sealed_store(files) as store, acting(files, Right.FLEET) as who:
        store.trust(gateway, name, by=who.name, at=datetime.now(UTC))
        who.note("box.trusted", f"gateway:{gateway[:64]}", {"box": name[:64]})
    print_fields({"gateway": gateway, "box": name, "trusted": "yes"}, as_json=as_json)


def bundle(
    gateway: GatewayArgument,
    file: Annotated[Path, typer.Argument(help="Write the bundle into this file.")],
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Write the keys of a gateway's meters into a file, sealed to its trusted box: to be carried where no broker is.

    Example: meter-gateway keys bundle edge-1 edge-1.keys --config central.toml
    """
    parts = asyncio.run(_bundle(configuration.load(config), gateway))
    try:
        write_private(file, b"\n".join(parts) + b"\n")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    print_fields({"gateway": gateway, "file": file, "parts": len(parts)}, as_json=as_json)


async def _bundle(config: Config, gateway: str) -> list[bytes]:
    ref = config.directory.signing_key_ref
    if ref is None or config.keys.store_secret_ref is None:
        raise ConfigError(
            "a bundle needs [directory] signing_key_ref and [keys] store_secret_ref: central's own"
        )
    files = central_files_of(config)
    if not files.has_ledger or not files.keys.is_file():
        raise UsageError(f"there is no ledger, or there are no sealed keys, in {files.folder}")
    clock = config.clock()
    ledger = Ledger(files.ledger, read_only=True)
    desk = key_desk(config, clock, ledger, files, FileSecrets(config.secrets).secret(ref))
    try:
        known = next((one for one in desk.store().boxes() if one.gateway == gateway), None)
        if known is None or known.trusted != known.name:
            raise UsageError(f"no box of {gateway} is trusted: `keys boxes`, then `keys trust`")

        async def work(task: Callable[[], Any]) -> Any:
            return task()

        found = await desk.gift(gateway, known, work)
        if found is None or not found.meters:
            raise UsageError(f"central keeps no keys of {gateway}'s meters that it could open")
        nonce = found.digest[:32]
        return [payload for _, payload in desk.messages(gateway, known, found, nonce, clock.now())]
    finally:
        desk.close()
        ledger.close()
