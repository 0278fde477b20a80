"""What docs/dlms.md and the simulator tell a newcomer to do works: the library example, a neighbourhood's files."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from gateway.cli.output import fits
from protocols.session import Auth
from tests.support.cli import ROOT, Cli
from tests.support.town import Town
from tests.support.town_meters import address, one


def test_the_library_example_of_the_documentation_reads_a_meter(cli_town: Town, tmp_path: Path) -> None:
    meter = one(cli_town, auth=Auth.HLS2)
    dlms = meter.spec.dlms
    assert dlms is not None
    text = (ROOT / "docs" / "dlms.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(import asyncio.*?)```", text, re.DOTALL)
    assert found is not None
    host, port = address(cli_town, meter).removeprefix("tcp://").rsplit(":", 1)
    code = found[1].replace("10.0.0.7", host).replace("4059", port)
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    refs = (dlms.password_ref, dlms.encryption_key_ref, dlms.authentication_key_ref)
    for name, ref in zip(("hls", "ek", "ak"), refs, strict=True):
        assert ref is not None
        (keys / name).touch(mode=0o600)
        (keys / name).write_bytes((cli_town.folder / "town" / "keys" / ref).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"serial='{meter.serial}'" in done.stdout
    assert "1-0:1.29.0*255" in done.stdout


def test_a_table_is_printed_where_its_cells_fit_and_in_words_where_they_do_not() -> None:
    few, many = ({f"average voltage l{n}": "230.12 V" for n in range(count)} for count in (5, 13))
    assert fits([few])
    assert not fits([many])


def test_a_simulated_neighbourhood_can_be_read_as_it_says(cli: Cli, tmp_path: Path) -> None:
    program = "from gateway.cli.main import main; main()"
    simulated = subprocess.Popen(
        [sys.executable, "-c", program, "simulate", "--meters", "10", "--folder", str(tmp_path / "town")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert simulated.stdout is not None
        said = []
        for line in simulated.stdout:
            said.append(line.strip())
            if "Ctrl-C" in line:
                break
        text = "\n".join(said)
        assert re.search(r"^\w+:\d+ is at tcp://127\.0\.0\.1:\d+$", text, re.MULTILINE)
        command = next(line for line in said if line.startswith("meter-gateway read ")).split()[1:]
        assert "voltage" in cli(*command).out
        assert "secrets missing  0" in cli("check", *command[-2:]).out
    finally:
        simulated.send_signal(signal.SIGINT)
        simulated.wait(timeout=20)
