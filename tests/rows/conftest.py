"""The fixture of the rows of users.md §6: an office with an empty folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli, command_line
from tests.support.rows import Office


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A command line for the tests of one file."""
    with command_line(tmp_path_factory.mktemp("rows")) as given:
        yield given


@pytest.fixture
def office(commands: Cli, tmp_path: Path) -> Office:
    made = Office(commands, tmp_path)
    with made.ledger():
        pass  # an empty one is there, as beside a running central
    return made
