"""The commands for key pairs and certificates in a meter's security setup (suites 1 and 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.acts.audit import ActRecord
from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.meant import SerialOption, YesOption, confirm, refuse_yes_alone
from gateway.cli.meter.program import record_folder
from gateway.cli.options import JsonOption, user
from gateway.cli.output import print_fields, print_table
from gateway.errors import UsageError
from protocols.dlms.acts.certificates import CertificateSite, HeldCertificate
from protocols.dlms.acts.keys import key_places
from protocols.dlms.companion import companion
from protocols.dlms.objects.codec import show_octets
from protocols.dlms.security import certificates
from protocols.dlms.security.certificates import TrustAnchors
from protocols.dlms.security.key_use import KeyUse
from protocols.dlms.session import DlmsSession
from protocols.errors import MeterConfigError
from protocols.reading import Obis

T = TypeVar("T")
MAX_FILE = 1 << 16
certificates_group = typer.Typer(
    help="Key pairs and certificates in a meter (class 64, suites 1 and 2).", no_args_is_help=True
)
UseOption = Annotated[str, typer.Option(help="signing, agreement or tls.")]
SetupOption = Annotated[
    str | None,
    typer.Option(help="The security setup; default: the companion's for the client, else 0-0:43.0.0*255."),
]
SerialArgument = Annotated[
    str, typer.Argument(help="The certificate's serial number in hex, as `list` shows it.")
]
OutOption = Annotated[Path, typer.Option(help="A new file (PEM).")]


@certificates_group.command("list")
@meter_command
def list_(
    meter: MeterArgument, options: AddressOptions, setup: SetupOption = None, as_json: JsonOption = False
) -> None:
    """List the certificates that a meter holds.

    Example: meter-gateway certificates list GEN:12345678 --config gateway.toml
    """
    access = find_meter(meter, options)
    held = asyncio.run(_at(access, setup, lambda site, _session: site.held()))
    print_table([_row(one) for one in held], as_json=as_json, empty="no certificates")


@certificates_group.command("export")
@meter_command
def export(
    meter: MeterArgument,
    serial: SerialArgument,
    options: AddressOptions,
    out: OutOption,
    setup: SetupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one certificate of a meter to a file.

    Example: meter-gateway certificates export GEN:12345678 3F2A --out meter.pem --config gateway.toml
    """
    number = _number(serial)

    async def work(site: CertificateSite, _session: DlmsSession) -> HeldCertificate:
        return await site.find(number)

    found = asyncio.run(_at(find_meter(meter, options), setup, work))
    if found.certificate is None:
        raise UsageError("the meter lists this certificate, and does not export one that can be read")
    _write(out, found.certificate.public_bytes(Encoding.PEM))
    print_fields(_row(found) | {"file": str(out)}, as_json=as_json)


