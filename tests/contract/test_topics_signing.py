"""Topics and signatures: what is built parses back, and what was not made for it is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.signing import (
    DIRECTORY_TYP,
    ORDER_TYP,
    new_key_pair,
    private_key,
    public_key,
    sign,
    verify,
)
from gateway.contract.topics import TopicKind, TopicName, Topics, gateway_name
from gateway.errors import ConfigError, ContractError

TOPICS = Topics("state/kanpur")


def test_topics_parse_back() -> None:
    assert TOPICS.readings("e-1", "daily") == "state/kanpur/v2/e-1/readings/daily"
    more = {TopicKind.READINGS, TopicKind.BALANCE, TopicKind.ATTRIBUTIONS, TopicKind.VERDICTS}
    more |= {TopicKind.HISTORY_REQUEST, TopicKind.HISTORY_ANSWER}
    more |= {TopicKind.SYSTEM_CHANGES, TopicKind.SYSTEM_RESULTS}
    for kind in set(TopicKind) - more - {TopicKind.ACKS, TopicKind.REPLAY}:
        assert TOPICS.parse(TOPICS.of("e-1", kind)) == TopicName(kind, gateway="e-1")
    assert TOPICS.parse(TOPICS.acks("e-1", "billing")) == TopicName(
        TopicKind.ACKS, gateway="e-1", consumer="billing"
    )
    assert TOPICS.parse(TOPICS.replay("e-1", "central")) == TopicName(
        TopicKind.REPLAY, gateway="e-1", consumer="central"
    )
    assert TOPICS.parse(TOPICS.verdicts()) == TopicName(TopicKind.VERDICTS)
    assert TOPICS.parse(TOPICS.readings("e-1", "daily")) == TopicName(
        TopicKind.READINGS, gateway="e-1", profile="daily"
    )
    assert TOPICS.parse(TOPICS.attributions()) == TopicName(TopicKind.ATTRIBUTIONS)
    assert TOPICS.parse(TOPICS.balance("acc-1")) == TopicName(TopicKind.BALANCE, account_id="acc-1")
    assert TOPICS.history_request("billing") == "state/kanpur/v2/history/billing/request"
    assert TOPICS.parse(TOPICS.history_request("billing")) == TopicName(
        TopicKind.HISTORY_REQUEST, consumer="billing"
    )
    assert TOPICS.filter(TopicKind.HISTORY_REQUEST) == "state/kanpur/v2/history/+/request"
    assert TOPICS.system_changes("sap.eu") == "state/kanpur/v2/systems/sap~eu/changes"
    assert TOPICS.parse(TOPICS.system_changes("sap.eu")) == TopicName(
        TopicKind.SYSTEM_CHANGES, system="sap.eu"
    )
    assert TOPICS.parse(TOPICS.system_results("sap")) == TopicName(TopicKind.SYSTEM_RESULTS, system="sap")
    assert TOPICS.filter(TopicKind.SYSTEM_CHANGES) == "state/kanpur/v2/systems/+/changes"
    with pytest.raises(ContractError):  # two ways to write one name would be two names for access rules
        TOPICS.parse("state/kanpur/v2/systems/sap.eu/changes")
    own = TOPICS.history("billing")
    assert own.parse(TOPICS.history_answer("billing")) == TopicName(
        TopicKind.HISTORY_ANSWER, consumer="billing"
    )
    assert own.parse("state/kanpur/v2/history/billing/e-1/readings/daily") == TopicName(
        TopicKind.READINGS, gateway="e-1", profile="daily", consumer="billing"
    )
    assert own.filter(TopicKind.READINGS) == "state/kanpur/v2/history/billing/+/readings/+"
    for wrong in ("history/other/e-1/events", "history/billing/request/x", "e-1/events"):
        with pytest.raises(ContractError):
            own.parse(f"state/kanpur/v2/{wrong}")
    with pytest.raises(ContractError):  # what is told to one consumer again is no edge's word
        TOPICS.parse("state/kanpur/v2/history/billing/e-1/readings/daily")
    assert TOPICS.filter(TopicKind.READINGS) == "state/kanpur/v2/+/readings/+"
    assert TOPICS.filter(TopicKind.BALANCE) == "state/kanpur/v2/accounts/+/balance"


def test_topics_of_version_1_parse_too_but_know_no_consumers_and_nothing_new() -> None:
    old = TOPICS.of_version(1)
    assert old.acks("e-1", "central") == "state/kanpur/v1/e-1/acks"
    assert TOPICS.parse(old.acks("e-1", "central")) == TopicName(TopicKind.ACKS, gateway="e-1", version=1)
    assert TOPICS.parse(old.readings("e-1", "daily")).version == 1
    for unknown in (
        "v1/e-1/acks/central",
        "v1/verdicts",
        "v1/e-1/status/changes",
        "v2/e-1/acks",
        "v3/e-1/gaps",
    ):
        with pytest.raises(ContractError):
            TOPICS.parse(f"state/kanpur/{unknown}")


@pytest.mark.parametrize(
    "name", ["", "+", "a/b", "#", "a b", "é", "accounts", "attributions", "x" * 65, "-a"]
)
def test_bad_gateway_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        gateway_name(name)


@pytest.mark.parametrize("root", ["", "/a", "a/", "a//b", "+", "a/#", "$SYS"])
def test_bad_roots_are_refused(root: str) -> None:
    with pytest.raises(ConfigError):
        Topics(root)


@settings(max_examples=100)
@given(st.text(max_size=40) | st.text(alphabet="state/kanpurv1+#", max_size=40))
def test_any_text_as_topic_is_parsed_or_refused(text: str) -> None:
    for topic in (text, TOPICS.base + "/" + text):
        try:
            TOPICS.parse(topic)
        except ContractError:
            pass


PRIVATE, PUBLIC = new_key_pair()


def test_signatures_verify_with_every_form_of_key() -> None:
    raw = private_key(PRIVATE).private_bytes_raw()
    public = public_key(PUBLIC).public_bytes_raw()
    for secret in (PRIVATE, raw, base64.b64encode(raw) + b"\n"):
        jws = sign(b'{"a":1}', key=secret, typ=DIRECTORY_TYP)
        for known in (PUBLIC, public, base64.b64encode(public)):
            assert verify(jws, keys=(known,), typ=DIRECTORY_TYP) == b'{"a":1}'
            assert verify(jws, keys={"central": known}, typ=DIRECTORY_TYP) == b'{"a":1}'


def test_wrong_signatures_are_refused() -> None:
    jws = sign(b"{}", key=PRIVATE, typ=DIRECTORY_TYP)
    _, other = new_key_pair()
    head, payload, signature = jws.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"directory+jws"}').decode().rstrip("=")
    for wrong, keys, typ in (
        (jws, (PUBLIC,), ORDER_TYP),
        (jws, (other,), DIRECTORY_TYP),
        (jws, (), DIRECTORY_TYP),
        (f"{head}.{payload}AA.{signature}", (PUBLIC,), DIRECTORY_TYP),
        (f"{head}.{payload}.", (PUBLIC,), DIRECTORY_TYP),
        (f"{none}.{payload}.", (PUBLIC,), DIRECTORY_TYP),
    ):
        with pytest.raises(ContractError):
            verify(wrong, keys=keys, typ=typ)


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_any_text_is_no_signature(text: str) -> None:
    with pytest.raises(ContractError):
        verify(text, keys=(PUBLIC,), typ=DIRECTORY_TYP)


@pytest.mark.parametrize("octets", [b"", b"short", b"-----BEGIN PRIVATE KEY-----\nx\n", b"\xff" * 31])
def test_unreadable_keys_are_configuration_errors(octets: bytes) -> None:
    with pytest.raises(ConfigError):
        private_key(octets)
    with pytest.raises(ConfigError):
        public_key(octets)
