"""The recipes of docs/library.md and the example of docs/dlms.md read simulated meters as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from protocols.reading import ProfileName
from protocols.simulator.neighbourhood.plan import MeterKind
from tests.support.simulator import ServedNeighbourhood, served_neighbourhood

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    """The Python of a page, in order."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


ADDRESSES, *RECIPES = blocks("library.md")
"""The first block names the meters; the test names simulated ones in its place."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNeighbourhood]:
    with served_neighbourhood(tmp_path_factory.mktemp("town")) as found:
        yield found


def names(town: ServedNeighbourhood) -> dict[str, object]:
    """What the page's first block defines, for meters that are there."""
    meter, modbus = town.meter(MeterKind.DLMS_TCP, auth="hls2"), town.meter(MeterKind.MODBUS_TCP)
    line = next(line for line in town.area.plan.lines if line.name == meter.line)
    url, keys, modbus_url = town.url(meter), str(town.keys(meter)), town.url(modbus)
    return {
        "URL": url,
        "KEYS": keys,
        "MODBUS_URL": modbus_url,
        "MANY": {url: keys, modbus_url: None},
        "HOST": line.host,
        "PORT": line.port,
    }


def test_the_first_block_names_what_the_recipes_use(town: ServedNeighbourhood) -> None:
    defined: dict[str, object] = {}
    exec(ADDRESSES, defined)
    assert set(defined) - {"__builtins__"} == set(names(town))
    assert len(RECIPES) == 6


def said(town: ServedNeighbourhood, number: int, capsys: pytest.CaptureFixture[str]) -> str:
    exec(compile(RECIPES[number], f"recipe {number + 1}", "exec", dont_inherit=True), names(town))
    return capsys.readouterr().out


def test_identity_and_clock(town: ServedNeighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(town, 0, capsys)
    assert town.meter(MeterKind.DLMS_TCP, auth="hls2").serial in text
    assert re.search(r"the meter is [+-]\d+ s ahead", text)


def test_a_day_of_block_load(town: ServedNeighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(town, 1, capsys)
    midnight = datetime.now(ZoneInfo("Asia/Kolkata")).replace(hour=0, minute=0, second=0, microsecond=0)
    meter = town.meter(MeterKind.DLMS_TCP, auth="hls2").meter
    recorded = town.area.recorded(meter, midnight - timedelta(days=1), midnight).blocks
    assert len(text.splitlines()) == len(recorded) + 1 > 20
    assert f"the day: {sum(block.energy_import_wh for block in recorded)} Wh" in text


def test_a_table(town: ServedNeighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = said(town, 2, capsys).splitlines()
    assert "energy_import (Wh)" in head
    assert len(rows) >= 30
    assert all(row.count(",") == head.count(",") for row in rows)


def test_modbus_and_errors(town: ServedNeighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(town, 3, capsys)
    assert re.search(r"^voltage\S* \d+\.\d+ V$", text, re.MULTILINE)
    assert "this meter has none: " in text
    assert ProfileName.BILLING in text


def test_many_at_once(town: ServedNeighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(town, 4, capsys)
    for meter in (town.meter(MeterKind.DLMS_TCP, auth="hls2"), town.meter(MeterKind.MODBUS_TCP)):
        assert meter.meter in text


def test_parts_of_ones_own(town: ServedNeighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    assert town.meter(MeterKind.DLMS_TCP, auth="hls2").serial in said(town, 5, capsys)


def test_the_example_of_the_dlms_page(town: ServedNeighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (block for block in blocks("dlms.md") if "open_meter(" in block)
    here = names(town)
    for there, name in (("dlms+tcp://10.0.0.7:4059?client=48", "URL"), ("keys.toml", "KEYS")):
        assert f'"{there}"' in example
        example = example.replace(there, str(here[name]))
    exec(example, {})
    text = capsys.readouterr().out
    assert town.meter(MeterKind.DLMS_TCP, auth="hls2").serial in text
    assert "1-0:1.29.0*255" in text
