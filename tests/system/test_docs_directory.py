"""The walks in the documentation are what the program does, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.mapping.directory_walk import PAGES, Walk


@pytest.mark.parametrize("where", PAGES, ids=[page.stem for page in PAGES])
def test_the_walk_of_the_page_is_what_the_program_prints(cli: Cli, where: Path) -> None:
    page = where.read_text(encoding="utf-8")
    assert Walk(cli).run(page) == page, (
        "run `python -m tests.support.mapping.directory_walk` and read what changed"
    )
