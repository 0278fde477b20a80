"""What the simulator tells a newcomer to do works, and tables are printed where they fit."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from gateway.cli.output import fits
from tests.support.cli import Cli
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE


def test_a_table_is_printed_where_its_cells_fit_and_in_words_where_they_do_not() -> None:
    few, many = ({f"average voltage l{n}": "230.12 V" for n in range(count)} for count in (5, 13))
    assert fits([few])
    assert not fits([many])


def test_a_simulated_neighbourhood_can_be_read_as_it_says(cli: Cli, tmp_path: Path) -> None:
    program = "from gateway.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "simulate", "--meters", "10", "--folder", str(tmp_path / "town")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as simulated:
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
            assert re.search(r"secrets missing +0$", cli("check", *command[-2:]).out, re.MULTILINE)
        finally:
            simulated.send_signal(signal.SIGINT)
            simulated.wait(PATIENCE)
