"""Generates what integrators read: JSON Schemas, an AsyncAPI 3 document and golden messages.

`python -m gateway.contract.schemas docs/contract` writes them; a test fails when they have drifted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.contract.envelope import (
    CONTENT_TYPE,
    DIRECTORY_TYPE,
    EVENTS_TYPE,
    GAPS_TYPE,
    ORDER_TYPE,
    READINGS_TYPE,
    SCHEMA_OF,
    TYPE_OF,
)
from gateway.contract.golden import golden_messages
from gateway.contract.messages import (
    Ack,
    AttributionChanged,
    Balance,
    Batch,
    DirectoryPart,
    DirectoryRequest,
    Envelope,
    Message,
    NamingChanged,
    ReplayRequest,
    Signed,
    Status,
)

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_CHANNELS: tuple[tuple[str, str, tuple[tuple[type[Message], str], ...], str, str], ...] = (
    (
        "readings",
        "{gateway}/readings/{profile}",
        ((Batch, READINGS_TYPE),),
        "edge → billing, central",
        "Captures in batches",
    ),
    ("events", "{gateway}/events", ((Batch, EVENTS_TYPE),), "edge → billing, central", "Meter events"),
    ("gaps", "{gateway}/gaps", ((Batch, GAPS_TYPE),), "edge → billing, central", "Gaps opened and closed"),
    ("status", "{gateway}/status", ((Status, TYPE_OF[Status]),), "edge → all", "Retained state; last will"),
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
    ("orders", "{gateway}/orders", ((Signed, ORDER_TYPE),), "central → edge", "Signed orders"),
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
        "attributions",
        "attributions",
        ((AttributionChanged, TYPE_OF[AttributionChanged]), (NamingChanged, TYPE_OF[NamingChanged])),
        "central → billing",
        "Spans that changed hands, and accounts that changed names",
    ),
    (
        "balance",
        "accounts/{accountId}/balance",
        ((Balance, TYPE_OF[Balance]),),
        "billing → central",
        "Retained wallet balance",
    ),
)
_PARAMETERS = {
    "gateway": "Name of the gateway: A-Z a-z 0-9 . _ -",
    "consumer": "Name of the consumer, as in the message: central, billing",
    "profile": "block_load, instantaneous, daily, billing, nameplate or prepayment",
    "accountId": "The account's opaque id, never its number",
}


def schema_documents() -> dict[str, str]:
    """Return every JSON Schema (of a message inside its envelope's `data`) by file name."""
    models: list[type[Message]] = [*SCHEMA_OF, Envelope, DirectoryPart]
    documents = {f"{_stem(model)}.json": _schema(model) for model in models}
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
                "All topics are under `{root}/v2`. The rule for a consumer: keep the highest value_rev per "
                "capture_id; its attribution is that of the highest directory version known for its meter "
                "and time; ask for a replay where seq has a hole."
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
    return files


def write(folder: Path) -> None:
    """Write all documents and remove generated ones that are no longer made."""
    made = documents()
    for old in [*folder.glob("v2/*.json"), *folder.glob("golden/*.json")]:
        if str(old.relative_to(folder)) not in made:
            old.unlink()
    for name, octets in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)


def _schema(model: type[Message]) -> str:
    _, whole = models_json_schema([(model, "validation")], by_alias=True)
    definitions = whole["$defs"]
    own = definitions.pop(model.__name__)
    head = {"$schema": _DIALECT, "$id": f"v2/{_stem(model)}.json"}
    return _text({**head, **own, **({"$defs": definitions} if definitions else {})})


def _stem(model: type[Message]) -> str:
    others: dict[type[Message], str] = {Envelope: "envelope", DirectoryPart: "directory-part"}
    return SCHEMA_OF.get(model) or others[model]


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


def _message(model: type[Message], kind: str) -> dict[str, Any]:
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
