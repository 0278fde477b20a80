"""The table [meters.dlms], made from `DlmsSettings`: its names, types, limits and defaults stand there only."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, create_model, field_validator

from gateway.config.types import FromSection, Name, Section
from protocols.reading import Obis
from protocols.session import (
    DLMS_SETTINGS,
    Auth,
    Bounds,
    Choices,
    DlmsSettings,
    ReleaseMode,
    SettingType,
)

SystemTitle = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{16}$")]
"""A system title as 16 hex digits."""


class _Table(Section):
    """How to associate with a DLMS meter; secrets by reference only.

    `ciphered` asks for ciphering as `protection` says, under security `suite`. `dedicated_key` sends a fresh key for
    each association, `general` uses general-glo-ciphering, `accept_plain` lets plain answers through where
    ciphering was agreed (a downgrade: only for models known to need it). At most `max_list` attributes go into
    one request, where the meter grants lists and takes them; `release` ends it plainly, with a ciphered
    Initiate inside, or not at all (`auto`: plainly, on HDLC by DISC until that is refused); `counter_object` is
    where the public client reads the invocation counter (empty: nowhere); `keep_open` keeps an idle association
    for the next poll, in seconds.
    `local_deviation` is what a meter writes as deviation (minutes) although it means its wall clock; `clock` and
    `read` propose it.
    """

    @field_validator("release", mode="before", check_fields=False)
    @classmethod
    def _read_yes_and_no(cls, given: object) -> object:
        """Take the booleans of earlier files too."""
        if isinstance(given, bool):
            return ReleaseMode.PLAIN if given else ReleaseMode.NONE
        return given

    @field_validator("counter_object", "hls_object", check_fields=False)
    @classmethod
    def _check_obis(cls, text: str | None) -> str | None:
        if text:
            Obis.parse(text)
        return text


def _field_type(name: str, setting: SettingType) -> Any:
    if name == "system_title":
        return SystemTitle | None
    kind: Any = Name if name.endswith("_ref") else setting.plain
    match setting.limit:
        case Bounds(low=low, high=high, above=above):
            kind = Annotated[kind, Field(gt=low, le=high) if above else Field(ge=low, le=high)]
        case Choices() as choices:
            kind = Literal[tuple(choices)]
    return kind | None if setting.optional else kind


_DEFAULTS = {setting.name: setting.default for setting in fields(DlmsSettings)} | {"system_title": None}
_FIELDS: dict[str, Any] = {
    name: (_field_type(name, setting), _DEFAULTS[name]) for name, setting in DLMS_SETTINGS.items()
}
DlmsSection = create_model("DlmsSection", __base__=_Table, __doc__=_Table.__doc__, **_FIELDS)
"""The table as it stands in the file."""
NO_TITLE = b""
"""The system title of settings whose table gives none: the client's own name makes it."""


def _settings(table: Section) -> DlmsSettings:
    """Return a table's settings; ValueError when secrets that they need are not named."""
    given = table.model_dump()
    title = given.pop("system_title")
    settings = DlmsSettings(**given, system_title=bytes.fromhex(title) if title else NO_TITLE)
    if settings.auth.needs_secret and settings.password_ref is None:
        raise ValueError(
            f'auth = "{settings.auth}" needs `password_ref`, the name of a file in the secrets folder'
        )
    keys = (settings.encryption_key_ref, settings.authentication_key_ref)
    if (settings.ciphered or settings.auth is Auth.HLS_GMAC) and None in keys:
        raise ValueError("ciphering needs `encryption_key_ref` and `authentication_key_ref`")
    if settings.gateway_network is not None and settings.gateway_address is None:
        raise ValueError("`gateway_network` needs `gateway_address`, the meter's address behind the gateway")
    if (settings.signed or settings.key_info is not None) and not settings.ciphered:
        raise ValueError("`key_info` and `signed` need `ciphered = true`")
    if settings.auth is Auth.HLS_ECDSA:
        if settings.suite == 0:
            raise ValueError('auth = "hls-ecdsa" needs `suite = 1` or `suite = 2`')
        if settings.signing_key_ref is None or (settings.meter_signing_ref, settings.trust_anchor_ref) == (
            None,
            None,
        ):
            raise ValueError(
                'auth = "hls-ecdsa" needs `signing_key_ref`, and `meter_signing_ref` or `trust_anchor_ref`'
            )
    return settings


DlmsTable = Annotated[DlmsSettings, FromSection(DlmsSection, _settings)]
"""`DlmsSettings` read from the table."""
