"""Client core and server core joined in memory: every framing with every kind of association."""

from __future__ import annotations

from datetime import timedelta

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import RangeSelection
from protocols.dlms.apdu.services import ActionRequest, SetRequest
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.outcomes import Associated, LinkUp, Released, RequestDone, RequestRefused, ValueRead
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import integer, octets
from protocols.dlms.framing import wrapper
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import ServerSettings
from protocols.errors import AssociationRefused, MeterProtocolError, MeterRefused, SecurityFailure
from protocols.session import Auth
from tests.support.dlms.bench import (
    CLOCK,
    EK,
    GENERAL_POLICIES,
    HLS_KEY,
    KEYS,
    LONG_TEXT,
    POLICIES,
    START,
    SUITE_POLICIES,
    TITLE,
    Counter,
    Joined,
    SmallMeter,
    o,
)

FRAMINGS = ("wrapper", "hdlc")
ALL = POLICIES | SUITE_POLICIES | GENERAL_POLICIES


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ALL)
def test_associates_reads_writes_and_releases(framing: str, name: str) -> None:
    policy, settings = ALL[name]
    meter = SmallMeter({48: policy})
    joined = Joined(meter, settings, framing=framing)
    events = joined.associate()
    assert events[0] == LinkUp()
    assert isinstance(events[1], Associated)
    titled = policy.ciphered or policy.auth is Auth.HLS_GMAC
    assert events[1].system_title == (TITLE if titled else b"")
    assert joined.get(1, "0-0:96.1.0*255") == ValueRead.of(octets(b"00000007"))
    assert joined.get(1, "0-0:9.9.9*255") == RequestRefused(4)
    stamp = cosem_time.encode(START)
    joined.client.request(SetRequest(target=Target(8, CLOCK, 2), value=octets(stamp)))
    assert joined.run() == [RequestDone()]
    assert meter.clock_set == stamp
    action = ActionRequest(target=Target(70, o("0-0:96.3.10"), 1), parameter=integer(0))
    joined.client.request(action)
    assert joined.run() == [RequestDone()]
    assert not meter.relay_closed
    joined.client.release()
    assert joined.run() == [Released()]
    if policy.ciphered:
        assert b"00000007" not in b"".join(joined.to_client)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ["none", "hls2"])
def test_long_values_come_in_blocks_and_segments(framing: str, name: str) -> None:
    policy, settings = POLICIES[name]
    meter = SmallMeter({48: policy})
    meter.attributes["0-0:96.13.0*255", 2] = LONG_TEXT
    joined = Joined(meter, settings, framing=framing, limits=ServerSettings(max_pdu=560))
    joined.associate()
    assert joined.get(1, "0-0:96.13.0*255") == ValueRead.of(LONG_TEXT)
    assert len(joined.to_server) > 5000 / 560


@pytest.mark.parametrize("framing", FRAMINGS)
def test_range_selection_gives_the_rows_asked_for(framing: str) -> None:
    policy, settings = POLICIES["hls2"]
    joined = Joined(SmallMeter({48: policy}), settings, framing=framing)
    joined.associate()
    low, high = (cosem_time.encode(START + timedelta(hours=h)) for h in (1, 2))
    answer = joined.get(7, "1-0:99.1.0*255", 2, RangeSelection(CLOCK, 2, low, high))
    assert isinstance(answer, ValueRead)
    assert [row.items[2].value for row in answer.data.items] == [1, 2, 3]


def test_wrong_password_is_refused_with_a_hint() -> None:
    joined = Joined(SmallMeter({48: POLICIES["lls"][0]}), AssociationSettings(auth=Auth.LLS, secret=b"wrong"))
    with pytest.raises(
        AssociationRefused, match=r"rejected: authentication failure \(LLS password wrong\?\)"
    ):
        joined.associate()


def test_wrong_hls_key_is_refused_at_pass_three() -> None:
    settings = AssociationSettings(auth=Auth.HLS2, ciphered=True, secret=HLS_KEY[::-1], keys=KEYS)
    joined = Joined(SmallMeter({48: POLICIES["hls2"][0]}), settings)
    with pytest.raises(AssociationRefused, match=r"HLS key wrong\?"):
        joined.associate()


