"""Traces of suites 1 and 2: wrapped and agreed keys are opened, signatures and proofs checked, where keys are given."""

from __future__ import annotations

import pytest

from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.trace.frames import decode_trace
from protocols.dlms.trace.pairs import TracePairs
from tests.support.dlms.bench import AGREERS, GENERAL_POLICIES, SIGNERS, SUITE_POLICIES, Joined, SmallMeter

SUITES = [name for name in GENERAL_POLICIES if "general-glo" not in name]


def talked(name: str) -> tuple[bytes, AssociationSettings]:
    policy, settings = {**GENERAL_POLICIES, **SUITE_POLICIES}[name]
    both = Joined(SmallMeter({48: policy}), settings)
    both.associate()
    both.get(1, "0-0:96.1.0*255")
    wire = b"".join(part for pair in zip(both.to_server, both.to_client, strict=True) for part in pair)
    assert len(wire) < MAX_OCTETS
    return wire, settings


def pairs_of(settings: AssociationSettings, suite: int) -> TracePairs:
    agreement, signing = settings.peer.agreement, settings.peer.signing
    assert agreement is not None
    assert signing is not None
    return TracePairs(
        master=settings.master,
        agreement=settings.own.agreement,
        agreement_peer=agreement.key,
        signers=(signing.key, SIGNERS[suite, "client"].public_key()),
    )


@pytest.mark.parametrize("name", SUITES)
def test_the_client_s_keys_open_what_the_meter_answers(name: str) -> None:
    suite = int(name[6])
    wire, settings = talked(name)
    said = "\n".join(decode_trace(wire, keys=settings.keys, pairs=pairs_of(settings, suite)).lines())
    assert "30 30 30 30 30 30 30 37" in said or "00000007" in said
    assert "wrong" not in said
    if "signed" in name:
        assert "signature: right" in said
    if "-agreed" in name and "static" not in name:
        assert "signature of the ephemeral key: right" in said


@pytest.mark.parametrize("suite", [1, 2])
def test_proofs_by_ecdsa_are_checked_with_the_certificates(suite: int) -> None:
    wire, settings = talked(f"suite-{suite}-ecdsa")
    said = decode_trace(wire, keys=settings.keys, pairs=pairs_of(settings, suite)).lines()
    steps = [line.rpartition(": ")[2] for line in said if "HLS pass 3" in line or "HLS pass 4" in line]
    assert steps == ["right", "right"]
    strangers = TracePairs(signers=(AGREERS[suite, "client"].public_key(),))
    said = decode_trace(wire, keys=settings.keys, pairs=strangers).lines()
    steps = [line.rpartition(": ")[2] for line in said if "HLS pass 3" in line or "HLS pass 4" in line]
    assert steps == ["wrong", "wrong"]


@pytest.mark.parametrize("name", SUITES)
def test_without_its_keys_a_trace_says_what_is_missing(name: str) -> None:
    wire, settings = talked(name)
    found = decode_trace(wire, keys=settings.keys, pairs=TracePairs())
    said = "\n".join(found.lines())
    assert found.problem is None
    if "identified" not in name:
        assert "not deciphered: its key is" in said
        assert "not given" in said
