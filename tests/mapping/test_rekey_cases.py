"""The damaged re-key files of the cases, and 200 made after the same kinds: each ends as it must."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mapping.errors import FileRefused
from mapping.rekey import apply_rekey
from mapping.rekey_control import Control
from mapping.store import DirectoryStore
from tests.support.mapping.rekey_files import KINDS, damaged
from tests.support.mapping.rekey_town import (
    CASES,
    NOW,
    case_consumers,
    codes,
    consumers,
    filled_store,
    planned,
)

TRUTH: dict[str, Any] = json.loads((CASES / "truth.json").read_text())


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return filled_store(tmp_path, case_consumers())


@pytest.mark.parametrize("name", ["base.csv", "semicolon_utf16.csv"])
def test_every_row_of_the_case_ends_as_the_truth_says(store: DirectoryStore, name: str) -> None:
    plan = planned(store, CASES / name)
    assert codes(plan) == []
    wrong = []
    for row in plan.rows:
        allowed = TRUTH["lines"].get(str(row.line), ["applied"])[0].split("_or_")
        if row.verdict not in allowed:
            wrong.append((row.line, row.verdict, row.code, allowed))
    assert wrong == []
    assert sum(plan.counts.values()) == TRUTH["rows"]
    assert plan.counts["applied"] == TRUTH["applied"]


def test_the_case_is_applied_once_and_its_corrections_alone_remain(store: DirectoryStore) -> None:
    plan = planned(store, CASES / "base.csv")
    version = apply_rekey(store, plan, by="clerk", approver="chief", at=NOW)
    assert store.snapshot().counts().account_numbers == 272
    again = planned(store, CASES / "semicolon_utf16.csv")
    assert (again.counts["applied"], again.counts["unchanged"]) == (0, 274)
    assert codes(planned(store, CASES / "base.csv")) == ["REPEATED"]
    assert store.version == version


CAUSES = {"rounded.csv": "ROUNDED", "ambiguous_dates.csv": "DATE_AMBIGUOUS", "truncated.csv": "CUT_OFF"}


@pytest.mark.parametrize("name", TRUTH["refuse_whole_file"])
@pytest.mark.parametrize("known", ["applied", "listed", "planned"])
def test_row_22_whole_files_of_the_cases_are_refused_with_their_cause(
    store: DirectoryStore, tmp_path: Path, name: str, known: str
) -> None:
    """Whatever knows the numbers: the directory, a control list, or another file that waits."""
    base = CASES / "base.csv"
    control, folder = Control(), None
    wanted = CAUSES.get(name, "SHIFTED")
    if known == "applied":
        apply_rekey(store, planned(store, base), by="clerk", approver="chief", at=NOW)
    elif known == "listed":
        control = Control(path=base)
    else:
        folder = tmp_path / "plans"
        planned(store, base, folder=folder)
        wanted = CAUSES.get(name, "SHIFTED_PLANS")
    plan = planned(store, CASES / name, control=control, folder=folder)
    assert codes(plan)[0] == wanted
    version = store.version
    with pytest.raises(FileRefused) as caught:
        apply_rekey(store, plan, by="clerk", approver="chief", at=NOW)
    assert caught.value.code == wanted
    assert store.version == version


def test_row_22_a_shift_that_nothing_can_show_is_not_applied_without_an_approver(
    store: DirectoryStore,
) -> None:
    """The master names no account numbers: it cannot tell the shifted file from the right one."""
    for name in ("shifted_by_one.csv", "base.csv"):
        plan = planned(store, CASES / name, control=Control(path=CASES / "master.csv"))
        for approver in (None, " Clerk "):
            with pytest.raises(FileRefused) as caught:
                apply_rekey(store, plan, by="clerk", approver=approver, at=NOW)
            assert caught.value.code == ("NO_CONTROL" if approver is None else "APPROVER")
    assert store.snapshot().counts().account_numbers == 0


@pytest.mark.parametrize("seed", range(210))
def test_generated_files_end_right(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    town = consumers(chance.choice((60, 90, 140)), seed)
    kind = KINDS[seed % len(KINDS)]
    case = damaged(kind, town, chance)
    with filled_store(tmp_path, town) as store:
        for day, before in enumerate(case.before):
            earlier = planned(store, before.write(tmp_path / "before.csv"), correct=True, part=True)
            apply_rekey(store, earlier, by="clerk", approver="chief", at=NOW + timedelta(days=day))
        control = Control(rows=case.rows, total=case.total)
        if case.control is not None:
            path = case.control.write(tmp_path / "control.csv")
            control = Control(rows=case.rows, total=case.total, path=path)
        version = store.version
        path = case.file.write(tmp_path / "rekey.csv")
        plan = planned(store, path, control=control, sender=case.sender)
        found = {row.line: row.verdict for row in plan.rows}
        if case.causes:
            assert codes(plan), f"{kind}: not refused: {plan.counts}"
            assert codes(plan)[0] in case.causes, f"{kind}: {plan.causes}"
            with pytest.raises(FileRefused):
                apply_rekey(store, plan, by="clerk", approver="chief", at=NOW)
            assert store.version == version
            return
        assert codes(plan) == [], f"{kind}: {plan.causes}"
        wrong = {line: (v, case.lines.get(line, "applied")) for line, v in found.items()}
        assert {line: pair for line, pair in wrong.items() if pair[0] != pair[1]} == {}
        apply_rekey(store, plan, by="clerk", approver="chief", at=NOW)
        plan.close()
