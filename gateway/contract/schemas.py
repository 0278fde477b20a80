"""Generates what integrators read: JSON Schemas, an AsyncAPI 3 document and golden messages.

`python -m gateway.contract.schemas docs/contract` writes them; a test fails when they have drifted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from gateway.contract.blocks import EVENTS_TYPE, GAPS_TYPE, READINGS_TYPE
from gateway.contract.blocks.wire import BlockBatch, GapBatch
from gateway.contract.envelope import CONTENT_TYPE, DIRECTORY_TYPE, ORDER_TYPE, SCHEMA_OF, TIME_TYPE, TYPE_OF
from gateway.contract.golden import golden_messages
from gateway.contract.messages import (
    Ack,
    AllocationChanged,
    AttributionChanged,
    Balance,
    CarriedOver,
    ChangesAnswered,
    ChangesAsked,
    CountersReserved,
    DirectoryPart,
    DirectoryRequest,
    Envelope,
    HistoryAnswer,
    HistoryRequest,
    KeysEscrowed,
    KeysGiven,
    KeysMissing,
    KeysProven,
    KeysReceipt,
    KeysRequest,
    NamingChanged,
    ReadAgain,
    ReadAgainTaken,
    ReplayRequest,
    Signed,
    Status,
    StatusChanges,
    StatusRequest,
    TimeAnswer,
    TimeRequest,
    TimeVerdict,
)
from gateway.contract.messages.codes import CODE_LISTS, words
from gateway.contract.scenario import document
from gateway.contract.stories import stories

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_CHANNELS: tuple[tuple[str, str, tuple[tuple[type[BaseModel], str], ...], str, str], ...] = (
    (
        "readings",
        "{gateway}/readings/{profile}",
        ((BlockBatch, READINGS_TYPE),),
        "edge → billing, central",
        "Captures in batches",
    ),
    ("events", "{gateway}/events", ((BlockBatch, EVENTS_TYPE),), "edge → billing, central", "Meter events"),
    ("gaps", "{gateway}/gaps", ((GapBatch, GAPS_TYPE),), "edge → billing, central", "Gaps opened and closed"),
    ("status", "{gateway}/status", ((Status, TYPE_OF[Status]),), "edge → all", "Retained state; last will"),
    (
        "statusChanges",
        "{gateway}/status/changes",
        ((StatusChanges, TYPE_OF[StatusChanges]),),
        "edge → all",
        "Lines and meters that changed, or all of them in parts",
    ),
    (
        "statusRequest",
        "{gateway}/status/request",
        ((StatusRequest, TYPE_OF[StatusRequest]),),
        "central → edge",
        "All lines and meters are wanted again",
    ),
    (
        "acks",
        "{gateway}/acks/{consumer}",
        ((Ack, TYPE_OF[Ack]),),
        "billing or central → edge",
        "Stored up to seq",
    ),
    (
        "replay",
        "{gateway}/replay/{consumer}",
        ((ReplayRequest, TYPE_OF[ReplayRequest]),),
        "billing or central → edge",
        "A range wanted again",
    ),
    (
        "orders",
        "{gateway}/orders",
        ((Signed, ORDER_TYPE), (Signed, TYPE_OF[ReadAgain]), (Signed, TYPE_OF[CarriedOver])),
        "central → edge",
        "Signed orders",
    ),
    (
        "counters",
        "{gateway}/counters",
        ((CountersReserved, TYPE_OF[CountersReserved]),),
        "edge → central",
        "Invocation counters that are reserved",
    ),
    (
        "orderResults",
        "{gateway}/orders/results",
        ((ReadAgainTaken, TYPE_OF[ReadAgainTaken]),),
        "edge → central",
        "The fate of orders",
    ),
    (
        "directory",
        "{gateway}/directory",
        ((Signed, DIRECTORY_TYPE),),
        "central → edge",
        "The gateway's signed part of the directory",
    ),
    (
        "directoryRequest",
        "{gateway}/directory/request",
        ((DirectoryRequest, TYPE_OF[DirectoryRequest]),),
        "edge → central",
        "The directory wanted, whole or from a version on",
    ),
    (
        "time",
        "{gateway}/time",
        ((Signed, TIME_TYPE),),
        "central → edge",
        "Central's signed time, for the nonce of a request",
    ),
    (
        "timeRequest",
        "{gateway}/time/request",
        ((TimeRequest, TYPE_OF[TimeRequest]),),
        "edge → central",
        "The time wanted, with a fresh nonce",
    ),
    (
        "keysEscrow",
        "{gateway}/keys/escrow",
        ((KeysEscrowed, TYPE_OF[KeysEscrowed]), (KeysProven, TYPE_OF[KeysProven])),
        "edge → central",
        "New keys of meters, sealed, before a meter gets them; and which are proved",
    ),
    (
        "keysReceipts",
        "{gateway}/keys/receipts",
        ((Signed, TYPE_OF[KeysReceipt]), (Signed, TYPE_OF[KeysMissing])),
        "central → edge",
        "Signed receipts of sealed keys",
    ),
    (
        "keysRequest",
        "{gateway}/keys/request",
        ((KeysRequest, TYPE_OF[KeysRequest]),),
        "edge → central",
        "The keys of its meters wanted, sealed to this box",
    ),
    (
        "keys",
        "{gateway}/keys",
        ((Signed, TYPE_OF[KeysGiven]),),
        "central → edge",
        "The keys of the gateway's meters, sealed to its box, signed",
    ),
    (
        "verdicts",
        "verdicts",
        ((TimeVerdict, TYPE_OF[TimeVerdict]),),
        "central → billing",
        "Judgements on the times of captures",
    ),
    (
        "attributions",
        "attributions",
        tuple((model, TYPE_OF[model]) for model in (AttributionChanged, NamingChanged, AllocationChanged)),
        "central → billing",
        "Spans that changed hands, and accounts that changed names",
    ),
    (
        "historyRequest",
        "history/{consumer}/request",
        ((HistoryRequest, TYPE_OF[HistoryRequest]),),
        "billing → central",
        "A page of what central holds wanted",
    ),
    (
        "historyAnswer",
        "history/{consumer}/answer",
        ((HistoryAnswer, TYPE_OF[HistoryAnswer]),),
        "central → billing",
        "What the page was, and where the next begins",
    ),
    (
        "historyReadings",
        "history/{consumer}/{gateway}/readings/{profile}",
        ((BlockBatch, READINGS_TYPE),),
        "central → billing",
        "Captures again, for one consumer",
    ),
    (
        "historyEvents",
        "history/{consumer}/{gateway}/events",
        ((BlockBatch, EVENTS_TYPE),),
        "central → billing",
        "Meter events again, for one consumer",
    ),
    (
        "historyAttributions",
        "history/{consumer}/attributions",
        tuple((model, TYPE_OF[model]) for model in (AttributionChanged, AllocationChanged)),
        "central → billing",
        "Whose meters are over all time, and who reads them, for one consumer",
    ),
    (
        "historyVerdicts",
        "history/{consumer}/verdicts",
        ((TimeVerdict, TYPE_OF[TimeVerdict]),),
        "central → billing",
        "Judgements on times again, for one consumer",
    ),
    (
        "systemChanges",
        "systems/{system}/changes",
        ((Signed, TYPE_OF[ChangesAsked]),),
        "master system → central",
        "Change sets of the directory, signed and in order",
    ),
    (
        "systemResults",
        "systems/{system}/results",
        ((Signed, TYPE_OF[ChangesAnswered]),),
        "central → master system",
        "What became of them, signed",
    ),
    (
        "balance",
        "accounts/{accountId}/balance",
        ((Balance, TYPE_OF[Balance]),),
        "billing → central",
        "Retained wallet balance",
    ),
)
_OTHERS: dict[type[BaseModel], str] = {
    BlockBatch: "batch",
    GapBatch: "gaps",
    Envelope: "envelope",
    DirectoryPart: "directory-part",
    TimeAnswer: "time-answer",
}
"""File stems of what is not one message in an envelope: batches, and what travels signed."""
_PARAMETERS = {
    "gateway": "Name of the gateway: A-Z a-z 0-9 . _ -",
    "consumer": "Name of the consumer, as in the message: central, billing",
    "profile": "block_load, instantaneous, daily, billing, nameplate or prepayment",
    "accountId": "The account's opaque id, never its number",
}


def schema_documents() -> dict[str, str]:
    """Return every JSON Schema (of a message inside its envelope's `data`) by file name."""
    models: list[type[BaseModel]] = [*SCHEMA_OF, *_OTHERS]
    documents = {f"{_stem(model)}.json": _schema(model) for model in models}
    documents["codes.json"] = _codes()
    return {f"v2/{name}": text for name, text in sorted(documents.items())}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document; payloads refer to the JSON Schemas beside it."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for name, address, carried, direction, summary in _CHANNELS:
        names = []
        for model, kind in carried:
            title = _message_name(kind)
            names.append(title)
            messages[title] = _message(model, kind)
        channels[name] = _channel(address, names, summary, direction)
        operations[f"send{name[0].upper()}{name[1:]}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": f"{summary} ({direction})",
            "bindings": {"mqtt": {"qos": 1, "retain": name in {"status", "balance"}}},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Meter gateway: readings, corrections and control",
            "version": "2.0.0",
            "description": (
                "All topics are under `{root}/v2`. The rule for a consumer: keep the highest (epoch, value_rev) "
                "per capture_id; its attribution is that of the highest (generation, version) of the directory "
                "known for its meter and time; its time is what the last verdict says; ask for a replay where "
                "seq has a hole. docs/billing.md says it exactly, and scenarios/ has examples to run."
            ),
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def documents() -> dict[str, bytes]:
    """Return every generated file by its path below `docs/contract`."""
    files = {name: text.encode() for name, text in schema_documents().items()}
    files["asyncapi.json"] = _text(asyncapi()).encode()
    for name, payload in golden_messages().items():
        files[f"golden/{name}.json"] = payload + b"\n"
    for story in stories():
        files[f"scenarios/{story.name}.json"] = _text(document(story)).encode()
    return files


def write(folder: Path) -> None:
    """Write all documents and remove generated ones that are no longer made."""
    made = documents()
    for old in [path for room in ("v2", "golden", "scenarios") for path in folder.glob(f"{room}/*.json")]:
        if str(old.relative_to(folder)) not in made:
            old.unlink()
    for name, octets in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)


def _schema(model: type[BaseModel]) -> str:
    _, whole = models_json_schema([(model, "validation")], by_alias=True, schema_generator=_AbsentNeverNull)
    definitions = whole["$defs"]
    own = definitions.pop(model.__name__)
    head = {"$schema": _DIALECT, "$id": f"v2/{_stem(model)}.json"}
    return _text({**head, **own, **({"$defs": definitions} if definitions else {})})


def _codes() -> str:
    """Return the code lists as a schema that others may refer to, with the meaning of each word."""
    lists = {name: {"anyOf": words(codes)} for name, codes in sorted(CODE_LISTS.items())}
    text = "Words known today; a reader takes others too. A list grows, and no word changes its meaning."
    return _text({"$schema": _DIALECT, "$id": "v2/codes.json", "description": text, "$defs": lists})


def _stem(model: type[BaseModel]) -> str:
    return _OTHERS.get(model) or SCHEMA_OF[model]  # type: ignore[index]  # a Message where it is none of the others


class _AbsentNeverNull(GenerateJsonSchema):
    """Writes members that may be absent: version 2 says nothing with `null`."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        written = super().default_schema(schema)
        return {name: value for name, value in written.items() if name != "default" or value is not None}


def _channel(address: str, names: list[str], summary: str, direction: str) -> dict[str, Any]:
    parameters = {key: {"description": text} for key, text in _PARAMETERS.items() if f"{{{key}}}" in address}
    channel: dict[str, Any] = {
        "address": f"{{root}}/v2/{address}",
        "summary": summary,
        "description": direction,
        "parameters": {"root": {"description": "Root of topics, for example kanpur"}, **parameters},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }
    return channel


def _message(model: type[BaseModel], kind: str) -> dict[str, Any]:
    data = {"$ref": f"v2/{_stem(model)}.json"}
    return {
        "name": kind,
        "contentType": CONTENT_TYPE,
        "summary": (model.__doc__ or "").split("\n")[0],
        "payload": {
            "allOf": [
                {"$ref": "v2/envelope.json"},
                {"type": "object", "properties": {"type": {"const": kind}, "data": data}},
            ]
        },
    }


def _message_name(kind: str) -> str:
    words = kind.split(".")[1:-1]
    return words[0] + "".join(word.title() for word in words[1:])


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
