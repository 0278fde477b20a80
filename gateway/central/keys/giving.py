"""Which keys an edge is given: those of the meters allocated to it, sealed to its box."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.store import KnownBox
from gateway.contract.key_text import (
    GivenChange,
    GivenKeys,
    GivenText,
    KeyEntry,
    KeyText,
    giving_context,
    key_text,
    sealing_context,
)
from gateway.contract.sealing import digest, open_sealed, seal
from gateway.errors import ContractError

PER_PART = 100
"""Meters of one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gift:
    """All that one box is given, in parts; `closed` changes could not be opened: they are sealed to escrow alone."""

    digest: str
    parts: tuple[bytes, ...] = field(repr=False)
    meters: tuple[str, ...]
    dropped: tuple[str, ...]
    closed: int


def gift(
    gateway: str,
    box: KnownBox,
    sealed: Sequence[SealedKeys],
    *,
    dropped: Iterable[str],
    store_secret: bytes,
) -> Gift:
    """Return the keys of the meters of `sealed` (in the order in which they came) as one box is given them."""
    opened: dict[str, list[tuple[SealedKeys, KeyText]]] = {}
    texts, closed = opened_texts(sealed, store_secret)
    for one, text in texts:
        opened.setdefault(one.meter, []).append((one, text))
    gone = tuple(sorted(dropped))
    state = [
        box.key,
        *(f"{one.key_id} {one.proved_at is not None}" for some in opened.values() for one, _ in some),
        *gone,
    ]
    name = hashlib.sha256("\n".join(state).encode()).hexdigest()
    meters = sorted(opened)
    groups = [meters[at : at + PER_PART] for at in range(0, len(meters), PER_PART)] or [[]]
    parts = tuple(
        seal(
            _given({meter: opened[meter] for meter in group}).model_dump_json().encode(),
            to=[box.key.encode()],
            context=giving_context(gateway, name, number, len(groups)),
        )
        for number, group in enumerate(groups, start=1)
    )
    return Gift(digest=name, parts=parts, meters=tuple(meters), dropped=gone, closed=closed)


def opened_texts(
    sealed: Iterable[SealedKeys], private: bytes, passphrase: bytes | None = None
) -> tuple[list[tuple[SealedKeys, KeyText]], int]:
    """Open what opens with a private key; return that, and how many did not: of another key, or no such text."""
    opened: list[tuple[SealedKeys, KeyText]] = []
    closed = 0
    for one in sealed:
        try:
            opened.append((one, opened_text(one, private, passphrase)))
        except ContractError:
            closed += 1
    return opened, closed


def opened_text(one: SealedKeys, private: bytes, passphrase: bytes | None = None) -> KeyText:
    """Open sealed keys; ContractError when this key does not open them, or they are not what their row says."""
    context = sealing_context(one.meter, one.key_id)
    text = key_text(open_sealed(one.sealed, private=private, context=context, passphrase=passphrase))
    if (text.meter, text.key_id) != (one.meter, one.key_id):
        raise ContractError("the sealed text speaks of other keys than its row")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A meter's keys in force by slot, and the changes that it may have taken and did not prove.

    `texts` are the sealed texts that all these stand in.
    """

    held: dict[str, KeyEntry]
    maybe: list[tuple[SealedKeys, KeyText]]
    texts: list[SealedKeys]


def in_force(changes: Sequence[tuple[SealedKeys, KeyText]]) -> InForce:
    """Return which of a meter's keys are in force, from all that was sealed of it.

    What came late, since central's store was set back, stands at the time at which it was made.
    """
    held: dict[str, tuple[KeyEntry, SealedKeys]] = {}
    maybe: list[tuple[SealedKeys, KeyText]] = []
    for one, text in _in_order(changes):
        said = {(entry.slot, entry.octets) for entry in text.keys if entry.state == "held"}
        for row, other in list(maybe):
            shown = [e for e in other.keys if e.state == "new" and (e.slot, e.octets) in said]
            if shown:  # a later change of the same gateway began with these: they were proved to it
                held |= {entry.slot: (entry, row) for entry in shown}
                maybe.remove((row, other))
        for entry in text.keys:
            if (
                entry.state == "held"
            ):  # what the meter had before: known by it where nobody consigned its keys
                held.setdefault(entry.slot, (entry, one))
        if one.proved_at is None:
            maybe.append((one, text))
            continue
        new = [entry for entry in text.keys if entry.state == "new"]
        held |= {entry.slot: (entry, one) for entry in new}
        proved = {entry.slot for entry in new}
        maybe = [
            (row, other)
            for row, other in maybe
            if not proved & {e.slot for e in other.keys if e.state == "new"}
        ]
    texts = {row.key_id: row for row in [*(row for _, row in held.values()), *(row for row, _ in maybe)]}
    return InForce(
        held={slot: entry for slot, (entry, _) in held.items()}, maybe=maybe, texts=list(texts.values())
    )


def _in_order(changes: Sequence[tuple[SealedKeys, KeyText]]) -> list[tuple[SealedKeys, KeyText]]:
    """Return changes as they followed each other: by when they were made, and none before those that it began with.

    The clock of a box may have been wrong; that a change found another one's new keys in force is no matter of clocks.
    """
    waiting = sorted(changes, key=lambda pair: pair[0].made_at)
    makes = {
        (entry.slot, entry.octets): one.key_id
        for one, text in waiting
        for entry in text.keys
        if entry.state == "new"
    }
    begins_with = {
        one.key_id: {
            before
            for entry in text.keys
            if entry.state == "held"
            and (before := makes.get((entry.slot, entry.octets), one.key_id)) != one.key_id
        }
        for one, text in waiting
    }
    ordered: list[tuple[SealedKeys, KeyText]] = []
    done: set[str] = set()
    while waiting:
        place = next((n for n, (one, _) in enumerate(waiting) if begins_with[one.key_id] <= done), 0)
        ordered.append(waiting.pop(place))
        done.add(ordered[-1][0].key_id)
    return ordered


def _given(changes: dict[str, list[tuple[SealedKeys, KeyText]]]) -> GivenKeys:
    held: dict[str, tuple[KeyEntry, ...]] = {}
    maybe: list[GivenChange] = []
    texts: list[GivenText] = []
    for meter, some in changes.items():
        now = in_force(some)
        held[meter] = tuple(entry.model_copy(update={"state": "held"}) for entry in now.held.values())
        maybe += [
            GivenChange(
                meter=meter,
                key_id=text.key_id,
                sealed_digest=digest(row.sealed),
                keys=tuple(entry for entry in text.keys if entry.state == "new"),
                made_at=text.made_at,
            )
            for row, text in now.maybe
        ]
        texts += [
            GivenText(
                meter=meter,
                key_id=row.key_id,
                slots=row.slots,
                sealed=base64.b64encode(row.sealed).decode(),
                made_at=row.made_at,
            )
            for row in now.texts
        ]
    return GivenKeys(held=held, maybe=tuple(maybe), texts=tuple(texts))
