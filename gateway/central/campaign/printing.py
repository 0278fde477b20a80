"""Slips on paper: PDF by Typst, which shapes Hindi, and HTML; each with an opaque QR code and a check digit."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal
from zoneinfo import ZoneInfo

from jinja2 import Environment, StrictUndefined

from gateway.central.campaign.slips import Slip
from gateway.errors import ConfigError
from mapping.checkchar import check_character

if TYPE_CHECKING:
    from segno import QRCode
    from typst import Compiler

Language = Literal["en", "hi"]
LANGUAGES: Final[tuple[Language, ...]] = ("hi", "en")
FAMILY: Final = "Noto Sans Devanagari"
"""The fonts that lie beside this (SIL Open Font License 1.1): both scripts, so that no machine's fonts matter."""
QUIET: Final = 4
"""Modules around a QR code that stay white (ISO/IEC 18004, 9.1)."""
_PACKAGE: Final = "gateway.central.campaign"


class Form(StrEnum):
    """What is printed: three slips on A4, or one sticker for the meter."""

    SLIPS = "slips"
    STICKERS = "stickers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What all slips of a run have in common.

    `portal` is the address that a QR code leads to; `names` says whether a consumer's name may stand there.
    """

    portal: str
    language: Language = "hi"
    helpline: str = "1912"
    utility: str = ""
    names: bool = False
    zone: str = "Asia/Kolkata"


def pdf(slips: Sequence[Slip], look: Look, form: Form, now: datetime) -> bytes:
    """Return the PDF of some slips: the same octets for the same slips, look and instant.

    Raises ConfigError where the packages for printing are not installed.
    """
    document = json.dumps(_document(slips, look, now), ensure_ascii=False)
    made = _compiler().compile(
        _form(form),
        sys_inputs={"data": document},
        format="pdf",
        timestamp=int(now.timestamp()),
        pdf_tags=False,
    )
    assert isinstance(made, bytes)
    return made


def html(slips: Sequence[Slip], look: Look, now: datetime) -> str:
    """Return the page of some slips, for a browser to print."""
    document = _document(slips, look, now)
    route = slips[0].route if slips else ""
    page = (files(_PACKAGE) / "forms" / "slips.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(page)
    return template.render(data=document, t=document["words"], route=route)


def slip_address(portal: str, token: str) -> str:
    """Return what a QR code says: an address with an opaque token, neither number nor name."""
    return f"{portal.rstrip('/')}/q/{token}"


@cache
def words(language: Language) -> Mapping[str, Any]:
    """Return the words of one language."""
    text = (files(_PACKAGE) / "forms" / "words.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)[language]
    return found


def _document(slips: Sequence[Slip], look: Look, now: datetime) -> dict[str, Any]:
    said = dict(words(look.language))
    for key in ("back", "help"):
        said[key] = said[key].format(helpline=look.helpline)
    return {
        "language": look.language,
        "words": said,
        "utility": look.utility,
        "date": now.astimezone(ZoneInfo(look.zone)).strftime("%d.%m.%Y"),
        "slips": [
            _laid(one, look) | {"qr": _svg(_qr(slip_address(look.portal, one.token)))} for one in slips
        ],
    }


def _laid(one: Slip, look: Look) -> dict[str, str]:
    return {
        "number": one.number.grouped(),
        "check": check_character(one.number),
        "legacy": one.legacy,
        "meter": one.meter,
        "name": (one.name or "") if look.names else "",
        "route": one.route,
        "stop": "" if one.stop is None else str(one.stop),
        "slip": one.slip_number,
    }


def _qr(address: str) -> QRCode:
    try:
        import segno
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    return segno.make_qr(address, error="m")


def _svg(code: QRCode) -> str:
    return code.svg_inline(border=QUIET, omitsize=True)


@cache
def _form(form: Form) -> bytes:
    return (files(_PACKAGE) / "forms" / f"{form}.typ").read_bytes()


@cache
def _compiler() -> Compiler:
    try:
        import typst
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    fonts = typst.Fonts(
        include_system_fonts=False,
        include_embedded_fonts=False,
        font_paths=[str(files(_PACKAGE) / "fonts")],
    )
    if FAMILY not in fonts.families():
        raise ConfigError(
            f"the font {FAMILY} of the slips is not where the program was installed: install it again"
        )
    return typst.Compiler(font_paths=fonts)


def _not_installed(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"printing slips needs the package {error.name}: install meter-gateway[slips]")
