"""Lists of writes and methods through a session on a real socket: each has its own outcome, none is repeated."""

from __future__ import annotations

import pytest

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import NULL, octets, text
from protocols.errors import NotSupported
from protocols.session import ReleaseMode
from tests.support.dlms.bench import ECHO, SmallMeter, o
from tests.support.dlms.site import site

pytestmark = pytest.mark.virtual_time

NOTE, SERIAL, NOTHING = (Target(1, o(name), 2) for name in ("0-0:96.13.0", "0-0:96.1.0", "0-0:9.9.9"))


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_each_write_of_a_list_has_its_outcome(framing: str) -> None:
    async with site("hls2", framing) as place:
        meter: SmallMeter = place.meter
        meter.writable = {("0-0:96.13.0*255", 2)}
        async with place.open() as session:
            values = (text("hello"), octets(b"x"))
            good, bad = await session.exchange.set_many((NOTE, NOTHING), values)
        assert good is None
        assert isinstance(bad, NotSupported)
        assert "write of 0-0:9.9.9*255#2" in str(bad)
        assert meter.attributes["0-0:96.13.0*255", 2] == text("hello")


async def test_each_method_of_a_list_has_its_outcome() -> None:
    async with site("hls2", "wrapper") as place:
        echo, relay = Target(9, o(ECHO[0][:-4]), 1), Target(70, o("0-0:96.3.10"), 1)
        async with place.open() as session:
            found = await session.exchange.run_many(
                (echo, relay, Target(9, NOTHING.obis, 1)), (text("e"), NULL, NULL)
            )
        assert found[:2] == [text("e"), None]
        assert isinstance(found[2], NotSupported)
        assert not place.meter.relay_closed


@pytest.mark.parametrize("mode", list(ReleaseMode))
async def test_an_association_ends_as_its_settings_say(mode: ReleaseMode) -> None:
    async with site("hls2", "wrapper") as place:
        for _ in range(2):
            async with place.open(place.spec(release=mode)) as session:
                assert (await session.identify()).serial == "00000007"
