"""What a clerk reads is complete: each code of a row, a repair and a cause has both languages, and fills its places."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from mapping.characters import Repair
from mapping.rekey_plan import Cause
from mapping.rekey_rows import Row
from mapping.rekey_texts import CAUSES, COLUMN_WORDS, LANGUAGES, REPAIRS, ROWS, VERDICTS, cause_text, row_text
from mapping.row_verdicts import Verdict
from mapping.senders import COLUMNS
from tests.support.paths import ROOT

HINDI = re.compile(r"[\u0900-\u097f]")
ELSEWHERE = {
    "MAKE",  # METER_FORMAT's example
    "METER_FORMAT",  # of meters typed or imported; a re-key file only compares them
    "BEGIN", "COMMIT", "NFKC",  # of other languages
    "PLAN", "PLAN_UNKNOWN", "NO_ROWS", "SEQUENCE", "TOO_EARLY", "STALE_PLAN", "APPROVER", "HEADER",  # errors
    "ROW_REFUSED", "ONE_STAYS", "ONE_DATE", "METERS", "BRANCH", "ALONE",  # what is missing in a relation
}  # fmt: skip


def codes_in(*names: str) -> Iterator[str]:
    """Each word in capitals that stands alone in a text of a module."""
    for name in names:
        tree = ast.parse((ROOT / "mapping" / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            word = node.value if isinstance(node, ast.Constant) else None
            if isinstance(word, str) and len(word) > 3 and re.fullmatch(r"[A-Z][A-Z0-9_]*[A-Z0-9]", word):
                yield word


def test_every_code_that_the_planner_gives_has_its_text() -> None:
    given = set(
        codes_in(
            "account", "characters", "rekey_rows", "rekey_questions", "rekey_judge", "rekey_relations",
            "rekey_guards", "rekey",
        )
    )  # fmt: skip
    assert len(given) > 40
    assert given - ELSEWHERE - ROWS.keys() - CAUSES.keys() == set()
    assert (ROWS.keys() | CAUSES.keys()) - given <= {"EMPTY"}


@pytest.mark.parametrize("code", [*ROWS, *CAUSES])
def test_each_text_is_said_in_both_languages(code: str) -> None:
    for texts in (ROWS, CAUSES):
        if code in texts:
            text = texts[code]
            assert all(part.strip() for part in text)
            assert HINDI.search(text.hi)
            assert HINDI.search(text.hi_do)
            assert not HINDI.search(text.en + text.en_do)
            assert set(re.findall(r"\{\w+\}", text.en + text.en_do)) == set(
                re.findall(r"\{\w+\}", text.hi + text.hi_do)
            )


def test_words_of_verdicts_repairs_and_columns_are_complete() -> None:
    assert set(VERDICTS) == {verdict.value for verdict in Verdict}
    assert set(REPAIRS) == {repair.value for repair in Repair}
    assert set(COLUMN_WORDS) - {""} <= set(COLUMNS)
    for words in (VERDICTS, REPAIRS, COLUMN_WORDS):
        assert all(len(both) == len(LANGUAGES) for both in words.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_facts_fill_the_texts(language: str) -> None:
    for code in ROWS:
        row = Row(2, "[]", verdict="rejected", code=code, position=7, other="9", seen="x")
        what, do = row_text(row, "en" if language == "en" else "hi")
        assert "{" not in what + do
    facts = {
        name: "7"
        for text in CAUSES.values()
        for name in re.findall(r"\{(\w+)\}", text.en + text.en_do)
        if name != "source"
    }
    for code in CAUSES:
        said = cause_text(Cause(code, {**facts, "source": "control"}), "en" if language == "en" else "hi")
        assert "{" not in said
