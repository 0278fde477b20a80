"""The secrets of meters as sessions take them: the edge's own file of keys before the files of the secrets folder."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import structlog

from gateway.edge.keys.store import TRIES, TRIES_IN, Change, KeyStore
from protocols.dlms.acts.keys import KeySlot
from protocols.errors import MeterConfigError
from protocols.session import Clock, DlmsSettings, SecretSource

log = structlog.get_logger("gateway.edge.keys")


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """A SecretSource of one meter: keys by the references of its settings, else what the files say."""

    files: SecretSource
    keys: Mapping[str, bytes] = field(repr=False)
    taken: tuple[tuple[Change, tuple[KeySlot, ...]], ...] = ()
    """The changes whose new keys these are, and which of them; none for those in force."""
    way: str = ""
    """Names these keys among those that are tried, and shows none; empty for those in force."""

    def secret(self, ref: str) -> bytes:
        """Return the octets behind `ref`; MeterConfigError as the files raise it."""
        found = self.keys.get(ref)
        return self.files.secret(ref) if found is None else found


class KeyRing:
    """Implements `SecretSource` and `ChangingSecrets`. The file is opened when there is one, and read at each call."""

    def __init__(self, path: Path, files: SecretSource, clock: Clock) -> None:
        self._path = path
        self._files = files
        self._clock = clock
        self._store: KeyStore | None = None
        self._lock = threading.Lock()
        self._told: dict[str, datetime] = {}
        """When it was last told of a meter that other keys must wait."""

    def secret(self, ref: str) -> bytes:
        """Return the octets of a file of the secrets folder: what is no meter's key, or a meter's first one."""
        return self._files.secret(ref)

    def choices(self, meter: str, settings: DlmsSettings) -> Sequence[KeyChoice]:
        """Return the keys to associate with: those in force, then those that the meter may hold, each to be asked for.

        The likeliest of these comes first; then what was tried longest ago (see `may_try`).
        """
        store = self.store()
        if store is None:
            return [KeyChoice(self._files, {})]
        held = store.held(meter, settings.client)
        known = [KeyChoice(self._files, by_ref(settings, held))]
        for way in _ways(store.may_hold(meter, settings.client)):
            taken = {slot: change.keys[slot] for change, slots in way for slot in slots}
            new = by_ref(settings, {**held, **taken})
            if all(new != other.keys for other in known):
                known.append(KeyChoice(self._files, new, way, way_name(way)))
        if store.given_to(meter, settings.client) and self._files_differ(known[0]):
            known.append(KeyChoice(self._files, {}, way=FILES))
        if len(known) < 3:
            return known
        tried = store.tried(meter)
        others = sorted(known[2:], key=lambda one: tried.get((settings.client, one.way), NEVER))
        return [*known[:2], *others]

    def may_try(self, meter: str, settings: DlmsSettings, chosen: SecretSource) -> bool:
        """Note that a choice is tried now; False where the meter was met with as many wrong ones as it may lately."""
        store = self.store()
        if store is None or not isinstance(chosen, KeyChoice) or not chosen.way:
            return True
        if store.may_try(meter, settings.client, chosen.way, self._clock.now()):
            return True
        now = self._clock.now()
        if abs(now - self._told.get(meter, NEVER)) >= TRIES_IN:
            self._told[meter] = now
            log.warning("key_tries_used_up", meter=meter, client=settings.client, tries_in_an_hour=TRIES)
        return False

    def _files_differ(self, choice: KeyChoice) -> bool:
        """Say whether the secrets folder has all that a choice has, and other keys."""
        try:
            return any(self._files.secret(ref) != key for ref, key in choice.keys.items())
        except MeterConfigError:
            return False

    def proved(self, meter: str, settings: DlmsSettings, chosen: SecretSource) -> None:
        """Take the keys that the meter has just proved into force."""
        store = self.store()
        if store is None or not isinstance(chosen, KeyChoice):
            return
        if not chosen.taken:
            store.forget_given(meter, settings.client)
            log.warning("given_keys_refused", meter=meter, client=settings.client)
        settled: set[KeySlot] = set()
        for change, slots in reversed(chosen.taken):  # of two changes of one key the later one counts
            store.adopt(change.key_id, [slot for slot in slots if slot not in settled], self._clock.now())
            settled.update(slots)
            log.warning("keys_proved", meter=meter, client=settings.client, key_id=change.key_id)

    def key(self, meter: str, client: int, slot: KeySlot, ref: str | None) -> bytes:
        """Return one key in force; MeterConfigError when neither the file nor a reference has it."""
        store = self.store()
        found = None if store is None else store.held(meter, client).get(slot)
        if found is not None:
            return found
        if ref is None:
            raise MeterConfigError(
                f"there is no {slot} key of {meter} for client {client}: name it in [meters.keys], or let central"
                " give it (`keys import` there)"
            )
        return self._files.secret(ref)

    def store(self, *, make: bool = False) -> KeyStore | None:
        """Return the file of keys, None while there is none; with `make` it is made."""
        with self._lock:
            if self._store is None and (make or self._path.exists()):
                self._store = KeyStore(self._path)
            return self._store

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()


Way = tuple[tuple[Change, tuple[KeySlot, ...]], ...]
FILES = "files"
"""The way whose keys are those of the secrets folder."""
NEVER = datetime.min.replace(tzinfo=UTC)


def way_name(way: Way) -> str:
    """Name which keys of which changes a way takes."""
    return " ".join(f"{change.key_id}/{','.join(sorted(slots))}" for change, slots in way)


def _ways(changes: Sequence[Change]) -> list[Way]:
    """Return in which ways a meter may have taken changes: whole, the likelier first; one key of two, by a fault."""
    whole = [(change, tuple(change.keys)) for change in reversed(changes[-3:])]
    ways: list[Way] = [(one,) for one in whole]
    ways += [tuple(reversed(some)) for n in range(len(whole), 1, -1) for some in combinations(whole, n)]
    for place, (change, slots) in enumerate(whole):
        before = tuple(reversed(whole[place + 1 :]))
        for first in ((), before) if before else ((),):
            ways += [(*first, (change, (slot,))) for slot in slots if len(slots) > 1]
    return ways


def by_ref(settings: DlmsSettings, keys: Mapping[KeySlot, bytes]) -> dict[str, bytes]:
    """Return keys by the references that the settings have for them."""
    refs = {
        settings.password_ref: KeySlot.SECRET,
        settings.encryption_key_ref: KeySlot.ENCRYPTION,
        settings.authentication_key_ref: KeySlot.AUTHENTICATION,
    }
    return {ref: keys[slot] for ref, slot in refs.items() if ref is not None and slot in keys}
