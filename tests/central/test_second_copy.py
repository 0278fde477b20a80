"""The second copy of central's sealed keys: each fills the other, a torn line costs itself, a lost copy is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.central.keys.fair_queue import FairQueue
from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.second_copy import SecondCopy
from gateway.central.keys.store import SealedStore, Settled
from gateway.contract.sealing import digest
from gateway.errors import JournalError

AT = datetime(2026, 11, 30, tzinfo=UTC)


def sealed(number: int) -> SealedKeys:
    return SealedKeys(
        key_id=f"{number:032x}",
        gateway="edge-1",
        meter="GEN:1",
        slots=("48/encryption", "48/authentication"),
        sealed=b"sealed %d" % number,
        made_at=AT,
    )


class Central:
    """Central's folder and another disk."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir()
        (folder / "other").mkdir()
        self.path, self.copy = folder / "data" / "keys.db", folder / "other" / "keys.copy"
        self.store = SealedStore(self.path, self.copy)

    def again(self, content: bytes | None = None, copy: Path | None = None) -> None:
        """Open the store anew, with other content where it is given."""
        self.store.close()
        if content is not None:
            for old in self.path.parent.glob("keys.db*"):
                old.unlink()
            self.path.write_bytes(content)
        self.store = SealedStore(self.path, copy)

    def content(self) -> bytes:
        self.again()
        self.store.close()
        content = self.path.read_bytes()
        self.store = SealedStore(self.path)
        return content


@pytest.fixture
def central(tmp_path: Path) -> Iterator[Central]:
    made = Central(tmp_path)
    yield made
    made.store.close()


def test_a_store_that_was_set_back_is_filled_with_what_was_kept_and_proved_since(central: Central) -> None:
    central.store.keep([sealed(1)], AT)
    old = central.content()
    central.store.keep([sealed(2)], AT)
    for number in (1, 2):
        assert central.store.prove("edge-1", "GEN:1", f"{number:032x}", digest(sealed(number).sealed), AT)
    central.again(old)
    assert [one.proved_at for one in central.store.all()] == [None]
    assert central.store.settle() == Settled(filled=2)
    assert central.store.all() == [replace(sealed(number), kept_at=AT, proved_at=AT) for number in (1, 2)]
    assert central.store.settle() == Settled()


def test_a_copy_that_was_set_back_or_named_elsewhere_is_filled_from_the_store(
    central: Central, tmp_path: Path
) -> None:
    central.store.keep([sealed(1)], AT)
    old = central.copy.read_bytes()
    central.store.keep([sealed(2)], AT)
    central.copy.write_bytes(old)
    assert central.store.keep([sealed(3)], AT) == 1
    assert set(SecondCopy(central.copy).read().keys) == {f"{n:032x}" for n in (1, 2, 3)}
    elsewhere = tmp_path / "third.copy"
    central.again(copy=elsewhere)
    assert central.store.settle() == Settled(copied=3)
    central.again()  # it knows where its copy stands
    assert central.store.copy.path == elsewhere


def test_a_store_set_back_whose_copy_is_named_elsewhere_now_takes_what_stood_in_the_former_place(
    central: Central, tmp_path: Path
) -> None:
    central.store.keep([sealed(1)], AT)
    old = central.content()
    central.store.keep([sealed(2)], AT)
    central.again(old, tmp_path / "third.copy")
    assert central.store.settle() == Settled(filled=1, copied=2)
    assert set(SecondCopy(tmp_path / "third.copy").read().keys) == {f"{n:032x}" for n in (1, 2)}


def test_a_torn_line_costs_itself_alone_and_what_it_held_is_written_again(central: Central) -> None:
    central.store.keep([sealed(1), sealed(2)], AT)
    whole = central.copy.read_bytes()
    central.copy.write_bytes(whole[:-20])
    assert central.store.settle() == Settled(copied=1, damaged=1)
    central.store.keep([sealed(3)], AT)
    found = SecondCopy(central.copy).read()
    assert (set(found.keys), found.damaged) == ({f"{n:032x}" for n in (1, 2, 3)}, 1)
    assert central.store.settle(look=True) == Settled(damaged=1)


def test_sealed_keys_that_are_damaged_in_the_store_come_from_the_copy(central: Central) -> None:
    central.store.keep([sealed(1)], AT)
    central.store._db.execute("update sealed set sealed = x'00'")
    assert central.store.settle() == Settled()
    assert central.store.settle(look=True) == Settled(filled=1)
    assert central.store.all()[0].sealed == sealed(1).sealed


def test_a_copy_that_is_gone_is_not_made_anew_unasked(central: Central) -> None:
    central.store.keep([sealed(1)], AT)
    central.copy.unlink()
    for _ in range(2):
        with pytest.raises(JournalError, match="mount its disk"):
            central.store.keep([sealed(2)], AT)
    assert [one.key_id for one in central.store.all()] == [sealed(1).key_id]
    assert central.store.prove("edge-1", "GEN:1", sealed(1).key_id, digest(sealed(1).sealed), AT)
    assert central.store.settle(anew=True) == Settled(copied=1)
    assert SecondCopy(central.copy).read().keys[sealed(1).key_id].proved_at == AT
    central.copy.parent.chmod(0o700)
    assert central.copy.stat().st_mode & 0o777 == 0o600


def test_a_copy_that_cannot_be_written_keeps_nothing(central: Central) -> None:
    central.copy.mkdir()
    with pytest.raises(JournalError, match="second copy"):
        central.store.keep([sealed(1)], AT)
    assert central.store.all() == []
    central.copy.rmdir()
    assert central.store.keep([sealed(1)], AT) == 1


def test_a_store_of_before_takes_its_copy_up(central: Central) -> None:
    central.store.keep([sealed(1)], AT)
    central.store._db.execute("drop table second")
    central.store._db.execute("pragma user_version = 1")
    central.copy.unlink()
    central.again(copy=central.copy)
    assert central.store.settle() == Settled(copied=1)


# each gateway in turn


async def test_each_gateway_has_its_turn_and_the_longest_line_gives_way() -> None:
    queue: FairQueue[str] = FairQueue(each=3, most=5)
    assert [queue.put("a", f"a{n}") for n in range(4)] == [None, None, None, "a3"]
    assert [queue.put("b", f"b{n}") for n in range(2)] == [None, None]
    assert queue.put("c", "c0") == "a2"
    assert queue.dropped == {"a": 2}
    assert [await queue.get() for _ in range(5)] == ["a0", "b0", "c0", "a1", "b1"]
