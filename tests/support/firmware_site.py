"""A served neighbourhood of its own for tests that change meters, and images for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocols.simulator.cosem.image import image_for
from protocols.simulator.neighbourhood.files import read_plan
from protocols.simulator.neighbourhood.plan import MeterPlan
from tests.support.town import Program
from tests.support.waiting import PATIENCE, wait_until

VERSION = "SIM-9.0.0"


class FirmwareSite:
    """A simulator as a process; `config` is its gateway's file."""

    def __init__(self, folder: Path, *, meters: int = 13, faults: str = "", suite: int = 0) -> None:
        self.folder = folder
        self.config = folder / "town" / "gateway.toml"
        more = []
        if faults:
            (folder / "faults.toml").write_text(faults, encoding="utf-8")
            more = ["--fault", str(folder / "faults.toml")]
        town = [
            "simulate",
            "--meters",
            str(meters),
            "--seed",
            "7",
            "--calm",
            "--folder",
            str(folder / "town"),
            "--suite",
            str(suite),
        ]
        self.simulator = Program("simulator", [*town, *more], folder)

    @property
    def data(self) -> Path:
        return self.folder / "town" / "data"

    def meters(self, maker: str, line: str = "tcp-") -> list[MeterPlan]:
        """DLMS meters of one maker, of one phase, on lines of one kind."""
        found = read_plan(self.folder / "town").meters
        return [
            m for m in found if m.manufacturer == maker and m.line.startswith(line) and m.category == "D1"
        ]

    def image(self, maker: str = "GEN", size: int = 20_000, version: str = VERSION) -> Path:
        path = self.folder / f"{maker}-{version}.bin"
        path.write_bytes(image_for(maker, version, size))
        return path


@contextmanager
def firmware_site(
    folder: Path, *, meters: int = 13, faults: str = "", suite: int = 0, patience: float = PATIENCE
) -> Iterator[FirmwareSite]:
    site = FirmwareSite(folder, meters=meters, faults=faults, suite=suite)
    site.simulator.start()
    try:
        wait_until(lambda: "Ctrl-C ends it" in site.simulator.tail(), site.simulator.tail, patience)
        yield site
    finally:
        site.simulator.stop()
