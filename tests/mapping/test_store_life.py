"""A store that was set back is recognised by the file beside it, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

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
