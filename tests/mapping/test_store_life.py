"""A store that was set back is recognised by the file beside it, and only then."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mapping.changes import Name
from mapping.directory import NumberKind
from mapping.store import DirectoryStore
from mapping.store_life import StoreLife, following, read_beside, write_beside


def test_the_store_that_ran_last_is_no_copy() -> None:
    life = StoreLife.born()
    assert life.set_back(life) is None
    assert life.ticked().set_back(life) is None, "a crash between the two files"
    assert life.generation.startswith("1.")


def test_an_older_tick_another_life_and_no_file_at_all_may_be_a_copy() -> None:
    copy = StoreLife.born()
    ran_on = copy.ticked()
    assert copy.set_back(ran_on) is not None
    assert ran_on.ticked().ticked().set_back(ran_on) is not None, "another life went on from the copy"
    assert copy.ticked().set_back(ran_on) is not None, "the same number, another random part"
    assert copy.set_back(StoreLife.born()) is not None
    assert copy.set_back(None) is not None


def test_a_new_generation_is_one_above_all_that_anybody_shows() -> None:
    life = StoreLife.born()
    again = life.begun_anew("4.00000000", "2.ffffffff")
    assert again.generation.startswith("5.")
    assert again.uuid == life.uuid
    assert again.previous == life.tick
    assert life.begun_anew().generation.startswith("2.")
    assert following() != following(), "no two share a random part"
    with pytest.raises(ValueError, match="invalid literal"):
        following("what")


def test_the_file_beside_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert read_beside(path) is None
    life = StoreLife.born()
    write_beside(path, life)
    write_beside(path, life.ticked())
    found = read_beside(path)
    assert found is not None
    assert found.previous == life.tick
    (tmp_path / "ledger.db.life").write_bytes(b"\x00\xff")
    assert read_beside(path) is None


def name(store: DirectoryStore, number: str) -> int:
    change = Name("acc-1", NumberKind.LEGACY, number)
    return store.apply([change], by="test", source="test", at=datetime.now(UTC))


def test_a_directory_keeps_its_generation_while_several_programs_change_it(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    with DirectoryStore(path) as one, DirectoryStore(path) as other:
        life = one.life
        name(one, "A-1")
        name(other, "A-2")
        name(one, "A-3")
        with DirectoryStore(path) as third:
            assert (third.life.uuid, third.life.generation) == (life.uuid, life.generation)
            assert third.set_back is None


@pytest.mark.parametrize("lost", [True, False])
def test_a_directory_restored_from_a_copy_begins_a_new_generation(tmp_path: Path, lost: bool) -> None:
    path, copy = tmp_path / "directory.db", tmp_path / "copy.db"
    with DirectoryStore(path) as store:
        name(store, "A-1")
    shutil.copy(path, copy)
    with DirectoryStore(path) as store:
        life = store.life
        name(store, "A-2")
    shutil.copy(copy, path)
    if lost:
        (tmp_path / "directory.db.life").unlink()
    with DirectoryStore(path) as store:
        assert store.set_back is not None
        assert (store.life.uuid, store.life.generation[:2]) == (life.uuid, "2.")
        assert store.version == 1
        assert store.begin_anew("7.00000000").generation.startswith("8.")
    with DirectoryStore(path) as store:
        assert store.set_back is None


def test_a_directory_of_the_first_format_gets_its_life_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    with DirectoryStore(path) as store:
        name(store, "A-1")
    db = sqlite3.connect(path)
    db.executescript("DROP TABLE life; PRAGMA user_version = 1")
    db.close()
    with DirectoryStore(path) as store:
        assert store.life.generation.startswith("1.")
        assert store.set_back is None
        assert store.version == 1
