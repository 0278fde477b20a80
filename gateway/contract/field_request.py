"""A change of the directory that field work asks for from a box without central's files: signed, kept, taken along.

It is compact JWS (EdDSA) over JSON: who asks, from which gateway, when, the changes in the forms of `mapping.kinds`,
and what the meters showed. Central applies it when it is there, by `directory apply FILE --verify-key KEY`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gateway.contract.signing import sign, verify
from gateway.errors import ContractError
from mapping.kinds import AnyForm

TYP: Final = "change-request+jws"
MAX_TEXT: Final = 64 * 1024
"""Characters of a request: a visit changes one or two meters."""
_TEXT = Annotated[str, Field(min_length=1, max_length=200)]


class ShownReading(BaseModel):
    """What a meter showed at the visit; `energy` is None where it could not be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    meter: _TEXT
    at: AwareDatetime
    energy: str | None
    capture_id: _TEXT


class FieldRequest(BaseModel):
    """What a visit asks of the directory."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    format: Literal[1] = 1
    gateway: _TEXT
    asked_by: _TEXT
    asked_at: AwareDatetime
    source: Literal["commission", "replace"]
    changes: Annotated[tuple[AnyForm, ...], Field(min_length=1, max_length=10)]
    readings: Annotated[tuple[ShownReading, ...], Field(max_length=10)]


def signed_request(request: FieldRequest, key: bytes) -> str:
    """Return the request as it is kept: compact JWS text."""
    return sign(request.model_dump_json(exclude_unset=True).encode(), key=key, typ=TYP)


def is_request(text: bytes) -> bool:
    """Say whether a file's text may be a signed request: a list of changes begins with a bracket."""
    return not text.lstrip().startswith((b"[", b"{"))


def read_request(text: bytes, keys: tuple[bytes, ...]) -> FieldRequest:
    """Return a request that one of the keys signed; ContractError where none did, or it is none."""
    if len(text) > MAX_TEXT:
        raise ContractError(f"a request has at most {MAX_TEXT} characters")
    try:
        payload = verify(text.decode("ascii").strip(), keys=keys, typ=TYP)
        return FieldRequest.model_validate_json(payload)
    except UnicodeDecodeError as error:
        raise ContractError("the file is no signed request") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ContractError(f"the request is malformed: {where}: {first['msg']}") from error
