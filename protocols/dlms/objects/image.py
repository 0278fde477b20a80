"""Image transfer: class 18 (Blue Book 4.4.6): how a firmware image gets into a meter, block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from protocols.dlms.data.types import Tag
from protocols.dlms.objects.codec import (
    BITS,
    BOOLEAN,
    DOUBLE_LONG_UNSIGNED,
    Shown,
    listing,
    number,
    octet_string,
    record,
    show_octets,
)
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method
from protocols.reading import Obis

IMAGE_TRANSFER = Obis(0, 0, 44, 0, 0)
MAX_IDENTIFICATION = 64
MAX_BLOCK = 1 << 16


class ImageStatus(IntEnum):
    """Where an image transfer stands (image_transfer_status)."""

    NOT_INITIATED = 0
    INITIATED = 1
    VERIFICATION_INITIATED = 2
    VERIFIED = 3
    VERIFICATION_FAILED = 4
    ACTIVATION_INITIATED = 5
    ACTIVATED = 6
    ACTIVATION_FAILED = 7


_STATUSES = {int(status): status.name.lower().replace("_", " ") for status in ImageStatus}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image that waits in the meter for its activation."""

    image_to_activate_size: int
    image_to_activate_identification: bytes
    image_to_activate_signature: bytes


@dataclass(frozen=True, slots=True)
class Initiation:
    """Parameter of image_transfer_initiate."""

    image_identifier: bytes
    image_size: int


@dataclass(frozen=True, slots=True)
class ImageBlock:
    """Parameter of image_block_transfer; blocks are counted from 0."""

    image_block_number: int
    image_block_value: bytes


def _show_info(value: ImageInfo) -> Shown:
    signed = (
        f", signature {show_octets(value.image_to_activate_signature)}"
        if value.image_to_activate_signature
        else ""
    )
    name = show_octets(value.image_to_activate_identification)
    return f"{name}, {value.image_to_activate_size} octets{signed}"


def _show_block(value: ImageBlock) -> Shown:
    return f"block {value.image_block_number}, {len(value.image_block_value)} octets"


INFO = replace(
    record(
        ImageInfo,
        image_to_activate_size=DOUBLE_LONG_UNSIGNED,
        image_to_activate_identification=octet_string(0, MAX_IDENTIFICATION),
        image_to_activate_signature=octet_string(0, 1024),
    ),
    show=_show_info,
)
INITIATION = record(
    Initiation, image_identifier=octet_string(0, MAX_IDENTIFICATION), image_size=DOUBLE_LONG_UNSIGNED
)
BLOCK = replace(
    record(ImageBlock, image_block_number=DOUBLE_LONG_UNSIGNED, image_block_value=octet_string(0, MAX_BLOCK)),
    show=_show_block,
)


class ImageTransfer(CosemObject):
    """Image transfer (class 18). Blocks that are there are 1 in image_transferred_blocks_status, first bit first."""

    CLASS_ID = 18
    image_block_size = Attribute(DOUBLE_LONG_UNSIGNED)
    image_transferred_blocks_status = Attribute(BITS)
    image_first_not_transferred_block_number = Attribute(DOUBLE_LONG_UNSIGNED)
    image_transfer_enabled = Attribute(BOOLEAN)
    image_transfer_status = Attribute(number(Tag.ENUM, _STATUSES))
    image_to_activate_info = Attribute(listing(INFO, 8))
    image_transfer_initiate = Method(INITIATION)
    image_block_transfer = Method(BLOCK)
    image_verify = Method(NOTHING)
    image_activate = Method(NOTHING)
