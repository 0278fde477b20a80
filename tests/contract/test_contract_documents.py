"""The shipped schemas, AsyncAPI document and golden messages are those of the code, and agree with each other."""

from __future__ import annotations

import json

import jsonschema
import pytest

from gateway.contract.batches import parse_batch
from gateway.contract.central_word import TYP_OF, parse_signed
from gateway.contract.envelope import TYPE_OF, parse, parse_change
from gateway.contract.golden import KEY, golden_messages
from gateway.contract.messages import (
    Ack,
    ChangesAnswered,
    ChangesAsked,
    DirectoryPart,
    KeysGiven,
    KeysMissing,
    KeysReceipt,
    ReadAgain,
    Signed,
    TimeAnswer,
)
from gateway.contract.schemas import documents
from gateway.contract.signing import (
    ACK_TYP,
    CHANGES_ANSWERED_TYP,
    CHANGES_TYP,
    DIRECTORY_TYP,
    READ_AGAIN_TYP,
    TIME_TYP,
    private_key,
    verify,
)
from tests.support.contract_golden import GOLDEN_1
from tests.support.contract_schemas import FOLDER, schema, validate

FROZEN = ("v1/", "asyncapi-v1.json")
"""Documents of version 1: central still reads it, and nothing of them changes any more."""
KEYS_SIGNED: dict[str, type[KeysGiven | KeysMissing | KeysReceipt]] = {
    "keys-given": KeysGiven,
    "keys-missing": KeysMissing,
    "keys-receipt": KeysReceipt,
}
CHANGES_SIGNED: dict[str, tuple[type[ChangesAsked | ChangesAnswered], str]] = {
    "changes-asked": (ChangesAsked, CHANGES_TYP),
    "changes-answered": (ChangesAnswered, CHANGES_ANSWERED_TYP),
}
OLD_BATCHES = sorted(name for name in GOLDEN_1 if name.startswith(("readings", "events", "gaps")))


@pytest.mark.parametrize("name", OLD_BATCHES)
def test_golden_batches_of_version_1_validate_and_parse(name: str) -> None:
    validate(GOLDEN_1[name])
    assert parse_batch(GOLDEN_1[name]).data.gateway == "edge-1"


def test_shipped_documents_have_not_drifted() -> None:
    made = documents()
    shipped = {str(path.relative_to(FOLDER)): path.read_bytes() for path in FOLDER.rglob("*.json")}
    shipped = {name: octets for name, octets in shipped.items() if not name.startswith(FROZEN)}
    assert shipped.keys() == made.keys()
    drifted = [name for name in made if shipped[name] != made[name]]
    assert drifted == [], "run: python -m gateway.contract.schemas docs/contract"


@pytest.mark.parametrize("name", sorted(golden_messages()))
def test_golden_messages_validate_and_parse(name: str) -> None:
    payload = golden_messages()[name]
    validate(payload)
    kind = json.loads(payload)["type"]
    models = {known: model for model, known in TYPE_OF.items()}
    if name.startswith(("readings", "events", "gaps")):
        assert parse_batch(payload).data.gateway == "edge-1"
    elif name == "time-answer":
        public = private_key(KEY).public_key().public_bytes_raw()
        octets = verify(parse(payload, Signed).data.jws, keys=(public,), typ=TIME_TYP)
        jsonschema.validate(json.loads(octets), schema("v2/time-answer.json"))
        assert TimeAnswer.model_validate_json(octets).trusted
    elif name == "directory-part":
        public = private_key(KEY).public_key().public_bytes_raw()
        octets = verify(parse(payload, Signed).data.jws, keys=(public,), typ=DIRECTORY_TYP)
        jsonschema.validate(json.loads(octets), schema("v2/directory-part.json"))
        assert DirectoryPart.model_validate_json(octets).version == 8
    elif name == "ack-of-central":
        public = private_key(KEY).public_key().public_bytes_raw()
        ack, jws = parse_signed(payload, Ack, (public,))
        jsonschema.validate(json.loads(verify(jws, keys=(public,), typ=ACK_TYP)), schema("v2/ack.json"))
        assert ack.consumer == "central"
    elif name == "read-again":
        public = private_key(KEY).public_key().public_bytes_raw()
        order, jws = parse_signed(payload, ReadAgain, (public,))
        said = json.loads(verify(jws, keys=(public,), typ=READ_AGAIN_TYP))
        jsonschema.validate(said, schema("v2/read-again.json"))
        assert order.number == 7
    elif name in CHANGES_SIGNED:
        public = private_key(KEY).public_key().public_bytes_raw()
        asked, typ = CHANGES_SIGNED[name]
        octets = verify(parse(payload, Signed).data.jws, keys=(public,), typ=typ)
        jsonschema.validate(json.loads(octets), schema(f"v2/{name}.json"))
        assert asked.model_validate_json(octets).sequence == 7
    elif name in KEYS_SIGNED:
        public = private_key(KEY).public_key().public_bytes_raw()
        model = KEYS_SIGNED[name]
        told, jws = parse_signed(payload, model, (public,))
        said = json.loads(verify(jws, keys=(public,), typ=TYP_OF[model]))
        jsonschema.validate(said, schema(f"v2/{name}.json"))
        assert told.gateway == "edge-1"
    else:
        assert parse(payload, models[kind]).type == kind
    if name.endswith("-changed"):
        assert parse_change(payload).type == kind


@pytest.mark.parametrize("name", sorted(p for p in documents() if p.startswith("v2/")))
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_asyncapi_references_exist() -> None:
    document = schema("asyncapi.json")
    text = json.dumps(document)
    assert document["asyncapi"] == "3.0.0"
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].rsplit("/", 1)[1] in document["components"]["messages"]
    for part in text.split('"$ref": "')[1:]:
        reference = part.split('"', 1)[0]
        assert reference.startswith("#") or (FOLDER / reference).exists(), reference
