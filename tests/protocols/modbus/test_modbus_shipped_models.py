"""Every shipped model makes of its register image what the meter would show; the values were written apart from it.

`images/NAME.txt` has the registers, `shown_values.json` what each model's meter shows, in base units.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from protocols.modbus.format.library import load_model, model_names
from protocols.modbus.image import RegisterImage
from protocols.modbus.tryout import Tryout, try_model
from protocols.reading import Instant, Number, Quantity, Text
from tests.support.paths import ROOT

HERE = ROOT / "tests" / "protocols" / "modbus"
IMAGES = HERE / "images"
SHOWN = json.loads((HERE / "shown_values.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 11, 30, 10, tzinfo=UTC)
SIMULATED = {"sdm320y-sim"}


async def tried(name: str) -> Tryout:
    image = RegisterImage.load(IMAGES / f"{name}.txt")
    return await try_model(load_model(name), image, at=NOW, zone=ZoneInfo("Asia/Kolkata"))


@pytest.mark.parametrize("name", SHOWN)
async def test_an_image_gives_its_reading_set(name: str) -> None:
    result = await tried(name)
    assert (result.absent, result.doubts) == ((), ())
    found: dict[str, tuple[object, str]] = {}
    for reading in result.sets:
        for quantity, value in reading:
            match value:
                case Number():
                    found[str(quantity)] = value.decimal(), value.unit
                case Text():
                    found[str(quantity)] = value.text, ""
                case Instant():
                    found[str(quantity)] = value.at.isoformat(), "time"
    wanted = {
        quantity: (Decimal(text) if isinstance(found.get(quantity, ("", ""))[0], Decimal) else text, unit)
        for quantity, (text, unit) in SHOWN[name].items()
    }
    assert found == wanted


def test_models_are_of_many_makers_and_say_where_they_are_from() -> None:
    models = [load_model(name) for name in model_names() if name not in SIMULATED]
    assert len(models) >= 16
    assert len({model.manufacturer for model in models}) >= 10
    assert all(len(model.source) > 20 for model in models)


def probed_in_several_registers() -> list[str]:
    models = [load_model(name) for name in model_names()]
    return [m.name for m in models if any(m.of_quantity(probe.quantity).size > 1 for probe in m.probe)]


@pytest.mark.parametrize("name", probed_in_several_registers())
async def test_a_probe_tells_the_other_word_order(name: str) -> None:
    model = load_model(name)
    turned = model.model_copy(update={"word_order": "little" if model.word_order == "big" else "big"})
    image = RegisterImage.load(IMAGES / f"{name}.txt")
    result = await try_model(turned, image, at=NOW, zone=ZoneInfo("Asia/Kolkata"))
    assert result.doubts


def test_the_codes_of_the_docs_are_those_of_the_shipped_models() -> None:
    """A new user takes them from the table: each is a quantity, and what is measured has the unit that it must have."""
    page = (ROOT / "docs" / "modbus.md").read_text(encoding="utf-8")
    table = page.partition("## Which code is which quantity")[2].partition("## What maps say")[0]
    codes = {str(Quantity.of(code)) for code in re.findall(r"`([0-9]-0:[0-9.]+\*255(?:#5)?)`", table)}
    shipped = {
        str(Quantity.of(register.quantity))
        for name in model_names()
        for register in load_model(name).registers
    }
    assert len(codes) > 40
    assert {code for code in shipped if code.startswith("1-0:") and ".7.0*" in code} <= codes
