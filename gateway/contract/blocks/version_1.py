"""A capture that was written in version 1 of the contract, as a block of version 2: what older journals hold."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import ValidationError

from gateway.contract.blocks.canonical import canonical, row_checksum
from gateway.contract.blocks.encode import (
    BlockTemplate,
    EncodedBlock,
    EncodedRow,
    Keyed,
    Layout,
    block_head,
    revised,
)
from gateway.contract.blocks.hashes import value_hash
from gateway.contract.messages import Capture, CaptureValue, MessageAttribution, rfc3339
from gateway.contract.messages.generation import NO_GENERATION
from gateway.errors import ContractError
from mapping.directory import Unattributed
from protocols.reading import MissingReason, Quality

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def from_version_1(body: bytes) -> EncodedBlock:
    """Return the block of one capture; ContractError where the body is no capture of version 1.

    Its capture_id, values, times and attribution stay; `value_rev` stands in the row where it is above 1.
    The version of the directory is one of no generation: older than every other.
    """
    try:
        capture = Capture.model_validate_json(body)
    except ValidationError as error:
        raise ContractError(f"$: no capture of version 1: {error.errors()[0]['msg']}") from error
    template = _template(capture)
    head, prefix, seed = block_head(template)
    row = _row(capture, template.interval)
    octets = b'%b,"checksum":"%b"}' % (canonical(row)[:-1], row_checksum(prefix, row).encode())
    encoded = EncodedRow(
        capture.capture_id,
        capture.at,
        value_hash(seed + canonical(row["values"])[1:-1], provisional=False),
        octets if capture.value_rev == 1 else revised(octets, capture.value_rev),
    )
    return EncodedBlock(template, head, (encoded,))


def _template(capture: Capture) -> BlockTemplate:
    columns = [
        {"q": value.q, "name": value.name} | ({"unit": value.unit} if value.unit else {})
        for value in capture.values
    ]
    keyed = Keyed.of({"profile": capture.profile, "columns": columns})
    holders = [_holder(one) for one in capture.attributions]
    reason = None if capture.reason is None else Unattributed(capture.reason)
    # Version 1 knew captures with neither; here each says why it has no account.
    return BlockTemplate(
        meter=capture.meter,
        layout=Layout(capture.profile, (), keyed),
        received_at=capture.received_at,
        directory=f"{NO_GENERATION}/{capture.directory_version}",
        holders=Keyed.of(holders) if holders else None,
        reason=reason or (None if holders else Unattributed.NO_ACCOUNT),
        interval=_interval(capture),
        clock="" if capture.clock is None else capture.clock.model_dump_json(exclude_none=True),
    )


def _interval(capture: Capture) -> int | None:
    if capture.start is None:
        return None
    span = capture.at - capture.start
    return None if span.microseconds else span.days * 86_400 + span.seconds


def _holder(one: MessageAttribution) -> dict[str, str]:
    return one.model_dump(mode="json", exclude_none=True)


def _row(capture: Capture, interval: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {"at": rfc3339(capture.at), "values": [_value(one) for one in capture.values]}
    prefix = f"{capture.meter}/{capture.profile}/{row['at']}/"
    occurrence = capture.capture_id.removeprefix(prefix)
    if capture.capture_id == f"{prefix}{occurrence}" and _NUMBER.fullmatch(occurrence):
        row |= {"occurrence": int(occurrence)} if occurrence != "0" else {}
    else:
        row["capture_id"] = capture.capture_id
    if capture.quality != Quality.VALID:
        row["quality"] = capture.quality
    if capture.start is not None and interval is None:
        row["start"] = rfc3339(capture.start)
    if capture.raw is not None:
        row["raw"] = capture.raw
    if capture.meter_time is not None:
        row |= capture.meter_time.model_dump(exclude_none=True)
        if row["trusted"]:
            del row["trusted"]
    return row


def _value(one: CaptureValue) -> str | dict[str, str]:
    if one.value is not None:
        return one.value
    for name in ("instant", "text", "bits", "missing"):
        found = getattr(one, name)
        if found is not None:
            return {name: rfc3339(found) if name == "instant" else found}
    return {"missing": MissingReason.NOT_SPECIFIED.value}
