"""Opening an association: counters that the meter accepts, and refusals that say what to look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.association_opener import association_settings, counter_object
from protocols.dlms.data.types import Data, double_long_unsigned
from protocols.dlms.security.suites import MAX_COUNTER
from protocols.dlms.server.model import AccessDenied, AssociationPolicy
from protocols.errors import (
    AssociationRefused,
    CounterNotBelieved,
    InvocationCounterRefused,
    LineError,
    MeterConfigError,
    MeterError,
    MeterSilent,
    SecurityFailure,
)
from protocols.meters.counters import MAX_FIRST, MAX_JUMP, FileCounters
from protocols.reading import RelayState
from protocols.session import Auth, DlmsSettings
from tests.support.dlms.bench import POLICIES, SmallMeter
from tests.support.dlms.fault_line import Fault, FaultLine
from tests.support.dlms.site import SECRETS, Site, site

pytestmark = pytest.mark.virtual_time

COUNTER = "0-0:43.1.3*255"


class CounterMeter(SmallMeter):
    """Shows a counter of its own choice, or none; counts how often it is asked, and openings."""

    def __init__(self, policy: AssociationPolicy, *, public: bool = True) -> None:
        super().__init__({48: policy})
        if not public:
            self.policies[16] = AssociationPolicy(auth=Auth.LLS, secret=b"unknown!")
        self.shown: Callable[[int], int | None] = lambda asked: self.frame_counter(48)
        self.asked: list[str] = []

    def get(self, client: int, target: Target) -> Data:
        if target.obis.c == 43:
            self.asked.append(str(target.obis))
            shown = self.shown(len(self.asked))
            if shown is None:
                raise AccessDenied(4)
            return double_long_unsigned(shown)
        return super().get(client, target)


def meter_site(meter: SmallMeter, name: str, framing: str = "wrapper") -> Site:
    return Site(meter, FaultLine(meter, framing, [], max_pdu=560), name, framing)


async def opens(s: Site, **changes: Any) -> None:
    async with s.open(s.spec(**changes)) as session:
        assert await session.relay() is RelayState.CLOSED


@pytest.mark.parametrize("name", ["hls2", "gmac", "gmac-plain", "lls-ciphered"])
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_a_counter_that_was_shown_too_low_is_read_again_once(name: str, framing: str) -> None:
    meter = CounterMeter(POLICIES[name][0])
    meter.counters[48] = 4090
    meter.shown = lambda asked: 811 if asked == 1 else meter.frame_counter(48)
    s = meter_site(meter, name, framing)
    await opens(s)
    assert meter.asked == [COUNTER, COUNTER]
    assert s.counters.given[0] == 812
    assert max(s.counters.given) >= 4091
    assert len(set(s.counters.given)) == len(s.counters.given)


@pytest.mark.parametrize("name", ["hls2", "gmac", "lls-ciphered"])
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_our_own_counter_goes_first_and_the_meter_s_is_read_after_a_refusal_alone(
    name: str, framing: str
) -> None:
    meter = CounterMeter(POLICIES[name][0])
    s = meter_site(meter, name, framing)
    await opens(s)
    assert meter.asked == [COUNTER], "the key is not proved yet"
    for _ in range(3):
        await opens(s)
    assert meter.asked == [COUNTER]
    meter.counters[48] += 500  # a hand-held unit with our keys
    await opens(s)
    assert meter.asked == [COUNTER, COUNTER]
    await opens(s)
    assert meter.asked == [COUNTER, COUNTER]


class Ignoring(FaultLine):
    """A meter that does not answer a counter that it has seen, or hangs up; `opened` counts AARQs with a title."""

    how = "silence"
    meter: CounterMeter

    async def send(self, data: bytes) -> None:
        counters = dict(self.meter.counters)
        await super().send(data)
        if self.meter.counters == counters and b"\xa1\x09\x06\x07\x60\x85\x74\x05\x08\x01\x03" in data:
            self.buffer = b""
            if self.how == "hang-up":
                self._server = None


@pytest.mark.parametrize("how", ["silence", "hang-up"])
async def test_a_meter_that_does_not_answer_a_counter_it_has_seen_is_asked_for_it(how: str) -> None:
    meter = CounterMeter(POLICIES["hls2"][0])
    s = meter_site(meter, "hls2")
    s.line = Ignoring(meter, "wrapper", [], max_pdu=560)
    s.line.how, s.line.meter = how, meter
    await opens(s)
    meter.counters[48] += 500
    await opens(s)
    assert meter.asked == [COUNTER, COUNTER]


async def test_after_a_failure_the_meter_s_counter_goes_first_until_the_key_is_proved_again() -> None:
    """A dead meter costs the line two timeouts once, not at each poll."""
    meter = CounterMeter(POLICIES["hls2"][0])
    s = meter_site(meter, "hls2")
    await opens(s)
    alive, s.line = s.line, FaultLine(meter, "wrapper", [Fault(0, "silence")] * 9)
    with pytest.raises(MeterSilent):
        await opens(s)
    s.line = alive
    await opens(s)
    assert meter.asked == [COUNTER, COUNTER]
    await opens(s)
    assert meter.asked == [COUNTER, COUNTER]


async def test_the_last_refusal_names_both_counters_and_the_object() -> None:
    class Lying(CounterMeter):
        def frame_counter(self, client: int) -> int:
            return 4090 if client == 48 else 0

    meter = Lying(POLICIES["hls2"][0])
    meter.shown = lambda asked: 811
    s = meter_site(meter, "hls2")
    s.counters.next = lambda key, at_least=0: 812  # type: ignore[method-assign]
    text = r"^invocation counter 812 is behind the meter's 4,090: read 0\.0\.43\.1\.3\.255 through client 16"
    with pytest.raises(InvocationCounterRefused, match=text) as caught:
        await opens(s)
    assert (caught.value.own_counter, caught.value.meter_counter) == (812, 4090)


@pytest.mark.parametrize("public", [True, False])
async def test_without_a_counter_to_read_the_refusal_tells_the_floor(public: bool) -> None:
    """The object is missing, or the public client is refused altogether."""
    meter = CounterMeter(POLICIES["gmac"][0], public=public)
    meter.counters[48] = 4090
    meter.shown = lambda asked: None
    s = meter_site(meter, "gmac")
    await opens(s)
    assert s.counters.given[:2] == [1, 4091]
    before = len(meter.asked)
    await opens(s)
    assert len(meter.asked) == before, "ours was proved: it is tried first"


async def test_an_empty_counter_object_is_never_asked_for_and_another_one_is_the_one_asked() -> None:
    meter = CounterMeter(POLICIES["hls2"][0])
    s = meter_site(meter, "hls2")
    await opens(s, counter_object="")
    assert meter.asked == []
    meter.counters[48] = 500
    await opens(s, counter_object="")  # the refusal told the counter
    assert meter.asked == []
    s.counters.confirmed.clear()
    await opens(s, counter_object="0.1.43.1.9.255")
    assert meter.asked == ["0-1:43.1.9*255"]


async def test_a_wrong_password_is_not_tried_twice() -> None:
    """The meter took the counter, so the counter does not explain the refusal, and a lock-out might follow."""
    meter = CounterMeter(POLICIES["lls-ciphered"][0])
    meter.counters[48] = 100
    s = meter_site(meter, "lls-ciphered")
    with pytest.raises(AssociationRefused):
        await opens(s, password_ref="wrong")
    assert len([c for c in s.counters.given if c > 100]) == 1
    await opens(s)


async def test_a_counter_near_its_end_is_a_security_failure() -> None:
    meter = CounterMeter(POLICIES["hls2"][0])
    meter.shown = lambda asked: MAX_COUNTER - 10
    s = meter_site(meter, "hls2")
    s.counters.believes = lambda key, told: True  # type: ignore[method-assign]
    with pytest.raises(SecurityFailure, match="keys must be changed"):
        await opens(s)


@pytest.mark.parametrize("told", [MAX_COUNTER - 5000, MAX_FIRST + 1])
async def test_one_meter_that_lies_moves_no_counter_and_is_read_with_ours(told: int) -> None:
    """Whoever stands on the line can answer the public client: one read moved a whole lot's key to its end."""
    meter = CounterMeter(POLICIES["hls2"][0])
    meter.shown = lambda asked: told
    s = meter_site(meter, "hls2")
    await opens(s)
    assert max(s.counters.given) < 100
    await opens(s)
    assert max(s.counters.given) < 200


