"""A short part of `make fuzz` for Modbus; what it ever found is played by the test of the DLMS part."""

from __future__ import annotations

import pytest

from protocols.errors import ProtocolError
from tests.support.fuzz.__main__ import fuzz
from tests.support.fuzz.modbus import MODBUS, seeds_of_modbus

FRAMES = 3_000


def test_mutated_frames_and_files_draw_values_or_errors_of_the_hierarchy() -> None:
    report = fuzz(seed=20261130, frames=FRAMES, only="modbus")
    assert report.findings == []
    assert report.frames >= FRAMES
    assert report.refused > FRAMES // 10


@pytest.mark.parametrize("name", MODBUS)
def test_most_whole_seeds_are_read(name: str) -> None:
    """So the mutations begin at what is right, not at what is refused at its first octet."""
    refused = 0
    for octets in seeds_of_modbus()[name]:
        try:
            MODBUS[name](octets)
        except ProtocolError:
            refused += 1
    assert refused <= 0.8 * len(seeds_of_modbus()[name])
