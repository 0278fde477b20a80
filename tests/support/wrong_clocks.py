"""An edge of a town whose clock is off by what a file says, and what the ledger came to by it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from tests.support import services
from tests.support.town import Town

LIVE = ("instantaneous", "prepayment", "nameplate")
EVIDENCE = '[time]\ntrust = "evidence"\nsources = ["meters"]\nquorum = 3\n'


def wrong_clock(made: Town, offset: str) -> None:
    """Let the edge run with another clock and no word for it but the meters'; the others run with the machine's."""
    for program in (made.edge, made.central):
        path = made.folder / f"{program.name}.toml"
        text = re.sub(r"\[simulation\]\n(?:[^\[]*\n)?", "", path.read_text(encoding="utf-8"))
        if program is made.edge:
            text = text.replace('[time]\ntrust = "host"\n', EVIDENCE)
        path.write_text(text, encoding="utf-8")
    set_clock(made, offset)
    made.edge.environment = services.faketime(made.folder / "edge-clock")


def set_clock(made: Town, offset: str) -> None:
    """Set the edge's clock, whether it runs or not: `-25m`, `+3d`."""
    fresh = made.folder / "edge-clock.new"
    fresh.write_text(offset)
    fresh.replace(made.folder / "edge-clock")


def read_live(made: Town, blocks: int = 60) -> None:
    """Let the edge read live values each ten seconds, and look for blocks each `blocks` seconds."""
    path = made.folder / "edge.toml"
    text = path.read_text(encoding="utf-8").replace("block_load = 3600", f"block_load = {blocks}")
    text = text.replace("instantaneous = 3600", "instantaneous = 10\nspread = 0")
    path.write_text(text, encoding="utf-8")


def held(made: Town) -> tuple[list[StoredCapture], set[str]]:
    """Every capture of the ledger, and the reasons for which some stand under no account."""
    if not made.files.has_ledger:
        return [], set()
    try:
        ledger = Ledger(made.files.ledger, read_only=True)
    except LedgerError:  # central is making it
        return [], set()
    try:
        return ledger.captures.between(), {group.reason for group in ledger.unattributed.groups()}
    finally:
        ledger.close()


def live_of(captures: Sequence[StoredCapture]) -> list[StoredCapture]:
    """Those that were read as they were then."""
    return [one for one in captures if one.profile in LIVE]
