"""The command `keys import`: a maker's consignment file into central's sealed store."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.keys.consignment import MAX_OCTETS, Consigned, Consignment, read_consignment
from gateway.central.keys.consignment_cipher import (
    DEFAULT_ROUNDS,
    SALTED,
    is_cms,
    open_cms,
    open_salted,
    unwrapper,
)
from gateway.central.keys.giving import in_force, opened_texts
from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.store import SealedStore
from gateway.cli.exits import Exit
from gateway.cli.keys.central import sealed_store
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from gateway.cli.output import print_fields, print_json, print_table
from gateway.config import file as configuration
from gateway.config.file import Config
from gateway.contract.key_text import KeyEntry, KeyText, sealing_context
from gateway.contract.sealing import seal
from gateway.errors import ConfigError, UsageError
from gateway.roles.central_files import central_files_of
from protocols.meters.secrets import FileSecrets, decoded
from protocols.session import Clock

MAX_SMALL = 65_536
SHOWN = 50


def import_keys(
    file: Annotated[Path, typer.Argument(help="The maker's file: CSV or XML, enciphered.")],
    private_key: Annotated[
        Path | None, typer.Option("--private-key", help="RSA key (PEM) that opens a CMS file.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Its certificate (PEM), which the maker was given.")
    ] = None,
    transport_key: Annotated[
        Path | None,
        typer.Option("--transport-key", help="Private file with the key that wraps each key (RFC 3394)."),
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for the passphrase of the private key.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(help="PBKDF2 rounds of a file of `openssl enc` (-iter).")
    ] = DEFAULT_ROUNDS,
    maker: Annotated[
        str | None, typer.Option("--maker", help="FLAG letters, where the file gives serials alone.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Take a file that is not enciphered at all.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let the file's keys count where other ones are kept already.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Keep them; without it nothing is changed.")] = False,
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Take a maker's consignment of keys into central's sealed store: first a preview, then --apply. No key is shown.

    CMS (RFC 5652: `openssl cms -encrypt -aes256`), `openssl enc -aes-256-cbc -pbkdf2`, or each key wrapped under a
    transport key (RFC 3394). Afterwards destroy the file.

    Example: meter-gateway keys import lot.cms --private-key utility.pem --certificate utility.crt --config central.toml
    """
    loaded = configuration.load(config)
    seals = _Seals(loaded)
    content = _read(file, MAX_OCTETS)
    unwrap = None if transport_key is None else unwrapper(_secret(transport_key))
    if is_cms(content):
        if private_key is None or certificate is None:
            raise UsageError("this is a CMS file: give --private-key and --certificate")
        words = _ask() if passphrase else None
        content = open_cms(
            content,
            certificate=_read(certificate, MAX_SMALL),
            private_key=_read(private_key, MAX_SMALL),
            passphrase=words,
        )
    elif content.startswith(SALTED):
        content = open_salted(content, passphrase=_ask(), rounds=rounds)
    elif unwrap is None and not plain:
        raise UsageError(
            "the file is not enciphered: everybody on its way could read the keys (--plain takes it)"
        )
    found = read_consignment(content, maker=maker, unwrap=unwrap)
    files = central_files_of(loaded).made()
    with sealed_store(files, make=True) as store:
        sorted_out = seals.compared(found.meters, store)
        taken = sorted_out["new"] + (sorted_out["conflict"] if replace else [])
        refused = bool(found.mistakes) or (bool(sorted_out["conflict"]) and not replace)
        if apply and not refused:
            clock = loaded.clock()
            store.keep([seals.sealed(one, file.name, clock, replace=replace) for one in taken], clock.now())
    _print(found, sorted_out, applied=apply and not refused, as_json=as_json)
    if refused:
        raise typer.Exit(Exit.FAILED)


class _Seals:
    """To whom consigned keys are sealed, and what is kept already."""

    def __init__(self, config: Config) -> None:
        section, files = config.keys, FileSecrets(config.secrets)
        if section.escrow_key_ref is None:
            raise ConfigError("keys are sealed to the utility's escrow key: set [keys] escrow_key_ref")
        refs = [section.escrow_key_ref, *([section.store_key_ref] if section.store_key_ref else [])]
        self._public = [files.secret(ref) for ref in refs]
        own = section.store_secret_ref
        self._private = None if own is None else files.secret(own)

    def compared(self, meters: Sequence[Consigned], store: SealedStore) -> dict[str, list[Consigned]]:
        """Sort meters by what is kept of them: `new`, `known` (the very same keys), `conflict` (others, or unknown)."""
        found: dict[str, list[Consigned]] = {"new": [], "known": [], "conflict": []}
        for one in meters:
            sealed = store.of_meters([one.meter])
            if not sealed:
                found["new"].append(one)
                continue
            kept = self._kept(sealed)
            theirs = {slot: kept.get(slot) for slot in one.keys}
            if all(key is None for key in theirs.values()) and kept:
                found["new"].append(one)
            else:
                found["known" if theirs == dict(one.keys) else "conflict"].append(one)
        return found

    def _kept(self, sealed: Sequence[SealedKeys]) -> dict[str, bytes]:
        if self._private is None:
            return {}
        texts, _ = opened_texts(sealed, self._private)
        return {slot: entry.key for slot, entry in in_force(texts).held.items()}

    def sealed(self, one: Consigned, source: str, clock: Clock, *, replace: bool) -> SealedKeys:
        """Return the keys of one meter, sealed."""
        key_id, at = secrets.token_hex(16), clock.now()
        state: Any = "new" if replace else "held"
        entries = tuple(
            KeyEntry(slot=slot, state=state, octets=key.hex()) for slot, key in sorted(one.keys.items())
        )
        text = KeyText(meter=one.meter, key_id=key_id, keys=entries, made_at=at)
        sealed = seal(
            text.model_dump_json().encode(), to=self._public, context=sealing_context(one.meter, key_id)
        )
        return SealedKeys(
            key_id=key_id,
            gateway="",
            meter=one.meter,
            slots=tuple(sorted(one.keys)),
            sealed=sealed,
            made_at=at,
            proved_at=at,
            source=source[:100],
        )


def _print(
    found: Consignment, sorted_out: dict[str, list[Consigned]], *, applied: bool, as_json: bool
) -> None:
    slots = Counter(slot for one in found.meters for slot in one.keys)
    told: dict[str, Any] = {
        "result": "kept" if applied else "nothing is changed (--apply keeps them)",
        "meters": len(found.meters),
        "new": len(sorted_out["new"]),
        "known already": len(sorted_out["known"]),
        "repeated lines": found.repeated,
        "conflicts": len(sorted_out["conflict"]),
        "mistakes": len(found.mistakes),
        "keys": ", ".join(f"{slot} {count}" for slot, count in sorted(slots.items())),
    }
    problems = [{"line": m.line, "meter": m.meter, "problem": m.problem} for m in found.mistakes]
    problems += [
        {"line": one.line, "meter": one.meter, "problem": "other keys of it are kept already (--replace)"}
        for one in sorted_out["conflict"]
    ]
    if as_json:
        print_json({**told, "problems": problems})
        return
    print_fields(told, as_json=False)
    if problems:
        more = f" (the first {SHOWN} of {len(problems)})" if len(problems) > SHOWN else ""
        print_table(problems[:SHOWN], as_json=False, title=f"mistakes and conflicts{more}")


def _ask() -> bytes:
    return str(typer.prompt("Passphrase", hide_input=True, err=True)).encode()


def _secret(path: Path) -> bytes:
    return decoded(_read(path, MAX_SMALL), path.name)


def _read(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise UsageError(f"{path} has more than {most} octets")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
