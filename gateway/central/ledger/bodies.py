"""What the ledger keeps of a capture: the octets that came, with members that this version does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.contract.capture_body import CutCapture, cut_captures
from gateway.contract.messages import Batch, Capture
from gateway.errors import ContractError

BESIDE: Final = ("seq", "raw")
"""Members that are columns of their own only: a capture is the same under another number, and raw is evidence."""
_SPELLED: Final = ("value_rev", "directory_version", "at", "start", "received_at")
"""Columns that the contract reads from more than one spelling; the others are texts, which have one."""
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def bodies(payload: bytes, batch: Batch) -> tuple[str, ...]:
    """Return the body of each capture of a batch that was read from `payload`, in the batch's order.

    A body says to every reader what the columns say, because of three rules. It is cut out of the octets that
    were validated. Octets that two readers may read in two ways (a member twice, NaN) are not kept: the
    capture is written anew as the contract read it. And the members that are columns too are spelled plainly
    (whole numbers, RFC 3339 in UTC): where they came in another way that the contract reads, they are
    written from the columns.
    """
    try:
        pieces = cut_captures(payload, leave_out=BESIDE, decode=_SPELLED)
    except ContractError:
        pieces = []
    if [piece.seq for piece in pieces] != [capture.seq for capture in batch.captures]:
        return tuple(written_anew(capture) for capture in batch.captures)
    return tuple(_body(*pair) for pair in zip(batch.captures, pieces, strict=True))


def written_from(members: Mapping[str, Any], capture: Capture) -> str:
    """Return a capture's body with every member that came, decoded, and the columns spelled plainly."""
    kept = {name: value for name, value in members.items() if name not in BESIDE}
    spelled = capture.model_dump(mode="json", include=set(_SPELLED))
    try:
        return json.dumps(kept | spelled, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN, or a number beyond all bounds, in a member that we do not know
        return written_anew(capture)


def written_anew(capture: Capture) -> str:
    """Return a capture's body with what the contract's model knows of it, and nothing else."""
    return capture.model_dump_json(exclude=set(BESIDE))


def _body(capture: Capture, piece: CutCapture) -> str:
    if _is_plain(*piece.decoded):
        return piece.body.decode()
    return written_from(json.loads(piece.body), capture)


def _is_plain(value_rev: object, directory_version: object, *times: object) -> bool:
    """Say whether the members in _SPELLED are what the contract's JSON Schema wants."""
    return (
        type(value_rev) is int
        and type(directory_version) is int
        and all(at is None or (isinstance(at, str) and _INSTANT.fullmatch(at)) for at in times)
    )