@certificates_group.command("request")
@meter_command
def request(
    meter: MeterArgument,
    options: AddressOptions,
    use: UseOption,
    out: OutOption,
    new_key_pair: Annotated[
        bool, typer.Option("--new-key-pair", help="Let the meter make a new key pair first: asks.")
    ] = False,
    yes: YesOption = False,
    meter_serial: SerialOption = None,
    setup: SetupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a meter's certificate request (PKCS 10) to a file, for the utility's authority to sign.

    The private key never leaves the meter. A new key pair rules once its certificate is imported.

    Example: meter-gateway certificates request GEN:12345678 --use signing --out meter.csr --config gateway.toml
    """
    wanted, access = _use(use), find_meter(meter, options)

    async def work(site: CertificateSite, _session: DlmsSession) -> x509.CertificateSigningRequest:
        return await site.request(wanted, new_pair=new_key_pair)

    if out.exists():
        raise UsageError(f"{out} is there already: nothing was asked of the meter")
    if new_key_pair:
        says = f"make a new key pair for {use}"
        made = _act(access, options, setup, says, work, yes=yes, serial=meter_serial)
    else:
        made = asyncio.run(_at(access, setup, work))
    _write(out, made.public_bytes(Encoding.PEM))
    fields = {"subject": made.subject.rfc4514_string(), "use": use, "new_key_pair": new_key_pair}
    print_fields(fields | {"file": str(out)}, as_json=as_json)


@certificates_group.command("import")
@meter_command
def import_(
    meter: MeterArgument,
    file: Annotated[Path, typer.Argument(help="The signed certificate, PEM or DER.")],
    options: AddressOptions,
    use: UseOption,
    anchor: Annotated[
        Path | None,
        typer.Option(help="The certificate that vouches for it; default: trust_anchor_ref of the meter."),
    ] = None,
    other: Annotated[
        bool, typer.Option("--other", help="It is not the meter's own: a client's, for example.")
    ] = False,
    yes: YesOption = False,
    meter_serial: SerialOption = None,
    setup: SetupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a certificate into a meter: checked against its authority and the meter's key, and read back.

    Example: meter-gateway certificates import GEN:12345678 meter.pem --use signing --anchor ca.pem -c gateway.toml
    """
    wanted, access = _use(use), find_meter(meter, options)
    (certificate,) = _certificates(_read(file), str(file))[:1]
    trust = TrustAnchors(anchors=_anchors(access, anchor), at=access.clock.now())

    async def work(site: CertificateSite, session: DlmsSession) -> None:
        title = b"" if other else session.system_title
        await site.install(certificates.der(certificate), wanted, own=not other, trust=trust, title=title)

    says = f"import certificate {certificate.serial_number:X} for {use}"
    _act(access, options, setup, says, work, yes=yes, serial=meter_serial)
    print_fields(_shown(certificate) | {"outcome": "imported, and read back"}, as_json=as_json)


@certificates_group.command("remove")
@meter_command
def remove(
    meter: MeterArgument,
    serial: SerialArgument,
    options: AddressOptions,
    yes: YesOption = False,
    meter_serial: SerialOption = None,
    setup: SetupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove one certificate from a meter, and read back that it is gone.

    Example: meter-gateway certificates remove GEN:12345678 3F2A --config gateway.toml
    """
    number = _number(serial)

    async def work(site: CertificateSite, _session: DlmsSession) -> None:
        await site.remove(await site.find(number))

    access = find_meter(meter, options)
    says = f"remove certificate {number:X}"
    _act(access, options, setup, says, work, yes=yes, serial=meter_serial)
    print_fields({"serial": f"{number:X}", "outcome": "removed, and read back"}, as_json=as_json)


Work = Callable[[CertificateSite, DlmsSession], Awaitable[T]]


def _act(
    access: MeterAccess,
    options: AddressOptions,
    setup: str | None,
    says: str,
    work: Work[T],
    *,
    yes: bool,
    serial: str | None,
) -> T:
    """Ask with meter and act, record it, do it; UsageError where --yes has no serial, or another meter answers."""
    refuse_yes_alone(yes=yes, serial=serial)

    async def who(_site: CertificateSite, session: DlmsSession) -> str:
        return (await session.identify()).meter_id

    asked = asyncio.run(_at(access, setup, who))
    confirm(f"{asked}: {says}?", asked, yes=yes, serial=serial)
    record = ActRecord(record_folder(access, options))

    async def recorded(site: CertificateSite, session: DlmsSession) -> T:
        if (await session.identify()).meter_id != asked:
            raise UsageError("another meter answers now: nothing is done")
        with record.recorded(
            now=access.clock.now, by=user(), meter=asked, act="certificates", before="", after=says
        ):
            return await work(site, session)

    return asyncio.run(_at(access, setup, recorded, changes=True))


async def _at(access: MeterAccess, setup: str | None, work: Work[T], *, changes: bool = False) -> T:
    dlms = access.spec.dlms
    if dlms is None:
        raise UsageError("only DLMS meters hold certificates")
    async with open_meter(access, changes=changes) as session:
        assert isinstance(session, DlmsSession)
        known = companion(dlms.companion)
        obis = key_places(known, dlms.client, dlms.client).security_setup if setup is None else _obis(setup)
        return await work(CertificateSite(session.exchange, obis), session)


def _anchors(access: MeterAccess, anchor: Path | None) -> tuple[x509.Certificate, ...]:
    if anchor is not None:
        return _certificates(_read(anchor), str(anchor))
    ref = access.spec.dlms.trust_anchor_ref if access.spec.dlms else None
    if ref is None:
        raise UsageError(
            "nothing vouches for the certificate: give --anchor, or trust_anchor_ref of the meter"
        )
    return _certificates(access.secrets.secret(ref), ref)


def _certificates(octets: bytes, what: str) -> tuple[x509.Certificate, ...]:
    try:
        return certificates.certificates(octets, what)
    except MeterConfigError as error:
        raise UsageError(str(error)) from error


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            octets = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if len(octets) > MAX_FILE:
        raise UsageError(f"{file} has more than {MAX_FILE} octets: no certificate")
    return octets


def _write(file: Path, octets: bytes) -> None:
    try:
        with file.open("xb") as opened:
            opened.write(octets)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


def _use(text: str) -> KeyUse:
    try:
        return KeyUse[text.upper()]
    except KeyError:
        raise UsageError(f"--use: `{text}` is none of signing, agreement, tls") from None


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise UsageError(f"`{text}` is no serial number in hex") from None


def _obis(text: str) -> Obis:
    try:
        return Obis.parse(text)
    except ValueError as error:
        raise UsageError(f"--setup: {error}") from error


def _row(one: HeldCertificate) -> dict[str, Any]:
    info, found = one.info, one.certificate
    known = {"entity": info.entity.name.lower().replace("_", " "), "use": info.type.name.lower()}
    if found is not None:
        return known | _shown(found)
    return known | {
        "serial": f"{one.serial:X}",
        "subject": show_octets(info.subject),
        "issuer": show_octets(info.issuer),
        "valid_until": None,
    }


def _shown(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "serial": f"{certificate.serial_number:X}",
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "valid_until": certificate.not_valid_after_utc,
    }
