"""What the shipped JSON Schemas of version 2 refuse, and which words they name with their meaning."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from gateway.contract.golden import golden_messages
from gateway.contract.messages.codes import (
    ALARM_CODES,
    CODE_LISTS,
    GAP_REASONS,
    MISSING_REASONS,
    QUALITY_CODES,
    QUANTITY_NAMES,
    UNATTRIBUTED_REASONS,
    UNITS,
)
from mapping.directory import Unattributed
from protocols.dlms.data.units import UNIT_NAMES
from protocols.names import NAMES
from protocols.reading import MissingReason, Quality
from tests.support.blocks import EVERY_KIND, batch_of, block_load, encoded
from tests.support.contract_schemas import schema, validate
from tests.support.paths import ROOT
from tests.support.sources import tree_of

Change = Callable[[dict[str, Any]], object]


def row(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = message["data"]["blocks"][0]["captures"][0]
    return found


def refused(payload: bytes, change: Change) -> bool:
    message = json.loads(payload)
    change(message)
    try:
        validate(json.dumps(message).encode())
    except jsonschema.ValidationError:
        return True
    return False


def test_every_kind_of_value_is_taken() -> None:
    validate(batch_of(encoded(block_load(values=EVERY_KIND, occurrence=2, raw=b"\x01"), epoch=3)))


@pytest.mark.parametrize(
    "value",
    [
        {"value": "412", "missing": "sentinel"},
        {"text": "412", "missing": "sentinel"},
        {"instant": "2026-11-23T18:30:00Z", "bits": "01"},
        {},
        None,
        412,
        412.5,
        "4.1e2",
        "",
        {"missing": None},
        {"missing": "Sentinel!"},
        {"bits": "012"},
        {"instant": "yesterday"},
    ],
)
def test_a_value_together_with_missing_or_neither_is_refused(value: object) -> None:
    payload = batch_of(encoded(block_load()))
    assert not refused(payload, lambda m: row(m).update(values=["1", "2"]))
    assert refused(payload, lambda m: row(m).update(values=["1", value]))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["data"].update(blocks=[]),
        lambda m: m["data"].pop("blocks"),
        lambda m: m["data"]["blocks"][0].update(captures=[]),
        lambda m: m["data"].pop("layouts"),
        lambda m: m["data"].pop("generation"),
        lambda m: m["data"].update(generation="3"),
        lambda m: m["data"]["blocks"][0].update(interval=None),
        lambda m: m["data"]["blocks"][0].update(directory=7),
        lambda m: row(m).pop("checksum"),
        lambda m: row(m).update(at="2026-11-23T18:30:00+00:00"),
        lambda m: row(m).update(wall=None),
    ],
)
def test_empty_batches_and_spoilt_members_are_refused(change: Change) -> None:
    payload = golden_messages()["readings-block-load"]
    assert not refused(payload, lambda m: None)
    assert refused(payload, change)


def test_empty_batches_of_gaps_are_refused() -> None:
    payload = golden_messages()["gaps"]
    assert not refused(payload, lambda m: None)
    assert refused(payload, lambda m: m["data"].update(gaps=[]))
    assert refused(payload, lambda m: m["data"].pop("gaps"))
    assert refused(payload, lambda m: m["data"]["gaps"][0].update(state="closed"))


def test_words_of_newer_senders_are_taken() -> None:
    payload = golden_messages()["readings-unattributed"]
    assert not refused(payload, lambda m: m["data"]["blocks"][0].update(reason="a_new_reason"))
    assert not refused(payload, lambda m: row(m).update(values=[{"missing": "a_new_word"}, "1"]))
    assert not refused(payload, lambda m: row(m).update(quality="9.9.9", newer={"a": None}))


def nulls(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        if document.get("type") == "null" or ("default" in document and document["default"] is None):
            yield document
        for inner in document.values():
            yield from nulls(inner)
    elif isinstance(document, list):
        for inner in document:
            yield from nulls(inner)


def test_no_member_of_version_2_is_ever_null() -> None:
    for name in ("batch", "gaps", "status", "ack", "replay-request", "attribution-changed", "balance"):
        assert list(nulls(schema(f"v2/{name}.json"))) == [], name
    for name, payload in golden_messages().items():
        assert b":null" not in payload, name


def test_the_code_lists_are_those_of_the_program() -> None:
    assert set(MISSING_REASONS) == set(MissingReason)
    assert set(QUALITY_CODES) == set(Quality)
    assert set(UNATTRIBUTED_REASONS) == set(Unattributed)
    assert set(UNITS) == set(UNIT_NAMES.values()) - {""}
    assert set(QUANTITY_NAMES) == set(NAMES.values())
    assert all(meaning.strip() for codes in CODE_LISTS.values() for meaning in codes.values())


def sources(folder: str) -> Iterator[ast.Module]:
    return (tree_of(path) for path in sorted((ROOT / folder).rglob("*.py")))


def words_given_to(names: set[str], keyword: str | None) -> set[str]:
    """Find the texts that the program gives as first argument, or by keyword, to functions of these names."""
    found: set[str] = set()
    for tree in sources("gateway"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in names:
                continue
            given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == keyword)]
            found |= {a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def test_every_alarm_code_of_the_program_is_in_the_list() -> None:
    assert words_given_to({"Alarm", "JournalAlarm", "alarm"}, "code") - set(ALARM_CODES) == set()


def test_the_gap_reasons_of_the_program_are_in_the_list() -> None:
    found = {
        node.value.value
        for tree in sources("gateway/edge")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and any(isinstance(t, ast.Name) and t.id in {"NOT_IN_METER", "REFUSED"} for t in node.targets)
    }
    assert {word for word in found if isinstance(word, str)} - set(GAP_REASONS) <= {"refused"}


def test_the_schemas_name_each_word_with_its_meaning() -> None:
    codes = schema("v2/codes.json")["$defs"]
    assert set(codes) == set(CODE_LISTS)
    named = {one["const"]: one["description"] for one in codes["unit"]["anyOf"]}
    assert named["Wh"] == "watt hours, active energy"
    missing = schema("v2/batch.json")["$defs"]["MissingValue"]["properties"]["missing"]["anyOf"]
    assert {one.get("const") for one in missing} == {*MISSING_REASONS, None}
