"""Serves one meter from a file that `explore --save` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.cli.options import nearest
from gateway.cli.output import print_line
from gateway.errors import UsageError
from protocols.dlms.explore.saved_meter import MAX_CHARACTERS, SavedMeter, from_text
from protocols.dlms.server.ports import serve_hdlc_tcp, serve_wrapper
from protocols.errors import MeterConfigError
from protocols.meters.key_file import KeyFile
from protocols.session import Auth
from protocols.simulator.cosem.saved_meter import SavedMeterModel

HDLC_PHYSICAL = 17
"""HDLC address of the served meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """Where and how a saved meter answers; `frozen` stops its clock at the time of the file."""

    host: str
    port: int
    framing: str
    frozen: bool
    key_file: Path | None


async def serve_saved_meter(path: Path, settings: ReplaySettings) -> None:
    """Serve until cancelled; UsageError when file, keys or port cannot be used."""
    if settings.framing not in ("wrapper", "hdlc"):
        hint = nearest(settings.framing, ("wrapper", "hdlc"))
        raise UsageError(f"--framing: `{settings.framing}` is not one of wrapper, hdlc.{hint}")
    saved, model = _load(path, settings)
    try:
        if settings.framing == "hdlc":
            server = await serve_hdlc_tcp({HDLC_PHYSICAL: model}, settings.host, settings.port)
        else:
            server = await serve_wrapper({saved.server: model}, settings.host, settings.port)
    except OSError as error:
        raise UsageError(f"{settings.host}:{settings.port} cannot be served: {error}") from error
    host, port = server.sockets[0].getsockname()[:2]
    how = f"--client {saved.client}" + (f" --auth {saved.auth}" if saved.auth is not Auth.NONE else "")
    how += f" --framing hdlc --physical {HDLC_PHYSICAL}" if settings.framing == "hdlc" else ""
    print_line(f"{saved.manufacturer}:{saved.serial} answers at tcp://{host}:{port} {how}")
    print_line("Ctrl-C ends it.")
    async with server:
        await server.serve_forever()


def _load(path: Path, settings: ReplaySettings) -> tuple[SavedMeter, SavedMeterModel]:
    """Read a saved meter and make its model; UsageError names what is wrong with the file or the keys."""
    try:
        if path.stat().st_size > MAX_CHARACTERS:
            raise UsageError(f"{path} is too long for a saved meter")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"the saved meter {path} cannot be read: {error}") from error
    keys = KeyFile(settings.key_file) if settings.key_file else None
    try:
        saved = from_text(text)
        password = keys.password_name(saved.auth) if keys else None
        model = SavedMeterModel(
            saved,
            secret=keys.secret(password) if keys and password else None,
            encryption_key=keys.secret("encryption_key") if keys and keys.has_keys else None,
            authentication_key=keys.secret("authentication_key") if keys and keys.has_keys else None,
            frozen=settings.frozen,
        )
    except MeterConfigError as error:
        hint = " (--key-file)" if keys is None and "give" in str(error) else ""
        raise UsageError(f"{path}: {error}{hint}") from error
    return saved, model
