"""Each row of users.md §6 that concerns us has a test named after its number, or stands in the docs as outside."""

from __future__ import annotations

import ast
import re

from tests.support.paths import ROOT
from tests.support.sources import tree_of

ROWS = {*range(1, 54), *range(70, 77)}
"""Identifiers, re-key, meters (1 to 53), privacy (70 to 76); between them stand readings, clocks and money."""
NAMED = re.compile(r"test_row_(\d\d)_\w+")
HEADING = "### Outside\n"


def with_a_test() -> set[int]:
    return {
        int(found[1])
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (found := NAMED.fullmatch(node.name))
    }


def outside() -> dict[int, str]:
    text = (ROOT / "docs" / "directory.md").read_text(encoding="utf-8")
    assert text.count(HEADING) == 1
    section = text.split(HEADING)[1].split("\n#")[0]
    return {int(row): why.strip() for row, why in re.findall(r"^\| (\d+) \|(.+)\|$", section, re.MULTILINE)}


def test_every_row_has_a_test_or_a_reason() -> None:
    """A new row of either kind needs nothing here: name the test, or write the sentence."""
    named, out = with_a_test(), outside()
    missing = ROWS - named - out.keys()
    assert not missing, (
        f"neither a test `test_row_NN_…` nor a sentence in docs/directory.md: {sorted(missing)}"
    )
    both = named & out.keys()
    assert not both, f"has a test, and is called outside in docs/directory.md: {sorted(both)}"
    assert named | out.keys() <= ROWS
    assert all(why.endswith(".") and len(why) > 30 for why in out.values()), out
