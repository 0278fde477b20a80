"""A firmware image as it comes: the maker's file, and beside it a small TOML that says what it is and for whom."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from gateway.config.mistakes import ConfigMistakes, Source
from gateway.config.types import Section
from gateway.contract import signing
from gateway.errors import ConfigError, ContractError
from protocols.dlms.firmware.image import MAX_IMAGE, FirmwareImage
from protocols.dlms.objects.image import MAX_IDENTIFICATION
from protocols.reading import Obis

MAX_DECLARATION = 64 << 10
Text = Annotated[str, Field(min_length=1, max_length=64)]


class ImageSection(Section):
    """What an image is and which meters it is for.

    `file` stands beside the declaration. `maker` are the FLAG letters, `models` what the nameplate may show as model,
    `hardware` what Data objects of the meter must show, by OBIS code. `version` is what the meter shows once the image
    runs, `identification` the name it is transferred under (text, or `hex:` and digits). `from_versions` lists the
    firmware that may be upgraded; empty is any. `meter_signature` (hex digits) is what the meter must show as the
    image's signature before it is activated, where the maker says it. `signature` is made by
    `firmware image --sign-key`.
    """

    file: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    maker: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    models: Annotated[tuple[Text, ...], Field(min_length=1, max_length=64)]
    hardware: Annotated[dict[str, Text], Field(min_length=1, max_length=16)]
    version: Text
    identification: Annotated[str, Field(min_length=1, max_length=4 + 2 * MAX_IDENTIFICATION)]
    from_versions: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    meter_signature: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,1024}$")] | None = None
    signature: Annotated[str, Field(max_length=16_384)] | None = None

    @field_validator("file")
    @classmethod
    def _beside(cls, name: str) -> str:
        if "/" in name or name.startswith("."):
            raise ValueError("name a file that stands beside this one")
        return name

    @field_validator("hardware")
    @classmethod
    def _codes(cls, given: dict[str, str]) -> dict[str, str]:
        for code in given:
            Obis.parse(code)
        return given

    @field_validator("identification")
    @classmethod
    def _octets(cls, text: str) -> str:
        if not 0 < len(identification_of(text)) <= MAX_IDENTIFICATION:
            raise ValueError(f"an identification has 1 to {MAX_IDENTIFICATION} octets")
        return text


class ImageFile(Section):
    """The declaration as a whole."""

    image: ImageSection


def identification_of(text: str) -> bytes:
    """Return the octets of an identification; ValueError when `hex:` is followed by something else."""
    return bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()


def load_image(path: Path, keys: tuple[bytes, ...] = ()) -> tuple[ImageSection, FirmwareImage]:
    """Return the declaration at `path` and the image beside it, proved to be the declared one.

    With `keys` (Ed25519 public keys) it must be signed by one of them. ConfigMistakes names each mistake with file,
    line and field; ConfigError and MeterConfigError what else is wrong.
    """
    source = Source(path)
    try:
        with path.open("rb") as file:
            source.text = file.read(MAX_DECLARATION + 1)[:MAX_DECLARATION].decode()
        section = ImageFile.model_validate(tomllib.loads(source.text)).image
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigMistakes([source.mistake((), f"not TOML: {error}")]) from error
    except ValidationError as error:
        raise ConfigMistakes([source.explain_in(one, ImageFile) for one in error.errors()]) from error
    if keys:
        _check_signature(section, keys, path)
    return section, image_of(section, read_content(path.with_name(section.file)))


def read_content(path: Path) -> bytes:
    """Return the octets of an image's file; ConfigError when it cannot be read or is too large."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_IMAGE + 1)
    except OSError as error:
        raise ConfigError(f"the image {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_IMAGE:
        raise ConfigError(f"the image {path} has more than {MAX_IMAGE} octets")
    return content


def image_of(section: ImageSection, content: bytes) -> FirmwareImage:
    """Return the image; MeterConfigError when the content is not the declared one."""
    return FirmwareImage(
        content=content,
        sha256=section.sha256,
        maker=section.maker,
        models=section.models,
        hardware={Obis.parse(code): text for code, text in section.hardware.items()},
        version=section.version,
        identification=identification_of(section.identification),
        from_versions=section.from_versions,
        signature=bytes.fromhex(section.meter_signature or ""),
    )


def signed_text(section: ImageSection) -> bytes:
    """Return the octets that a signature is made of: all of the declaration, whatever its form in the file."""
    unsaid = set() if section.meter_signature else {"meter_signature"}  # as before there was such a field
    fields = section.model_dump(mode="json", exclude={"signature", "file"} | unsaid)
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _check_signature(section: ImageSection, keys: tuple[bytes, ...], path: Path) -> None:
    if section.signature is None:
        raise ConfigError(f"{path}: the image is not signed, and [acts] image_key_ref wants it to be")
    try:
        signed = signing.verify(section.signature, keys=keys, typ=signing.FIRMWARE_TYP)
    except ContractError as error:
        raise ConfigError(f"{path}: the signature is not good: {error}") from error
    if signed != signed_text(section):
        raise ConfigError(
            f"{path}: the signature is of another declaration: something was changed after signing"
        )


def declare(section: ImageSection, key: bytes | None = None) -> str:
    """Return the declaration as TOML, signed where a private key is given."""
    signature = (
        section.signature
        if key is None
        else signing.sign(signed_text(section), key=key, typ=signing.FIRMWARE_TYP)
    )
    lines = ["[image]"]
    for name in ("file", "sha256", "maker", "models", "version", "identification", "from_versions"):
        value = getattr(section, name)
        lines.append(
            f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}"
        )
    if section.meter_signature is not None:
        lines.append(f"meter_signature = {json.dumps(section.meter_signature)}")
    if signature is not None:
        lines.append(f"signature = {json.dumps(signature)}")
    lines += ["", "[image.hardware]"]
    lines += [
        f"{json.dumps(code)} = {json.dumps(text, ensure_ascii=False)}"
        for code, text in section.hardware.items()
    ]
    return "\n".join(lines) + "\n"


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of an image in hex."""
    return hashlib.sha256(content).hexdigest()