@pytest.mark.parametrize("public", [True, False])
async def test_a_far_counter_with_a_refusal_is_not_believed_and_told(public: bool) -> None:
    """A refusal has no tag: whoever sent it may have made the number up, too."""
    meter = CounterMeter(POLICIES["hls2"][0], public=public)
    meter.counters[48] = MAX_FIRST + 4090
    s = meter_site(meter, "hls2")
    with pytest.raises(CounterNotBelieved, match=rf"counters reset METER --to {MAX_FIRST + 4091}") as caught:
        await opens(s)
    assert caught.value.told == MAX_FIRST + 4090
    assert max(s.counters.given) < 10, "nothing was moved"


async def test_jumps_add_up_to_no_more_than_one_until_the_meter_has_proved_the_key() -> None:
    meter = CounterMeter(POLICIES["hls2"][0])
    meter.counters[48] = MAX_FIRST - 10
    s = meter_site(meter, "hls2")
    await opens(s, counter_object="0.0.43.1.3.255")
    assert min(s.counters.confirmed.values()) > MAX_FIRST - 10, "its answers had tags"
    meter.counters[48] += MAX_JUMP - 100
    await opens(s)
    used = max(s.counters.given)
    meter.shown = lambda asked: used + MAX_JUMP + asked * 1000
    meter.policies[48] = AssociationPolicy(auth=Auth.LLS, secret=b"unknown!")
    for _ in range(3):
        with pytest.raises((AssociationRefused, SecurityFailure)):
            await opens(s)
    assert max(s.counters.given) < used + 50


