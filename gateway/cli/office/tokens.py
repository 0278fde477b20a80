"""The commands `staff tokens …`: other systems, by a token, a client certificate, or the key they sign with."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.central.office.actors import StaffRole, roles_text
from gateway.central.office.machines import MachineKind
from gateway.central.office.office import Office
from gateway.cli.office.acting import need_the_box
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_line, print_table
from gateway.contract.signing import public_key
from gateway.errors import UsageError

NameArgument = Annotated[str, typer.Argument(help="Name of the system, for example sap.")]
RoleOption = Annotated[list[StaffRole], typer.Option("--role", help="What for; may be given several times.")]

tokens_group = typer.Typer(
    help="Other systems, by token, client certificate or signing key.", no_args_is_help=True
)


@tokens_group.command("add")
def add_token(
    name: NameArgument,
    role: RoleOption,
    days: Annotated[int, typer.Option("--days", min=1, max=731, help="How long it is let in.")] = 365,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Its client certificate (PEM), in place of a token.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", help="Its Ed25519 public key, in place of a token: it signs messages over MQTT."
        ),
    ] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Let another system in. A token is shown once and kept only as a digest.

    By root, or whoever central's files belong to.

    Example: meter-gateway staff tokens add sap --role clerk --days 365 --data DIR
    """
    if certificate is not None and key is not None:
        raise UsageError("give one of --certificate and --key")
    files = find_files(data, config).made()
    by, now = need_the_box(files.folder), datetime.now(UTC)
    expires = now + timedelta(days=days)
    shown: dict[str, object] = {
        "machine": name.strip().lower(),
        "roles": roles_text(role),
        "expires": expires,
    }
    with Office(files.office, files.folder) as office:
        if certificate is not None:
            proof = _certificate_digest(certificate)
            office.machines.add_certificate(name, proof, role, expires=expires, by=by, at=now)
            shown["certificate_sha256"] = proof
        elif key is not None:
            proof = _public_key(key)
            office.machines.add_key(name, proof, role, expires=expires, by=by, at=now)
            shown["public_key"] = proof
        else:
            shown["token"] = office.machines.add_token(name, role, expires=expires, by=by, at=now)
    print_fields(shown, as_json=as_json)
    if "token" in shown and not as_json:
        print_line("shown this once: keep it where the system keeps its secrets")


@tokens_group.command("list")
def list_tokens(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List the systems that are let in: by what, until when, and when they last asked.

    Example: meter-gateway staff tokens list --data DIR
    """
    files, now = find_files(data, config), datetime.now(UTC)
    with Office(files.office, files.folder) as office:
        rows = [
            {
                "name": one.name,
                "by": one.kind.value,
                "roles": roles_text(one.roles),
                "state": "revoked" if one.revoked else "active" if one.expires_at > now else "expired",
                "expires": one.expires_at,
                "last_used": one.last_used if one.kind is not MachineKind.SIGNATURE else None,
                "proof": one.proof or "—",
            }
            for one in office.machines.all()
        ]
    print_table(rows, as_json=as_json, empty="no other system is let in")


@tokens_group.command("revoke")
def revoke_token(name: NameArgument, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Let a system in no more, from now on.

    Example: meter-gateway staff tokens revoke sap --data DIR
    """
    files = find_files(data, config)
    by = need_the_box(files.folder)
    with Office(files.office, files.folder) as office:
        office.machines.revoke(name, by=by, at=datetime.now(UTC))
    print_line(f"{name.strip().lower()} is let in no more")


def _certificate_digest(path: Path) -> str:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no certificate in PEM: {error}") from error
    return hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest()


def _public_key(path: Path) -> str:
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return base64.b64encode(public_key(octets).public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