def test_wrong_global_key_is_refused_with_a_hint() -> None:
    keys = Keys(encryption=EK[::-1], authentication=KEYS.authentication)
    settings = AssociationSettings(auth=Auth.HLS2, ciphered=True, secret=HLS_KEY, keys=keys)
    joined = Joined(SmallMeter({48: POLICIES["hls2"][0]}), settings)
    with pytest.raises(AssociationRefused, match="global key"):
        joined.associate()


def test_a_used_counter_is_refused() -> None:
    policy, settings = POLICIES["hls2"]
    meter = SmallMeter({48: policy})
    meter.counters[48] = 10
    with pytest.raises(SecurityFailure, match=r"invocation counter 6 is behind the meter's 10: read"):
        Joined(meter, settings, counter=Counter(5)).associate()


def test_a_tampered_answer_fails_its_tag() -> None:
    policy, settings = POLICIES["gmac"]
    joined = Joined(SmallMeter({48: policy}), settings)
    joined.associate()
    joined.tamper = lambda data: data[:-1] + bytes((data[-1] ^ 1,))
    with pytest.raises(SecurityFailure, match="tag is wrong"):
        joined.get(1, "0-0:96.1.0*255")


def test_a_plain_answer_to_a_ciphered_request_is_refused() -> None:
    policy, settings = POLICIES["gmac"]
    joined = Joined(SmallMeter({48: policy}), settings)
    joined.associate()
    plain = bytes.fromhex("C401C100090401020304")
    joined.tamper = lambda _: bytes.fromhex("00010001003000") + bytes((len(plain),)) + plain
    with pytest.raises(SecurityFailure, match="not ciphered"):
        joined.get(1, "0-0:96.1.0*255")


def test_a_replayed_answer_is_refused() -> None:
    policy, settings = POLICIES["hls2"]
    joined = Joined(SmallMeter({48: policy}), settings)
    joined.associate()
    joined.get(1, "0-0:96.1.0*255")
    old = joined.to_client[-1]
    joined.tamper = lambda _: old
    with pytest.raises(SecurityFailure, match="does not rise"):
        joined.get(1, "0-0:96.1.0*255")


def test_an_answer_that_nothing_asked_for_is_an_error() -> None:
    joined = Joined(SmallMeter({48: POLICIES["none"][0]}), AssociationSettings())
    joined.associate()
    with pytest.raises(MeterProtocolError, match="nothing asked for"):
        joined.client.receive_data(bytes.fromhex("0001000100300008C401C10006000006"))


def test_blocks_out_of_order_are_refused() -> None:
    joined = Joined(SmallMeter({48: POLICIES["none"][0]}), AssociationSettings())
    joined.associate()
    joined.tamper = lambda _: bytes.fromhex("0001000100300010C402C1000000000300065A5A5A5A5A5A")
    with pytest.raises(MeterProtocolError, match="block 3 came"):
        joined.get(1, "0-0:96.1.0*255")


def test_an_exception_response_refuses_one_request_only() -> None:
    joined = Joined(SmallMeter({48: POLICIES["hls2"][0]}), POLICIES["hls2"][1])
    joined.associate()
    joined.tamper = lambda _: wrapper.encode(1, 48, bytes.fromhex("D80202"))
    with pytest.raises(MeterRefused, match="service unknown: service not supported"):
        joined.get(1, "0-0:96.1.0*255")
    joined.tamper = lambda data: data
    assert joined.get(1, "0-0:96.1.0*255") == ValueRead.of(octets(b"00000007"))


@pytest.mark.parametrize("after", [1, 2])
def test_an_exception_response_while_associating_is_a_refusal(after: int) -> None:
    joined = Joined(SmallMeter({48: POLICIES["hls2"][0]}), POLICIES["hls2"][1])
    refusal = wrapper.encode(1, 48, bytes.fromhex("D80202"))
    joined.tamper = lambda data: refusal if len(joined.to_server) == after else data
    with pytest.raises(AssociationRefused, match="service unknown: service not supported"):
        joined.associate()


def test_no_meter_may_take_the_challenge_or_title_of_the_client() -> None:
    policy, settings = POLICIES["hls2"]
    meter = SmallMeter({48: policy})
    meter.system_title = settings.system_title
    with pytest.raises(SecurityFailure, match="our own system title"):
        Joined(meter, settings).associate()


def test_secrets_do_not_show() -> None:
    shown = repr([POLICIES["hls2"], KEYS])
    assert "0123456789ABCDEF" not in shown
    assert "x0f" not in shown
    assert "\\x0e" not in shown
