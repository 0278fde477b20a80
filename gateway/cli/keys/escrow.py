"""The commands of `keys` for the utility's own key pairs: escrow-new, store-new, open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.central.keys.giving import in_force, opened_texts
from gateway.cli.keys.central import sealed_store
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_line
from gateway.contract.sealing import key_name, needs_passphrase, new_sealing_pair, public_of
from gateway.errors import ConfigError, UsageError
from gateway.private_file import write_private

ESCROW, STORE = "keys-escrow", "keys-store"
MAX_KEY_FILE = 65_536
PassphraseOption = Annotated[
    bool, typer.Option("--passphrase/--no-passphrase", help="Ask for a passphrase that enciphers the file.")
]


def escrow_new(
    folder: Annotated[Path, typer.Argument(help="A folder on a stick or an offline machine.")],
    passphrase: PassphraseOption = True,
    as_json: JsonOption = False,
) -> None:
    """Make the utility's escrow key pair. The private half opens every key of every meter: keep it offline, twice.

    The public half (keys-escrow.pub) goes into the secrets folder of every edge and of central, as [keys]
    escrow_key_ref.

    Example: meter-gateway keys escrow-new /media/stick
    """
    words = _new_passphrase() if passphrase else None
    private, public, name = _make(folder, ESCROW, words)
    print_fields({"private": private, "public": public, "key": name}, as_json=as_json)


def store_new(
    folder: Annotated[Path, typer.Argument(help="Central's secrets folder.")], as_json: JsonOption = False
) -> None:
    """Make central's store key pair: with it central gives keys to a new box, or to another gateway, by itself.

    The private half (keys-store) is named by [keys] store_secret_ref at central; the public one (keys-store.pub) by
    store_key_ref there and on every edge.

    Example: meter-gateway keys store-new /etc/meter-gateway/central.keys
    """
    private, public, name = _make(folder, STORE, None)
    print_fields({"private": private, "public": public, "key": name}, as_json=as_json)


def _make(folder: Path, stem: str, passphrase: bytes | None) -> tuple[Path, Path, str]:
    private, public = folder / stem, folder / f"{stem}.pub"
    for path in (private, public):
        if path.exists():
            raise UsageError(f"{path} is there already: a pair in use is never overwritten")
    secret, open_half = new_sealing_pair(passphrase)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(private, secret)
        write_private(public, open_half)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
    return private, public, key_name(open_half)


def _new_passphrase() -> bytes:
    words = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return str(words).encode()


def open_keys(
    meter: Annotated[str, typer.Argument(help="The meter whose keys are wanted.")],
    private_key: Annotated[Path, typer.Option("--private-key", help="The escrow's private key file.")],
    to: Annotated[Path, typer.Option("--to", help="Write the keys into this private file (0600).")],
    client: Annotated[int, typer.Option("--client", help="Whose association: its client address.")] = 48,
    before: Annotated[
        bool, typer.Option("--unproved", help="Take the newest keys, though the meter never proved them.")
    ] = False,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Open a meter's sealed keys with the offline key, into a key file that `read --key-file` takes. None is printed.

    For the day when the box is burned. Where a change was under way, the meter holds its new keys or those before:
    try both (--unproved).

    Example: meter-gateway keys open GEN:10000101 --private-key /media/stick/keys-escrow --to meter.toml --data DIR
    """
    private = _read(private_key)
    words = None
    if needs_passphrase(private):
        words = str(typer.prompt("Passphrase", hide_input=True, err=True)).encode()
    with sealed_store(find_files(data, config)) as store:
        sealed = store.of_meters([meter])
    if not sealed:
        raise UsageError(f"no keys of {meter} are kept (`keys kept` lists whose are)")
    public_of(private, words)  # a wrong passphrase is told as such
    texts, closed = opened_texts(sealed, private, words)
    now = in_force(texts)
    held, maybe = now.held, now.maybe
    if before:
        held = held | {e.slot: e for _, text in maybe for e in text.keys if e.state == "new"}
    lines = [
        f'{name} = "hex:{held[f"{who}/{slot}"].octets}"\n'
        for name, who, slot in (
            ("encryption_key", client, "encryption"),
            ("authentication_key", client, "authentication"),
            ("password" if client == 32 else "hls_key", client, "secret"),
        )
        if f"{who}/{slot}" in held
    ]
    if not lines:
        there = ", ".join(sorted(held)) or "none"
        more = f"; {closed} sealed texts do not open with this key" if closed else ""
        raise UsageError(f"no keys of {meter} for client {client}: there are {there}{more}")
    try:
        write_private(to, "".join(lines).encode())
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from error
    unproved = [one.key_id for one, _ in maybe]
    print_fields(
        {
            "meter": meter,
            "client": client,
            "keys": len(lines),
            "file": to,
            "unproved": len(unproved),
            "closed": closed,
        },
        as_json=as_json,
    )
    if closed and not as_json:
        print_line(f"{closed} sealed texts do not open with this key: another escrow key's, or damaged")
    if unproved and not before and not as_json:
        print_line("a change was under way: where these are refused, try --unproved")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_KEY_FILE:
            raise ConfigError(f"{path} is no private key: it is too long")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
