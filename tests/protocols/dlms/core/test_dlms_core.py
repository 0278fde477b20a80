"""Client core and server core: every mechanism, protection and form; lists and blocks both ways."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu import gbt
from protocols.dlms.apdu.conformance import BUILT, Conformance, service_names
from protocols.dlms.apdu.gbt import BlockTransfer, GeneralBlock
from protocols.dlms.apdu.lists import ActionListRequest, GetListRequest, Outcome, SetListRequest, Target
from protocols.dlms.apdu.services import ActionRequest, SetRequest
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.outcomes import (
    Associated,
    Outcomes,
    Pushed,
    Released,
    RequestDone,
    RequestRefused,
    ValueRead,
)
from protocols.dlms.data.types import NULL, integer, octets, text
from protocols.dlms.framing import wrapper
from protocols.dlms.security import ciphering, hls
from protocols.dlms.security.ciphered_forms import Form
from protocols.dlms.security.ciphering import KeySet
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.model import AssociationPolicy
from protocols.errors import LocalError, MeterConfigError, MeterProtocolError, ProtocolError, SecurityFailure
from protocols.session import Auth, Protection, ReleaseMode
from tests.support.dlms.bench import AK, EK, KEYS, LONG_TEXT, TITLE, Joined, SmallMeter, o

SECRET = b"0123456789ABCDEF"
SERIAL = Target(1, o("0-0:96.1.0"), 2)
NOTE = Target(1, o("0-0:96.13.0"), 2)
LONG = text("y" * 3000)


def association(
    auth: Auth,
    *,
    ciphered: bool = True,
    protection: Protection = Protection.AUTHENTICATED_ENCRYPTED,
    general: bool = False,
    dedicated: bool = False,
) -> tuple[AssociationPolicy, AssociationSettings]:
    policy = AssociationPolicy(
        auth=auth,
        ciphered=ciphered,
        protection=protection,
        secret=SECRET if auth.needs_secret else None,
        encryption_key=EK,
        authentication_key=AK,
        may_write=True,
    )
    wanted = AssociationSettings(
        auth=auth,
        ciphered=ciphered,
        protection=protection,
        secret=SECRET if auth.needs_secret else None,
        keys=KEYS,
        general=general,
        dedicated_key=dedicated,
    )
    return policy, wanted


def everything(joined: Joined, meter: SmallMeter) -> None:
    """Read, write and act: short, long, and in lists."""
    meter.attributes["0-0:96.13.0*255", 2] = LONG_TEXT
    meter.writable = {("0-0:96.13.0*255", 2), ("0-0:96.1.0*255", 2)}
    assert isinstance(joined.associate()[-1], Associated)
    assert joined.get(1, "0-0:96.13.0*255") == ValueRead.of(LONG_TEXT)
    targets = (SERIAL, Target(1, o("0-0:9.9.9"), 2), NOTE)
    joined.client.request(GetListRequest(targets=targets))
    assert joined.run() == [Outcomes((Outcome(0, octets(b"00000007")), Outcome(4), Outcome(0, LONG_TEXT)))]
    joined.client.request(SetRequest(target=Target(1, NOTE.obis, 2), value=LONG))
    assert joined.run() == [RequestDone()]
    assert meter.attributes["0-0:96.13.0*255", 2] == LONG
    joined.client.request(SetListRequest(targets=(SERIAL, NOTE), values=(octets(b"8"), LONG_TEXT)))
    assert joined.run() == [Outcomes((Outcome(0), Outcome(0)))]
    assert meter.attributes["0-0:96.1.0*255", 2] == octets(b"8")
    echo = ActionRequest(target=Target(9, o("0-0:10.0.99"), 1), parameter=LONG)
    joined.client.request(echo)
    assert joined.run() == [RequestDone(LONG)]
    acts = (Target(9, o("0-0:10.0.99"), 1), Target(70, o("0-0:96.3.10"), 1))
    joined.client.request(ActionListRequest(targets=acts, parameters=(LONG, NULL)))
    assert joined.run() == [Outcomes((Outcome(0, LONG), Outcome(0)))]
    assert not meter.relay_closed
    joined.client.release()
    assert joined.run() == [Released()]


@pytest.mark.parametrize("form", ["glo", "general", "dedicated", "general-dedicated"])
@pytest.mark.parametrize("protection", list(Protection))
@pytest.mark.parametrize("auth", [Auth.NONE, Auth.LLS, Auth.HLS2, Auth.HLS_GMAC])
def test_every_protection_and_form(auth: Auth, protection: Protection, form: str) -> None:
    policy, wanted = association(
        auth, protection=protection, general="general" in form, dedicated="dedicated" in form
    )
    meter = SmallMeter({48: policy})
    joined = Joined(meter, wanted, limits=ServerSettings(max_pdu=600))
    everything(joined, meter)
    clear = b"00000007" in b"".join(joined.to_client)
    assert clear is (protection is Protection.AUTHENTICATED)
    expected = {"glo": 0xC8, "general": 0xDB, "dedicated": 0xD0, "general-dedicated": 0xDC}[form]
    assert any(sent[8] == expected for sent in joined.to_server)


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("ciphered", [True, False])
@pytest.mark.parametrize("auth", [auth for auth in Auth if auth is not Auth.HLS_ECDSA])
def test_every_mechanism(auth: Auth, ciphered: bool, framing: str) -> None:
    policy, wanted = association(auth, ciphered=ciphered)
    meter = SmallMeter({48: policy})
    everything(Joined(meter, wanted, framing=framing, limits=ServerSettings(max_pdu=600)), meter)


@pytest.mark.parametrize("auth", [a for a in Auth if a in hls.HLS and a is not Auth.HLS_ECDSA])
def test_a_wrong_proof_of_the_meter_is_refused(auth: Auth) -> None:
    policy, wanted = association(auth, ciphered=False)
    joined = Joined(SmallMeter({48: policy}), wanted)
    joined.tamper = lambda data: data[:-1] + bytes((data[-1] ^ 1,)) if len(joined.to_server) == 2 else data
    with pytest.raises(SecurityFailure):
        joined.associate()


def test_hls_by_the_formulas_of_the_green_book() -> None:
    client = hls.Party(title=b"CLIENT01", challenge=b"CtoS-challenge--")
    meter = hls.Party(title=b"METER001", challenge=b"StoC-challenge--")

    def answer(auth: Auth) -> bytes:
        return hls.prove(hls.Credentials(auth=auth, secret=SECRET), prover=client, verifier=meter)

    assert answer(Auth.HLS_MD5) == hashlib.md5(meter.challenge + SECRET).digest()
    assert answer(Auth.HLS_SHA1) == hashlib.sha1(meter.challenge + SECRET).digest()
    whole = SECRET + client.title + meter.title + meter.challenge + client.challenge
    assert answer(Auth.HLS_SHA256) == hashlib.sha256(whole).digest()
    with pytest.raises(MeterConfigError, match="HLS-GMAC needs"):
        answer(Auth.HLS_GMAC)


# --- general block transfer ---

SERVICE_BLOCKS = Conformance.BLOCK_SET | Conformance.BLOCK_ACTION


@pytest.mark.parametrize("auth", [Auth.NONE, Auth.HLS_GMAC])
@pytest.mark.parametrize(
    ("framing", "window"), [("wrapper", 1), ("wrapper", 3), ("wrapper", 63), ("hdlc", 1)]
)
def test_general_block_transfer_both_ways(auth: Auth, framing: str, window: int) -> None:
    policy, wanted = association(auth, ciphered=auth is not Auth.NONE)
    meter = SmallMeter({48: policy})
    limits = ServerSettings(
        max_pdu=200, prefer_gbt=True, gbt_window=window, conformance=BUILT & ~SERVICE_BLOCKS
    )
    joined = Joined(meter, replace(wanted, gbt_window=window), framing=framing, limits=limits)
    everything(joined, meter)
    if framing == "hdlc":
        return
    kinds = {data[8] for data in joined.to_server if len(data) > 8}
    assert gbt.TAG in kinds
    assert 0xC1 not in kinds


def test_without_gbt_on_both_sides_services_use_their_own_blocks() -> None:
    policy, wanted = association(Auth.NONE, ciphered=False)
    meter = SmallMeter({48: policy})
    narrow = BUILT & ~Conformance.GENERAL_BLOCK_TRANSFER
    joined = Joined(
        meter, replace(wanted, conformance=narrow), limits=ServerSettings(max_pdu=200, prefer_gbt=True)
    )
    everything(joined, meter)
    assert gbt.TAG not in {data[8] for data in joined.to_server}


@settings(max_examples=150)
@given(
    apdu=st.binary(min_size=1, max_size=700),
    size=st.integers(1, 60),
    windows=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    losses=st.lists(st.booleans(), max_size=120),
)
def test_blocks_arrive_whole_or_the_transfer_is_given_up(
    apdu: bytes, size: int, windows: tuple[int, int], losses: list[bool]
) -> None:
    sender, receiver = (BlockTransfer(size=size, window=w) for w in windows)
    lost = iter(losses)
    to_receiver, to_sender = list(sender.send(apdu)), list[GeneralBlock]()
    for _ in range(4000):
        if not to_receiver and not to_sender:
            to_receiver = list(sender.again())
        coming, to_receiver = [b for b in to_receiver if not next(lost, False)], []
        for block in coming:
            step = receiver.take(gbt.decode(gbt.encode(block)))
            to_sender += step.send
            if step.apdu is not None:
                assert step.apdu == apdu
                return
        going, to_sender = [b for b in to_sender if not next(lost, False)], []
        for block in going:
            to_receiver += sender.take(gbt.decode(gbt.encode(block))).send
    pytest.fail("the transfer neither ended nor was given up")


@given(
    st.builds(
        GeneralBlock,
        number=st.integers(0, 0xFFFF),
        acknowledged=st.integers(0, 0xFFFF),
        window=st.integers(0, 63),
        last=st.booleans(),
        streaming=st.booleans(),
        data=st.binary(max_size=300),
    )
)
def test_a_block_survives_the_round_trip(block: GeneralBlock) -> None:
    encoded = gbt.encode(block)
    assert gbt.decode(encoded) == block
    for wrong in (encoded[:-1], encoded + b"\0"):
        with pytest.raises(MeterProtocolError):
            gbt.decode(wrong)


def test_bounds_of_general_block_transfer() -> None:
    with pytest.raises(LocalError):
        BlockTransfer(size=0)
    with pytest.raises(LocalError, match="more blocks than"):
        BlockTransfer(size=1).send(bytes(70_000))
    receiver = BlockTransfer(size=100)
    with pytest.raises(MeterProtocolError, match="acknowledged, 0 were sent"):
        receiver.take(GeneralBlock(number=1, acknowledged=4, data=b"x"))
    for number in range(1, 18):
        receiver.take(GeneralBlock(number=number, acknowledged=0, streaming=True, data=bytes(60_000)))
    with pytest.raises(MeterProtocolError, match="more than"):
        receiver.take(GeneralBlock(number=18, acknowledged=0, streaming=True, data=bytes(60_000)))
    stuck = BlockTransfer(size=100)
    for _ in range(gbt.MAX_ROUNDS):
        stuck.take(GeneralBlock(number=9, acknowledged=0, data=b"x"))
    with pytest.raises(MeterProtocolError, match="brought nothing new"):
        stuck.take(GeneralBlock(number=9, acknowledged=0, data=b"x"))


# --- what is refused ---


def test_a_plain_answer_passes_only_where_that_is_configured() -> None:
    policy, wanted = association(Auth.LLS)
    joined = Joined(SmallMeter({48: policy}), replace(wanted, accept_plain=True))
    joined.associate()
    plain = bytes.fromhex("C401C100090401020304")
    joined.tamper = lambda _: wrapper.encode(1, 48, plain)
    assert joined.get(1, "0-0:96.1.0*255") == ValueRead(plain[4:])


def test_a_ciphered_answer_where_none_was_agreed_is_refused() -> None:
    joined = Joined(SmallMeter({48: AssociationPolicy(auth=Auth.NONE)}), AssociationSettings())
    joined.associate()
    joined.tamper = lambda _: wrapper.encode(
        1, 48, ciphering.protect_apdu(KEYS, TITLE, 1, b"\xc4\x01\xc1\x00\x00")
    )
    with pytest.raises(SecurityFailure, match="no ciphering was agreed"):
        joined.get(1, "0-0:96.1.0*255")


@pytest.mark.parametrize("protection", [Protection.AUTHENTICATED, Protection.ENCRYPTED])
def test_a_weaker_protection_than_agreed_is_refused(protection: Protection) -> None:
    policy, wanted = association(Auth.LLS, protection=protection)
    strong = replace(wanted, protection=Protection.AUTHENTICATED_ENCRYPTED)
    with pytest.raises(ProtocolError):
        Joined(SmallMeter({48: policy}), strong).associate()


@pytest.mark.parametrize(
    ("control", "reason"), [(0x31, "suite 1 where 0 is set"), (0x70, "broadcast"), (0xB0, "compressed")]
)
def test_what_suite_0_does_not_have_is_named(control: int, reason: str) -> None:
    apdu = ciphering.protect_apdu(KEYS, TITLE, 1, b"\xc4\x01\xc1\x00\x00")
    with pytest.raises(SecurityFailure, match=reason):
        ciphering.unprotect_apdu(KEYS, TITLE, apdu[:2] + bytes((control,)) + apdu[3:])


def test_the_dedicated_key_is_asked_for_only_where_there_is_one() -> None:
    apdu = ciphering.protect_apdu(KEYS, TITLE, 1, b"\xc4\x01\xc1\x00\x00", form=Form.DED)
    assert ciphering.unprotect_apdu(KeySet(keys=KEYS, dedicated=KEYS), TITLE, apdu).form is Form.DED
    with pytest.raises(SecurityFailure, match="none was agreed"):
        ciphering.unprotect_apdu(KEYS, TITLE, apdu)


def test_an_answer_to_another_request_is_told_by_its_invoke_id() -> None:
    joined = Joined(SmallMeter({48: AssociationPolicy(auth=Auth.NONE)}), AssociationSettings())
    joined.associate()
    joined.get(1, "0-0:96.1.0*255")
    late = joined.to_client[-1]
    joined.tamper = lambda _: late
    with pytest.raises(MeterProtocolError, match="invoke id 1, 2 was asked"):
        joined.get(1, "0-0:96.1.1*255")


def test_a_notification_between_request_and_answer_is_no_answer() -> None:
    joined = Joined(SmallMeter({48: AssociationPolicy(auth=Auth.NONE)}), AssociationSettings())
    joined.associate()
    push = bytes.fromhex("0F00000001000600000005")
    joined.tamper = lambda data: wrapper.encode(1, 48, push) + data
    joined.client.request(ActionRequest(target=Target(70, o("0-0:96.3.10"), 1), parameter=integer(0)))
    assert joined.run() == [Pushed(push), RequestRefused(3)]


def test_a_release_may_be_left_out_or_protected() -> None:
    policy, wanted = association(Auth.HLS2)
    for mode in (ReleaseMode.NONE, ReleaseMode.PROTECTED):
        joined = Joined(SmallMeter({48: policy}), replace(wanted, release=mode))
        joined.associate()
        assert joined.run(joined.client.release()) == [Released()]
        assert (joined.to_server[-1][8] == 0x62) is (mode is ReleaseMode.PROTECTED)


def test_a_meter_that_knows_no_release_has_let_go_all_the_same() -> None:
    joined = Joined(SmallMeter(), AssociationSettings(), client=16)
    joined.associate()
    joined.tamper = lambda _: wrapper.encode(1, 16, bytes.fromhex("D80202"))
    assert joined.run(joined.client.release()) == [Released()]


def test_names_of_services() -> None:
    assert service_names(0x00001E1D) == (
        "get-blocks", "set-blocks", "action-blocks", "lists",
        "get", "set", "selective-access", "action",
    )  # fmt: skip
