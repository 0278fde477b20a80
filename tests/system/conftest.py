"""One small town (simulator, Mosquitto, central as processes) and one command line for the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.support.cli import Cli, command_line
from tests.support.town import Town, town
from tests.support.waiting import wait_until


@pytest.fixture(scope="session")
def cli_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("cli-town")
    kept = '[journal]\nack_consumers = ["central", "billing"]\n'  # billing never acknowledges: replays work
    with town(folder, meters=13, seed=5, speed=1, behind=timedelta(0), backfill_days=1, journal=kept) as made:
        made.central.start()
        wait_until(lambda: made.files.has_ledger, "central is there")
        yield made


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with command_line(tmp_path_factory.mktemp("cli")) as given:
        yield given
