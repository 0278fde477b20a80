"""What of a transaction's blocks is news: new captures and revisions, told from repeats by the list of captures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import lt

from msgspec import structs

from gateway.contract.blocks import EncodedBlock, EncodedRow, revised
from gateway.contract.blocks.hashes import has_other_values, is_repeat
from gateway.edge.journal.captures import CaptureList
from gateway.edge.journal.packed import Known
from gateway.edge.journal.version_1 import OLD_HASH, hash_of_version_1
from protocols.reading import ProfileName

_REREAD = frozenset({ProfileName.BLOCK_LOAD.value, ProfileName.DAILY.value, ProfileName.BILLING.value})


class News:
    """What is new of one transaction's blocks, and the rows of the list of captures that follow from it.

    `changed` are captures with their revisions, `_packs` by stream those of blocks that are new as a whole.
    """

    def __init__(self, captures: CaptureList) -> None:
        self._captures = captures
        self._packs: dict[int, list[dict[bytes, bytes]]] = {}
        self.changed: Known = {}
        self.other_values: list[tuple[str, str, datetime]] = []
        """Meter, profile and instant of stored rows that were read again and say something else."""
        self.fresh = self.repeats = self.revisions = self.forgotten = 0

    def packs(self) -> list[dict[bytes, bytes]]:
        """Return new captures, packed as their blocks brought them."""
        return [pack for packs in self._packs.values() for pack in packs]

    def of(self, block: EncodedBlock, *, revise: bool, stored: bool = False) -> Sequence[EncodedRow]:
        """Return the rows that are to be journaled: new ones, and revisions as such; all of them where all are new."""
        captures, template = self._captures, block.template
        number = captures.stream((template.meter, template.layout.profile))
        keys = captures.keys(number, block.rows)
        if all(map(lt, keys, keys[1:])) and captures.is_newer(number, keys[0]):
            self.fresh += len(keys)
            captures.note_newest(number, keys[-1])
            if len(keys) == 1:  # alone it takes less room unpacked
                self.changed[keys[0]] = (block.rows[0].value_hash, 1)
            else:
                pack = {key: row.value_hash for key, row in zip(keys, block.rows, strict=True)}
                self._packs.setdefault(number, []).append(pack)
            return block.rows
        return self._looked_up(number, keys, block, revise=revise, stored=stored)

    def _looked_up(
        self, number: int, keys: Sequence[bytes], block: EncodedBlock, *, revise: bool, stored: bool
    ) -> Sequence[EncodedRow]:
        captures, changed = self._captures, self.changed
        # Of two that are alike in one group the second is a repeat.
        changed |= {key: (value, 1) for pack in self._packs.pop(number, ()) for key, value in pack.items()}
        known = captures.known(number, keys)
        captures.note_newest(number, max(keys))
        forgets = captures.any_forgotten(number)
        taken: list[EncodedRow] = []
        plain = True
        for key, row in zip(keys, block.rows, strict=True):
            old = changed.get(key) or known.get(key)
            if old is None:
                if forgets and captures.was_forgotten(key):
                    self.forgotten += 1
                    continue
                self.fresh += 1
                changed[key] = (row.value_hash, 1)
            elif not revise or _is_repeat(old[0], block, row):
                self.repeats += 1
                continue
            else:
                plain = False
                self.revisions += 1
                if (
                    stored
                    and block.template.layout.profile in _REREAD
                    and has_other_values(old[0], row.value_hash)
                ):
                    self.other_values.append((block.template.meter, block.template.layout.profile, row.at))
                changed[key] = (row.value_hash, old[1] + 1)
                row = structs.replace(row, body=revised(row.body, old[1] + 1))
            taken.append(row)
        return block.rows if plain and len(taken) == len(block.rows) else taken


def _is_repeat(held: bytes, block: EncodedBlock, row: EncodedRow) -> bool:
    if len(held) == OLD_HASH:
        return held == hash_of_version_1(block, row)
    return is_repeat(held, row.value_hash)
