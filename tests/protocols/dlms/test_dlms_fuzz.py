"""A short part of `make fuzz`, and everything that it ever found."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from protocols.errors import ProtocolError
from tests.support.fuzz.__main__ import REGRESSIONS, Report, fuzz, replay, run
from tests.support.fuzz.targets import MACHINES, PARSERS, conversations, machine_of

FRAMES = 12_000


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_mutated_frames_draw_values_or_errors_of_the_hierarchy() -> None:
    report = fuzz(seed=20261125, frames=FRAMES)
    assert report.findings == []
    assert report.frames >= FRAMES
    assert report.refused > FRAMES // 10


def test_what_was_found_once_stays_mended() -> None:
    report = Report()
    for path in sorted(REGRESSIONS.glob("*.json")):
        replay(json.loads(path.read_text()), report)
    assert report.findings == []


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("talk", [one.name for one in conversations()])
def test_a_run_of_a_machine_is_made_again_by_its_seed(name: str, talk: str) -> None:
    fed = []
    for _ in range(2):
        machine = machine_of(name, 7, talk)
        with suppress(ProtocolError):
            machine.run()
        fed.append(machine.fed)
    assert fed[0] == fed[1] != []
    report = Report()
    run(name, 7, talk, report)
    assert report.findings == []


@pytest.mark.parametrize("name", PARSERS)
def test_no_octets_at_all_are_no_surprise(name: str) -> None:
    try:
        PARSERS[name](b"")
    except ProtocolError:
        pass
