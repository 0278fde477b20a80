"""What each shipped model makes of its register image, as the golden files beside the images have it.

`python -m tests.support.modbus.model_images` writes the golden files anew: compare them with the vendor's document.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from protocols.modbus.format.library import load_model
from protocols.modbus.image import RegisterImage
from protocols.modbus.tryout import Tryout, try_model
from protocols.reading import Instant, Missing, Number, Text, Value, name_of
from tests.support.paths import ROOT

IMAGES = ROOT / "tests" / "protocols" / "modbus" / "images"
AT = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


def images() -> list[Path]:
    """Return the images, `MODEL.txt` each; `MODEL.WHAT.txt` for a further one of a model."""
    return sorted(IMAGES.glob("*.txt"))


def tried(image: Path) -> Tryout:
    """Return what the image's model makes of it."""
    model = load_model(image.name.partition(".")[0])
    return asyncio.run(try_model(model, RegisterImage.load(image), at=AT, zone=ZoneInfo("Asia/Kolkata")))


def golden(image: Path) -> str:
    """Return what the golden file of an image holds."""
    found = tried(image)
    document: dict[str, Any] = {}
    for row in found.sets:
        values = {f"{q} {name_of(q)}": _text(value) for q, value in row.values}
        document.setdefault(row.profile.value, []).append({"at": row.at.isoformat(), **values})
    document |= {"absent": list(found.absent), "doubts": list(found.doubts)}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _text(value: Value) -> str:
    match value:
        case Number():
            return f"{value.text()} {value.unit}".strip()
        case Instant():
            return value.at.isoformat()
        case Text():
            return repr(value.text)
        case Missing():
            return f"missing: {value.reason}"
    return str(value)


if __name__ == "__main__":
    for one in images():
        one.with_suffix(".json").write_text(golden(one), encoding="utf-8")
