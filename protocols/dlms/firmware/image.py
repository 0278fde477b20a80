"""A firmware image with what its maker declares of it, and whether it is for a meter."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.errors import MeterConfigError
from protocols.reading import Nameplate, Obis

MAX_IMAGE = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareImage:
    """An image and for which meters it is.

    `content` is what is transferred, `identification` the name under which the meter knows it, `version` what the
    meter shows as its firmware once it runs. It is for meters of the maker (FLAG letters) and of one of `models`, that
    show each text of `hardware` (Data objects, attribute 2), and run one of `from_versions` (empty: any). `signature`
    is what a meter shows of it once it is verified (b"": the maker does not say).
    MeterConfigError when the content is not what `sha256` (hex) says, or there is none or too much of it.
    """

    content: bytes = field(repr=False)
    sha256: str
    maker: str
    models: tuple[str, ...]
    hardware: Mapping[Obis, str]
    version: str
    identification: bytes
    from_versions: tuple[str, ...] = ()
    signature: bytes = b""

    def __post_init__(self) -> None:
        if not 0 < len(self.content) <= MAX_IMAGE:
            raise MeterConfigError(f"an image has 1 to {MAX_IMAGE} octets, not {len(self.content)}")
        found = hashlib.sha256(self.content).hexdigest()
        if found != self.sha256:
            raise MeterConfigError(
                f"the image is not the declared one: its SHA-256 is {found}, not {self.sha256}"
            )
        if not self.version or not self.identification or not self.models:
            raise MeterConfigError("an image declares a version, an identification and at least one model")

    def blocks(self, size: int) -> int:
        """Return of how many blocks of this size it consists."""
        return -(-len(self.content) // size)

    def block(self, number: int, size: int) -> bytes:
        """Return one block, counted from 0; the last may be shorter."""
        return self.content[number * size : (number + 1) * size]


def misfit(image: FirmwareImage, plate: Nameplate, version: str, hardware: Mapping[Obis, str]) -> str:
    """Say why an image is not for a meter; "" when it is.

    `version` is the firmware that the meter shows now, `hardware` what it shows where the image declares something
    ("" where it shows nothing): what cannot be compared does not fit.
    """
    wrong = [
        ("maker", plate.manufacturer, (image.maker,)),
        ("model", plate.model, image.models),
        *((f"hardware {obis}", hardware.get(obis, ""), (text,)) for obis, text in image.hardware.items()),
    ]
    if image.from_versions:
        wrong.append(("firmware", version, (*image.from_versions, image.version)))
    for what, found, allowed in wrong:
        if found not in allowed:
            shown = f"`{found}`" if found else "nothing"
            return f"the image is for {what} {' or '.join(allowed)}, the meter shows {shown}"
    return ""
