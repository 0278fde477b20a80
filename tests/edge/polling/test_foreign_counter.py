"""Another program used a meter's counter: one refusal, whatever it looks like and whenever it comes, costs no poll."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.acse import Aare
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.links import ServedAssociation
from protocols.simulator.faults.script import FaultScript
from tests.support.edge.half_hour import WARM, PolledSite, gmac, polled

pytestmark = pytest.mark.virtual_time

NEWS, NOTHING = 12, 5
"""Round trips at most of a poll in which a refusal comes, and of the next one."""
MORE = {
    ("wrapper", "not allowed", 2): 13,
    ("wrapper", "silence", 2): 41,
    ("hdlc", "not allowed", 2): 18,
    ("hdlc", "silence", 0): 34,
    ("hdlc", "silence", 1): 35,
    ("hdlc", "silence", 2): 91,
}
"""A meter that seems to have restarted is asked for one attribute first; one that falls silent on a list gets no more
lists in this poll, and on HDLC is asked by RR every 0.1 s."""
HALFWAY = 13
"""On HDLC, where our association was begun already when the other program came."""
USED = 500
"""Counters that the other program used."""
GET, LONG = 0xC8, 130
"""Tag of a ciphered GET, and the octets of one that asks for a list."""
REFUSED = b"\xd8"
ANSWERS = {
    "counter named": None,
    "counter error alone": [bytes.fromhex("D80106")],
    "cannot decipher": [bytes.fromhex("D80105")],
    "cannot decipher, by a service error": [bytes.fromhex("0E060006")],
    "not allowed": [bytes.fromhex("D80101")],
    "rejected as an association is": [
        acse.encode_aare(Aare(result=acse.REJECTED, diagnostic=acse.DIAGNOSTIC_FAILURE))
    ],
    "silence": [],
}
OF_ASSOCIATIONS = "rejected as an association is"
MOMENTS = (0, 1, 2)
"""At the AARQ, at HLS pass 3, at the first list; an AARE answers no list."""


@dataclass
class Stranger:
    """Lets another program use the counter before the nth ciphered request; what is refused then is answered so."""

    p: PolledSite
    at: int
    answer: list[bytes] | None
    seen: int = 0
    armed: bool = False
    refused: int = 0

    def install(self) -> None:
        meter, client = self.p.site.meter, self.p.site.settings.client
        true = meter.associate

        def associate(address: int, settings: ServerSettings) -> ServedAssociation:
            inner = true(address, settings)
            return _Heard(inner, self) if address == client else inner

        object.__setattr__(meter, "associate", associate)

    def handle(self, inner: ServedAssociation, octets: bytes) -> list[bytes]:
        if not self.armed:
            return inner.handle(octets)
        if self.seen == self.at:
            model = self.p.site.meter.household
            model.note_frame_counter(48, model.frame_counter(48) + USED)
        self.seen += 1
        answers = inner.handle(octets)
        if answers and answers[0][:1] == REFUSED and answers[0][2:3] == b"\x06":
            self.refused += 1
            return answers if self.answer is None else self.answer
        return answers


@dataclass
class LongOnesBreak:
    """A meter that can decipher no long request: no list."""

    def install(self, p: PolledSite) -> None:
        meter, client = p.site.meter, p.site.settings.client
        true = meter.associate

        def associate(address: int, settings: ServerSettings) -> ServedAssociation:
            inner = true(address, settings)
            return _Heard(inner, self) if address == client else inner

        object.__setattr__(meter, "associate", associate)

    def handle(self, inner: ServedAssociation, octets: bytes) -> list[bytes]:
        return [bytes.fromhex("D80105")] if octets[0] == GET and len(octets) > LONG else inner.handle(octets)


async def test_a_meter_that_never_deciphers_a_list_is_asked_one_by_one_from_its_second_poll_on() -> None:
    async with polled(FaultScript()) as p:
        LongOnesBreak().install(p)
        outcomes = []
        for _ in range(3):
            report, _ = await p.poll()
            outcomes.append(report.ok)
            p.pass_time()
        assert outcomes[1:] == [True, True], outcomes


class _Heard:
    def __init__(self, inner: ServedAssociation, stranger: Stranger | LongOnesBreak) -> None:
        self._inner, self._stranger = inner, stranger

    def handle(self, octets: bytes) -> list[bytes]:
        return self._stranger.handle(self._inner, octets)


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize(
    ("answer", "at"),
    [(answer, at) for answer in ANSWERS for at in MOMENTS if (answer, at) != (OF_ASSOCIATIONS, 2)],
)
async def test_a_counter_that_another_used_costs_no_poll(framing: str, answer: str, at: int) -> None:
    changes = gmac() if answer == "counter named" else {}
    async with polled(FaultScript(), framing, **changes) as p:
        stranger = Stranger(p, at, ANSWERS[answer])
        stranger.install()
        for _ in range(WARM):
            await p.poll()
            p.pass_time()
        stranger.armed = True
        report, cost = await p.poll()
        assert (report.error_code, stranger.refused >= 1) == (None, True), report.error
        assert cost.trips <= MORE.get((framing, answer, at), HALFWAY if framing == "hdlc" and at else NEWS)
        p.pass_time()
        report, cost = await p.poll()
        assert report.ok, report.error
        assert cost.trips <= NOTHING + (answer == "silence"), "our own counter goes first again"
