"""Invocation counters that never repeat: reserved on the disk in blocks before they are used."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from protocols.durable import replace_file
from protocols.errors import LocalError

BLOCK = 256
"""Counters reserved at a time: a crash wastes at most that many of 2^32 that a key has."""
MAX_COUNTER = 2**32 - 1
MAX_FIRST = 1 << 24
"""How high a counter is believed before the key was proven once: some ten years of reading by others."""
MAX_JUMP = 1 << 18
"""How far above the last counter with a proven answer one is believed: somebody who stands on the line and lies
at every half hour would need most of a year to use a key up, with an alarm all the time."""

MOMENT, PATIENCE = 0.02, 100
"""Seconds between two looks whether a file that is held for a moment is free, and how often it is looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCounters:
    """One key's counters: the first never reserved, the last with a proven answer, one that was not believed."""

    reserved: int = 0
    confirmed: int = 0
    doubted: int | None = None


class FileCounters:
    """A CounterStore in one small file, written anew (fsync, rename, fsync of the folder) for each block.

    The file holds `KeyCounters` by key. Safe to call from several threads; one process owns it. LocalError when
    the file cannot be read or written (then no counter is given: a repeated one would break the cipher) or when
    a key's counters are used up (a new key is needed).
    """

    def __init__(self, path: Path, block: int = BLOCK) -> None:
        self._path = path
        self._block = block
        self._mutex = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(path.name + ".lock").open("ab")
        except OSError as error:
            raise LocalError(f"the counters {path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._keys = load_counters(path)
        except OSError as error:
            lock.close()
            held = isinstance(error, BlockingIOError)
            why = "the edge runs, or another program: stop it first" if held else error.strerror
            raise LocalError(f"the counters {path} are in use: {why}") from error
        except LocalError:
            lock.close()
            raise
        self._lock = lock
        self._next = {key: held.reserved for key, held in self._keys.items()}
        self._doubted = {key for key, held in self._keys.items() if held.doubted is not None}
        self._failed = set[str]()
        self._unsaved = False

    def next(self, key: str, at_least: int = 0) -> int:
        """Return a counter for `key` that was never given before and is >= `at_least`."""
        with self._mutex:
            given = max(self._next.get(key, 0), at_least)
            if given > MAX_COUNTER:
                raise LocalError(f"the invocation counters of {key} are used up: give the meter a new key")
            held = self._of(key)
            if given >= held.reserved:
                self._write(key, replace(held, reserved=min(given + self._block, MAX_COUNTER + 1)))
            self._next[key] = given + 1
            return given

    def believes(self, key: str, told: int) -> bool:
        """Say whether the key may go on above a counter that was told without proof.

        One that is not believed is kept, and shown by `counters show`. LocalError as for `next`.
        """
        with self._mutex:
            held = self._of(key)
            believed = told <= highest_believed(held.confirmed)
            if believed == (held.doubted is None):
                return believed  # nothing new: a meter that lies at each poll costs no write
            self._write(key, replace(held, doubted=None if believed else told))
            return believed

    def confirm(self, key: str, counter: int) -> None:
        """Note a proven answer; on the disk with the next block. Lost in a crash, it only narrows the bound."""
        with self._mutex:
            held = self._of(key)
            self._failed.discard(key)
            if counter > held.confirmed:
                self._keys[key] = replace(held, confirmed=counter)
                self._unsaved = True

    def proven(self, key: str) -> bool:
        """Say whether a meter has answered with proof that it holds the key, and no try failed since."""
        with self._mutex:
            return self._of(key).confirmed > 0 and key not in self._failed

    def failed(self, key: str) -> None:
        """Note that a try with our own counter failed; not on the disk, as it only decides what is tried first."""
        with self._mutex:
            self._failed.add(key)

    def reserved(self) -> dict[str, int]:
        """Return, by key, the first counter that was never reserved."""
        with self._mutex:
            return {key: held.reserved for key, held in self._keys.items()}

    def start_above(self, key: str, reserved: int, margin: int) -> None:
        """Go on `margin` above a counter that another holder of this key had come to, unless we are above it."""
        with self._mutex:
            held = self._of(key)
            if held.reserved < reserved:
                start = min(reserved + margin, MAX_COUNTER + 1)
                self._write(key, replace(held, reserved=start))
                self._next[key] = start

    def doubted(self) -> int:
        """Return how many keys were told a counter that was not believed; asked each second, it counts nothing."""
        return len(self._doubted)

    def raise_to(self, key: str, counter: int) -> None:
        """Go on at `counter` for a key, on an operator's word; LocalError when that would repeat any."""
        with self._mutex:
            held = self._of(key)
            if not held.reserved <= counter <= MAX_COUNTER:
                raise LocalError(
                    f"{counter:,} is no counter to go on with: those below {held.reserved:,} may have been used"
                    f" and would break the cipher, and {MAX_COUNTER:,} is the last"
                )
            self._write(key, KeyCounters(reserved=counter, confirmed=counter))
            self._next[key] = counter

    def close(self) -> None:
        """Let go of the file; what was reserved and not used stays unused."""
        if self._unsaved:
            with suppress(LocalError):
                self._save(self._keys)
        self._lock.close()

    def _of(self, key: str) -> KeyCounters:
        return self._keys.get(key) or KeyCounters()

    def _write(self, key: str, held: KeyCounters) -> None:
        keys = {**self._keys, key: held}
        self._save(keys)
        self._keys, self._unsaved = keys, False
        (self._doubted.discard if held.doubted is None else self._doubted.add)(key)

    def _save(self, keys: Mapping[str, KeyCounters]) -> None:
        told = {
            key: {name: n for name, n in asdict(held).items() if n is not None} for key, held in keys.items()
        }
        try:
            replace_file(self._path, json.dumps(told).encode(), mode=0o644)
        except OSError as error:
            raise LocalError(f"the counters {self._path} cannot be written: {error.strerror}") from error


class CountersOnDemand:
    """A CounterStore whose file is held for a moment only, so that several commands may use it at once.

    Each takes a block of counters for itself: none is given twice. It is opened at the first counter: a meter read in
    the clear needs none. LocalError as of `FileCounters`, and where a running edge holds the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks: dict[str, tuple[int, int]] = {}
        """By key, the next counter of our block and the first behind it."""
        self._confirmed: dict[str, int] = {}
        self._failed: set[str] = set()

    def next(self, key: str, at_least: int = 0) -> int:
        """Return a counter as `FileCounters.next` does."""
        first, end = self._blocks.get(key, (0, 0))
        given = max(first, at_least)
        if given >= end:
            with self._held() as store:
                given = store.next(key, at_least)
                end = store.reserved()[key]
        self._blocks[key] = given + 1, end
        return given

    def believes(self, key: str, told: int) -> bool:
        """Say what `FileCounters.believes` says."""
        held = self._of(key)
        if held.doubted is None and told <= highest_believed(held.confirmed):
            return True  # as nearly always, and there is nothing to write down
        with self._held() as store:
            return store.believes(key, told)

    def confirm(self, key: str, counter: int) -> None:
        """Note a proven answer as `FileCounters.confirm` does."""
        self._failed.discard(key)
        self._confirmed[key] = max(counter, self._confirmed.get(key, 0))

    def proven(self, key: str) -> bool:
        """Say what `FileCounters.proven` says."""
        return key not in self._failed and self._of(key).confirmed > 0

    def failed(self, key: str) -> None:
        """Note what `FileCounters.failed` notes."""
        self._failed.add(key)

    def close(self) -> None:
        """Write down what was proved. Idempotent."""
        if self._confirmed:
            with suppress(LocalError), self._held():
                pass

    def _of(self, key: str) -> KeyCounters:
        held = (
            load_counters(self._path).get(key) or KeyCounters()
        )  # a whole file, whoever writes the next one
        return replace(held, confirmed=max(held.confirmed, self._confirmed.get(key, 0)))

    @contextmanager
    def _held(self) -> Iterator[FileCounters]:
        """Hold the file, waiting for others that hold it for a moment; write down what was proved."""
        store = _opened(self._path)
        try:
            for key, counter in self._confirmed.items():
                store.confirm(key, counter)
            self._confirmed.clear()
            yield store
        finally:
            store.close()


def _opened(path: Path) -> FileCounters:
    for _ in range(PATIENCE):
        try:
            return FileCounters(path)
        except LocalError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
        time.sleep(MOMENT)
    return FileCounters(path)


def in_use(path: Path) -> bool:
    """Say whether a program has the counters in this file now."""
    try:
        lock = path.with_name(path.name + ".lock").open("rb")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def highest_believed(confirmed: int) -> int:
    """Return up to where a counter told without proof is believed, `confirmed` being the last proven one."""
    return confirmed + MAX_JUMP if confirmed else MAX_FIRST


def load_counters(path: Path) -> dict[str, KeyCounters]:
    """Return what a file of counters holds by key, without owning it; LocalError when it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LocalError(
            f"the counters {path} are damaged: restore the file, or write each meter's own counter into it"
        ) from error
    try:
        return {str(key): _key_counters(told) for key, told in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise LocalError(f"the counters {path} are damaged: not a table of whole numbers") from error


def _key_counters(told: object) -> KeyCounters:
    """Read one key's entry; one number is what an earlier program wrote, the first counter never reserved."""
    if isinstance(told, dict):
        held = KeyCounters(**told)
    else:
        held = KeyCounters(reserved=told, confirmed=told)  # type: ignore[arg-type]  # looked at below
    for number in (held.reserved, held.confirmed, held.doubted or 0):
        if type(number) is not int or number < 0:
            raise ValueError(number)
    return held
