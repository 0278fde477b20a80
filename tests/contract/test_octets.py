"""What a live set of eight values takes of a message, member by member, as docs/messages.md tells it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.contract.blocks import (
    READINGS_TYPE,
    BlockTemplate,
    NumberedBlock,
    Sender,
    assemble_blocks,
    encode_block,
    holders_of,
    layout_of,
)
from gateway.contract.messages.generation import Generation
from mapping.directory import Attribution
from protocols.reading import Number, ProfileName, Quantity, ReadingSet
from tests.support.paths import ROOT

AT = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = tuple(
    (Quantity.of(q), Number(23_000, scaler, unit))
    for q, unit, scaler in (
        ("1-0:1.8.0*255", "Wh", 0),
        ("1-0:9.8.0*255", "VAh", 0),
        ("1-0:12.7.0*255", "V", -2),
        ("1-0:11.7.0*255", "A", -2),
        ("1-0:14.7.0*255", "Hz", -2),
        ("1-0:1.7.0*255", "W", 0),
        ("1-0:13.7.0*255", "", -3),
        ("0-0:94.96.24*255", "INR", -2),
    )
)
HOLDER = Attribution(
    account_id="a-000001", account_number="1234567890", legacy_number="K-1", usage_point="UP-1"
)
HALF = timedelta(minutes=30)
SENDER = Sender(
    journal="7a8852ec-349f-49a5-a152-2be308f69ab2", generation=Generation(1, "9f2c01ab"), gateway="edge-1"
)
SCHEMA = json.loads((ROOT / "docs" / "contract" / "v2" / "batch.json").read_text())
ENVELOPE = json.loads((ROOT / "docs" / "contract" / "v2" / "envelope.json").read_text())


def live(number: int) -> NumberedBlock:
    """A live set of one meter that one account holds."""
    reading = ReadingSet(profile=ProfileName.INSTANTANEOUS, at=AT, received_at=AT, values=VALUES)
    account = replace(HOLDER, account_id=f"a-{number:06}")
    template = BlockTemplate(
        meter=f"GEN:{number:08}",
        layout=layout_of(reading),
        received_at=AT,
        directory="1.00000001/1",
        holders=holders_of((account,)),
        epoch=1,
    )
    return NumberedBlock(
        first=number,
        last=number,
        body=encode_block(template, [reading]).body(),
        layout=template.layout.keyed,
        holders=template.holders,
    )


def message(count: int) -> bytes:
    blocks = [live(number) for number in range(1, count + 1)]
    return assemble_blocks(blocks, SENDER, type=READINGS_TYPE, time="2026-01-01T00:00:02Z")


def member(name: str, value: object) -> int:
    """Octets of a member with its comma."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return len(f'"{name}":{text},'.encode())


def optional(found: dict[str, Any], schema: dict[str, Any]) -> int:
    """Octets of the members of an object that its schema does not require."""
    return sum(member(name, value) for name, value in found.items() if name not in schema["required"])


def parts() -> dict[str, tuple[int, int]]:
    """Octets of each part of a message of one live set, and how many of them the schema would do without."""
    payload = message(1)
    whole = json.loads(payload)
    data = whole.pop("data")
    layouts, holders, [block] = data.pop("layouts"), data.pop("holders"), data.pop("blocks")
    captures = block.pop("captures")
    shapes = SCHEMA["$defs"]
    [layout], [[holder]] = layouts.values(), holders.values()
    sizes = {
        "journal, generation, gateway, first_seq, last_seq": (
            sum(member(name, value) for name, value in data.items()),
            optional(data, SCHEMA),
        ),
        "layouts: one entry with eight columns": (
            member("layouts", layouts),
            sum(optional(column, shapes["Column"]) for column in layout["columns"]),
        ),
        "holders: one entry": (member("holders", holders), optional(holder, shapes["Holder"])),
        "captures: at, values, checksum": (
            member("captures", captures),
            optional(captures[0], shapes["BlockRow"]),
        ),
        "block without captures": (
            member("blocks", [block]),
            optional({k: v for k, v in block.items() if k != "holders"}, shapes["Block"]),
        ),
    }
    rest = len(payload) - sum(size for size, _ in sizes.values())
    return {"envelope": (rest, optional(whole, ENVELOPE) - member("specversion", "1.0"))} | sizes


def test_the_table_of_octets_is_true() -> None:
    found = parts()
    alone = tuple(map(sum, zip(*found.values(), strict=True)))
    each = (len(message(200)) - len(message(100))) // 100
    found["**alone in a message**"] = (len(message(1)), alone[1])
    left_out = found["holders: one entry"][1] + found["block without captures"][1]
    found["**among others in a message** (its holders, its block)"] = (each, left_out)
    text = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| \**(\d+)\** \| (\d+)", text, re.MULTILINE)
    assert {name: (int(size), int(less)) for name, size, less in rows} == found
    once = len(message(1)) - each
    assert (
        f"{each} + {once} / n octets: {each + once // 4} with four, {each + round(once / 10)} with ten"
        in text
    )
    alone_by_key = len(message(1)) - parts()["layouts: one entry with eight columns"][0]
    assert f"alone would still take {alone_by_key} octets, and still\n{each} among others" in text


def stored(rows: int, polls: int = 1) -> float:
    """Octets a set, in a message of some polls of as many meters, each of which brought some rows of eight values."""
    blocks = [poll(rows, number) for number in range(polls)]
    payload = assemble_blocks(blocks, SENDER, type=READINGS_TYPE, time="2026-01-01T00:00:02Z")
    return len(payload) / (rows * polls)


def poll(rows: int, number: int) -> NumberedBlock:
    readings = [
        ReadingSet(
            profile=ProfileName.BLOCK_LOAD,
            at=AT + n * HALF,
            start=AT + (n - 1) * HALF,
            received_at=AT + rows * HALF,
            values=VALUES,
        )
        for n in range(rows)
    ]
    template = BlockTemplate(
        meter=f"GEN:{number:08}",
        layout=layout_of(readings[0]),
        received_at=AT + rows * HALF,
        directory="1.00000001/1",
        holders=holders_of((replace(HOLDER, account_id=f"a-{number:06}"),)),
        interval=1800,
        epoch=1,
    )
    return NumberedBlock(
        first=1 + number * rows,
        last=rows + number * rows,
        body=encode_block(template, readings).body(),
        layout=template.layout.keyed,
        holders=template.holders,
    )


def test_what_is_told_of_stored_rows_is_true() -> None:
    assert round(stored(20, polls=10)) == 161
    assert stored(2, polls=100) < 400 < stored(1, polls=200)
    assert [int(stored(rows)) for rows in (20, 5, 4)] == [201, 385, 446]


def test_a_live_set_is_as_short_as_its_schema_lets_it_be() -> None:
    """What the schema does not require, and is there all the same, is named: nobody adds to it unseen."""
    data = json.loads(message(1))["data"]
    [block], [[holder]] = data["blocks"], data["holders"].values()
    shapes = SCHEMA["$defs"]
    assert data.keys() - set(SCHEMA["required"]) == {"holders"}
    assert block.keys() - set(shapes["Block"]["required"]) == {"epoch", "holders"}
    assert block["captures"][0].keys() == set(shapes["BlockRow"]["required"])
    assert holder.keys() - set(shapes["Holder"]["required"]) == {"account_number", "legacy_number"}
