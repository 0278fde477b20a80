"""Fixtures of the pages' tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web.client import TestClient
from tests.support.web.seed import Town, town


@pytest.fixture(scope="session")
def seeded_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeded files, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("town")
    with town(folder):
        pass
    return folder


@pytest.fixture
def seeded(tmp_path: Path, seeded_files: Path) -> Iterator[Town]:
    folder = tmp_path / "town"
    shutil.copytree(seeded_files, folder)
    with town(folder, seed=False) as built:
        yield built


@pytest.fixture
def client(seeded: Town) -> Iterator[TestClient]:
    with TestClient(seeded.app, base_url="http://127.0.0.1", follow_redirects=False) as made:
        yield made
