"""Validates messages against the shipped JSON Schemas, as an integrator would."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "contract"


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return loaded


def validate(payload: bytes) -> None:
    """Validate a message as an integrator would: envelope, then data by its `dataschema`."""
    message = json.loads(payload)
    version = message["dataschema"].partition("/")[0]
    for document, value in (
        (f"{version}/envelope.json", message),
        (message["dataschema"], message["data"]),
    ):
        jsonschema.Draft202012Validator(
            schema(document), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        ).validate(value)
