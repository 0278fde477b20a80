"""Every shipped model on a register image: the reading sets that come of it are those that were reviewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.modbus.format.library import load_model, model_names
from protocols.reading import Quantity
from tests.support.modbus.model_images import golden, images, tried


@pytest.mark.parametrize("name", model_names())
def test_a_model_has_an_image_that_shows_each_of_its_registers(name: str) -> None:
    """What stands in no image of its model was never looked at."""
    own = [tried(image) for image in images() if image.name.partition(".")[0] == name]
    shown = {quantity for one in own for row in one.sets for quantity, _ in row.values}
    absent = set.intersection(*(set(one.absent) for one in own)) if own else set()
    assert {Quantity.of(r.quantity) for r in load_model(name).registers if r.profiles} <= shown
    assert absent == set()


@pytest.mark.parametrize("image", images(), ids=lambda path: path.stem)
def test_an_image_gives_the_reviewed_readings(image: Path) -> None:
    assert golden(image) == image.with_suffix(".json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "image", [i for i in images() if i.stem in model_names()], ids=lambda path: path.stem
)
def test_a_models_image_is_plausible_to_it(image: Path) -> None:
    assert tried(image).doubts == ()


def test_each_golden_file_has_its_image() -> None:
    assert {path.stem for path in images()} == {p.stem for p in images()[0].parent.glob("*.json")}
