"""The clerk's walk in the documentation is what the program does, in both languages."""

from __future__ import annotations

from tests.support.cli import Cli
from tests.support.mapping.directory_walk import PAGE, Walk


def test_the_walk_of_the_page_is_what_the_program_prints(cli: Cli) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert Walk(cli).run(page) == page, (
        "run `python -m tests.support.mapping.directory_walk` and read what changed"
    )
