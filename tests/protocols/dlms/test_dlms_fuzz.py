"""A short part of `make fuzz`, and everything that it ever found."""

from __future__ import annotations

import json

import pytest

from protocols.errors import ProtocolError
from tests.fuzz.__main__ import REGRESSIONS, Report, check, fuzz
from tests.fuzz.targets import PARSERS

FRAMES = 12_000


def test_mutated_frames_draw_values_or_errors_of_the_hierarchy() -> None:
    report = fuzz(seed=20261125, frames=FRAMES)
    assert report.findings == []
    assert report.frames >= FRAMES
    assert report.refused > FRAMES // 10


def test_what_was_found_once_stays_mended() -> None:
    report = Report()
    for path in sorted(REGRESSIONS.glob("*.json")):
        found = json.loads(path.read_text())
        check(found["target"], PARSERS[found["target"]], bytes.fromhex(found["hex"]), report)
    assert report.findings == []


@pytest.mark.parametrize("name", PARSERS)
def test_no_octets_at_all_are_no_surprise(name: str) -> None:
    try:
        PARSERS[name](b"")
    except ProtocolError:
        pass