def test_counter_objects_by_setting() -> None:
    base = DlmsSettings(client=48)
    assert str(counter_object(base)) == COUNTER
    assert counter_object(replace(base, client=16)) is None
    assert counter_object(replace(base, client=99)) is None
    assert counter_object(replace(base, counter_object="")) is None
    assert str(counter_object(replace(base, client=99, counter_object="0-0:43.1.9*255"))) == "0-0:43.1.9*255"
    with pytest.raises(MeterConfigError, match="counter_object"):
        counter_object(replace(base, counter_object="here"))
    with pytest.raises(MeterConfigError, match="hls_object"):
        association_settings(replace(base, hls_object="there"), SECRETS)


steps = st.lists(
    st.one_of(st.sampled_from(["crash", "open", "half"]), st.integers(1, 3000)), min_size=1, max_size=12
)


def test_no_counter_is_used_twice_over_crashes_and_meters_that_jump(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A crash loses what is in memory: the reservation on the disk is all that is left."""

    @profile(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(steps=steps)
    def run(steps: list[str | int]) -> None:
        path = tmp_path_factory.mktemp("c") / "counters.json"
        asyncio.run(_over_crashes(path, steps))

    run()


async def _over_crashes(path: Path, steps: list[str | int]) -> None:
    meter = CounterMeter(POLICIES["gmac"][0])
    seen: list[int] = []
    store = FileCounters(path, 4)

    class Watched:
        def next(self, key: str, at_least: int = 0) -> int:
            given = store.next(key, at_least)
            seen.append(given)
            return given

        def believes(self, key: str, told: int) -> bool:
            return store.believes(key, told)

        def confirm(self, key: str, counter: int) -> None:
            store.confirm(key, counter)

        def proven(self, key: str) -> bool:
            return store.proven(key)

        def failed(self, key: str) -> None:
            store.failed(key)

    s = meter_site(meter, "gmac")
    s.counters = Watched()  # type: ignore[assignment]
    for step in steps:
        match step:
            case int() as jump:
                meter.counters[48] = meter.frame_counter(48) + jump
            case "crash":
                store.close()
                store = FileCounters(path, 4)
            case "half":
                s.line = FaultLine(meter, "wrapper", [Fault(150, "close"), Fault(130, "close")])
                with suppress(LineError, MeterError):
                    await opens(s)
                s.line = FaultLine(meter, "wrapper", [])
            case _:
                await opens(s)
    store.close()
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)


# what a field engineer reads

REFUSALS: list[tuple[str, dict[str, object], type[MeterError], str]] = [
    (
        "lls",
        {"password_ref": "wrong"},
        AssociationRefused,
        r"association rejected: authentication failure \(LLS password wrong\?\): see password_ref",
    ),
    (
        "lls-ciphered",
        {"password_ref": "wrong"},
        AssociationRefused,
        r"authentication failure \(LLS password or global key wrong\?\): see password_ref, encryption_key_ref",
    ),
    (
        "hls2",
        {"password_ref": "wrong"},
        AssociationRefused,
        r"does not accept our HLS answer \(read-write denied\) \(HLS key wrong\?\): see password_ref",
    ),
    (
        "hls2",
        {"encryption_key_ref": "badkey"},
        AssociationRefused,
        r"authentication failure \(global key wrong\?\): see encryption_key_ref, authentication_key_ref",
    ),
    (
        "gmac",
        {"authentication_key_ref": "badkey"},
        AssociationRefused,
        r"\(encryption or authentication key wrong\?\): see encryption_key_ref, authentication_key_ref",
    ),
    (
        "gmac-plain",
        {"encryption_key_ref": "badkey"},
        AssociationRefused,
        r"does not accept our HLS answer .*\(encryption or authentication key wrong\?\)",
    ),
    (
        "none",
        {"auth": Auth.LLS, "password_ref": "password"},
        AssociationRefused,
        r"authentication mechanism required \(authentication lls not offered to this client\?\): see auth, client",
    ),
    (
        "none",
        {"ciphered": True, "encryption_key_ref": "ek", "authentication_key_ref": "ak"},
        AssociationRefused,
        r"application context not supported \(ciphering not wanted for this client\?\): see ciphered, client",
    ),
    (
        "hls2",
        {"ciphered": False},
        AssociationRefused,
        r"application context not supported \(ciphering wanted for this client\?\): see ciphered, encryption",
    ),
    (
        "none",
        {"client": 33},
        AssociationRefused,
        r"authentication failure \(password wanted for this client\?\): see auth, client",
    ),
    (
        "none",
        {"server": 9},
        MeterSilent,
        r"no answer within 0.2 s to the association request \(AARQ\) \(client 48 or server 9 unknown to it\?\)",
    ),
]


@pytest.mark.parametrize(("name", "changes", "kind", "text"), REFUSALS)
async def test_refusals_say_the_likely_cause_and_the_setting(
    name: str, changes: dict[str, object], kind: type[MeterError], text: str
) -> None:
    async with site(name) as s:
        with pytest.raises(kind, match=text) as caught:
            await opens(s, **({"timeout": 0.2} | changes))
        assert "meter GEN:00000007, line test" in str(caught.value)
        await opens(s)


async def test_silence_on_hdlc_says_which_request_and_where_to_look() -> None:
    async with site("none", "hdlc") as s:
        text = r"connect request \(SNRM\) \(no meter at physical 99, server 1, .*\): see physical, server, the line"
        with pytest.raises(MeterSilent, match=text):
            await opens(s, physical=99, timeout=0.2)
        await opens(s)


async def test_silence_of_the_public_client_names_the_setting_that_leaves_it_out() -> None:
    async with site("hls2") as s:
        with pytest.raises(MeterSilent, match=r'server 7 unknown .*; counter_object = "" leaves out'):
            await opens(s, server=7, timeout=0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client": 0}, "client = 0: 1 to 127 is allowed"),
        ({"client": 128}, "client = 128: 1 to 127 is allowed"),
        ({"timeout": 0}, "timeout = 0: more than 0 to 120 is allowed"),
        (
            {"framing": "carrier pigeon"},
            "framing = 'carrier pigeon': one of wrapper, wrapper-udp, hdlc is allowed",
        ),
        ({"address_octets": 3}, "address_octets = 3: one of 0, 1, 2, 4 is allowed"),
        (
            {"companion": "dsmr"},
            "companion = 'dsmr': one of is15959, generic, idis, spodes, aidon, kamstrup, kaifa, iskra is allowed",
        ),
    ],
)
def test_settings_outside_their_limits_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeterConfigError, match=f"^{message}$"):
        DlmsSettings(**changes)
