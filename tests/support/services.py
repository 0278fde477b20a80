"""Programs beside Python that tests need: each has a marker (pyproject.toml), and a test that uses one carries it.

`make check` leaves these tests out. A program that is not there fails the test and says what to do.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

BY_FIXTURE = {"broker": "mosquitto", "cli_town": "mosquitto"}
"""Fixtures that start a program, with its marker."""
_at_hand: set[str] | None = None


def carry(markers: set[str] | None) -> None:
    """Say which markers the test that runs now carries; None when no test runs."""
    global _at_hand
    _at_hand = markers


def program(marker: str, name: str, package: str, *places: str) -> str:
    """Return the path of a program of a Debian package; it may also lie at one of `places`.

    AssertionError when the running test does not carry `marker`, failure when the program is not there.
    """
    assert _at_hand is None or marker in _at_hand, f"a test that uses {name} is marked with {marker}"
    path = shutil.which(name) or next((place for place in places if Path(place).exists()), None)
    if path is None:
        pytest.fail(f"{name} is not installed: apt-get install {package}, or deploy/setup.sh test")
    return path


def faketime(clock: Path) -> dict[str, str]:
    """Return the environment of a process whose clock is off by what the file says: `-25m`, `+3d`, at any time.

    Its steady clock is not touched.
    """
    assert _at_hand is None or "faketime" in _at_hand, "a test that sets a clock is marked with faketime"
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    if library is None:
        pytest.fail("libfaketime is not installed: apt-get install libfaketime, or deploy/setup.sh test")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
