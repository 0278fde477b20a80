"""`keep_open` in the configuration file keeps a meter's association between the polls of a running edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.file import load
from gateway.roles.central_files import make_directory_keys
from gateway.roles.edge import edge_role
from protocols.dlms.server.ports import serve_wrapper
from protocols.reading import ProfileName
from tests.support.dlms.bench import POLICIES, SmallMeter
from tests.support.dlms.site import NOW
from tests.support.fakes import ManualClock
from tests.support.tcp_record import Exchange, recording

AARQ, RLRQ = "a1090607608574050801", "6203800100"


@pytest.mark.parametrize(("keep_open", "openings"), [(600, 1), (0, 3)])
async def test_polls_share_an_association_as_configured(
    tmp_path: Path, keep_open: int, openings: int
) -> None:
    server = await serve_wrapper(SmallMeter({48: POLICIES["none"][0]}))
    wire: Exchange = []
    host, served_on = server.sockets[0].getsockname()[:2]
    async with recording(host, served_on, wire) as port:
        make_directory_keys(tmp_path / "keys")
        path = tmp_path / "edge.toml"
        path.write_text(
            f'[gateway]\nname = "edge-1"\ndata = "{tmp_path}/data"\nroles = ["edge"]\n'
            f'secrets = "{tmp_path}/keys"\n[directory]\nverify_key_ref = "directory-verify"\n'
            f'[[lines]]\nname = "ip"\nkind = "tcp"\nhost = "127.0.0.1"\nport = {port}\n'
            '[[meters]]\nmeter = "GEN:00000007"\nline = "ip"\nprofiles = ["instantaneous", "block_load"]\n'
            f"[meters.dlms]\nclient = 48\nkeep_open = {keep_open}\n"
        )
        async with edge_role(load(path), ManualClock(NOW)) as edge:
            for profile in (ProfileName.INSTANTANEOUS, ProfileName.BLOCK_LOAD, ProfileName.INSTANTANEOUS):
                report = await edge.poller.poll_meter("GEN:00000007", [profile])
                assert report.ok, report.error
            assert edge.lines["ip"].statistics().connects == 1
            assert len(edge.associations) == (1 if keep_open else 0)
        said = "".join(digits for way, digits in wire if way == ">")
        assert (said.count(AARQ), said.count(RLRQ)) == (openings, openings)
    server.close()
