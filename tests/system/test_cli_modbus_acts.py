"""`relay --to`, `program recharge` and `program balance` as a user gives them, against simulated Modbus meters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from protocols.simulator.neighbourhood.files import read_plan
from protocols.simulator.neighbourhood.plan import MeterPlan
from tests.support.cli import Cli
from tests.support.firmware_site import FirmwareSite, firmware_site

FAULTS = (
    'kind = "action-unanswered", after = 1, times = 1',
    'kind = "write-refused"',
    'kind = "credit-stuck"',
)
"""What is wrong with the second to fourth meter; the answer to the unlocking comes, that to the recharge is lost."""


def prepaid(folder: Path) -> list[MeterPlan]:
    meters = read_plan(folder / "town").meters
    return [m for m in meters if m.spec.modbus is not None and m.spec.modbus.model == "sdm320y-sim"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirmwareSite]:
    """A town of 40; its second to fourth prepaid Modbus meters are faulty."""
    folder = tmp_path_factory.mktemp("acts")
    names = ["EAS:11000025", "EAS:11000028", "EAS:11000029"]
    faults = "".join(
        f'[[meters]]\nmeter = "{name}"\nfaults = [{{ {fault} }}]\n'
        for name, fault in zip(names, FAULTS, strict=True)
    )
    with firmware_site(folder, meters=40, faults=faults) as made:
        assert [m.meter for m in prepaid(folder)][1:4] == names
        yield made


class Ordered:
    """Gives acts on one meter as a script does."""

    def __init__(self, cli: Cli, site: FirmwareSite, which: int) -> None:
        self.cli, self.site, self.meter = cli, site, prepaid(site.folder)[which]
        self.sure = ("--yes", "--meter-serial", self.meter.serial, "--config", site.config, "--json")

    def done(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cli(words[0], self.meter.meter, *words[1:], *self.sure).json
        return found

    def fails(self, *words: str, code: int) -> str:
        return self.cli(words[0], self.meter.meter, *words[1:], *self.sure, code=code).err

    def purse(self) -> tuple[str, str]:
        (row,) = self.cli("read", self.meter.meter, "prepayment", "-c", self.site.config, "--json").json
        values = row["values"]
        balance, total = (values[f"0-0:94.96.{e}*255"].removesuffix(" INR") for e in (24, 23))
        return balance, total

    def record(self) -> list[dict[str, str]]:
        lines = [json.loads(row) for row in (self.site.data / "acts.jsonl").read_text().splitlines()]
        return [line for line in lines if line["meter"] == self.meter.meter]


def test_a_contact_is_moved_proved_and_recorded(site: FirmwareSite, cli: Cli) -> None:
    one = Ordered(cli, site, 0)
    done = one.done("relay", "--to", "disconnected", "--trust-host")
    assert done["outcome"] == "done, and read back"
    assert done["changes"] == [{"label": "supply", "before": "connected", "after": "disconnected"}]
    again = one.done("relay", "--to", "disconnected", "--trust-host")
    assert again["outcome"] == "stands already"
    assert cli("relay", one.meter.meter, "-c", site.config, "--json").json["output_state"] == "disconnected"
    assert one.done("relay", "--to", "connected")["changes"][0]["after"] == "connected"
    moves = [line["outcome"] for line in one.record() if line["act"] == "relay"]
    assert moves == ["begun", "done", "begun", "done"]


def test_a_recharge_and_a_balance_are_written_once_proved_and_recorded(site: FirmwareSite, cli: Cli) -> None:
    one = Ordered(cli, site, 0)
    before = one.purse()
    shown = cli("program", one.meter.meter, "recharge", "500.00", "--show", "-c", site.config, "--json").json
    assert shown["outcome"] == "shown"
    assert one.purse() == before
    done = one.done("program", "recharge", "500.00")
    assert done["outcome"] == "done, and read back"
    assert done["changes"][0]["label"] == "recharge 500.00 INR"
    assert one.purse() != before
    assert "balance 12.34 INR" in one.done("program", "balance", "12.34 INR")["changes"][0]["after"]
    assert [line["outcome"] for line in one.record() if line["act"] == "recharge"] == ["begun", "done"]


def test_a_lost_answer_is_judged_by_what_the_meter_shows(site: FirmwareSite, cli: Cli) -> None:
    one = Ordered(cli, site, 1)
    before = Decimal(one.purse()[1])
    assert one.done("program", "recharge", "500.00")["outcome"] == "done, and read back"
    assert Decimal(one.purse()[1]) == before + 500
    assert one.record()[-1]["outcome"] == "done"


def test_a_meter_that_refuses_or_forgets_is_told(site: FirmwareSite, cli: Cli) -> None:
    refusing, stuck = Ordered(cli, site, 2), Ordered(cli, site, 3)
    before = refusing.purse(), stuck.purse()
    assert "Modbus exception 3" in refusing.fails("program", "recharge", "500.00", code=4)
    told = stuck.fails("program", "recharge", "500.00", code=4)
    assert "took the write of recharge 500.00 INR" in told
    assert "it stands as it did before" in told
    assert (refusing.purse(), stuck.purse()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("relay", "--to", "off"), "is not one of connected, disconnected"),
        (("program", "rechage", "5"), "Did you mean `recharge`?"),
        (("program", "demand-period", "900"), "Acts on a Modbus meter are recharge, balance"),
        (("program", "recharge"), "recharge takes: "),
        (("program", "recharge", "0.001"), "cannot hold 0.001 INR"),
        (("program", "recharge", "5 kWh"), "recharge is in INR, not in kWh"),
    ],
)
def test_wrong_use_changes_nothing(site: FirmwareSite, cli: Cli, words: tuple[str, ...], said: str) -> None:
    one = Ordered(cli, site, 0)
    before = one.purse()[1]
    assert said in one.fails(*words, code=2)
    assert one.purse()[1] == before


def test_another_serial_changes_nothing(site: FirmwareSite, cli: Cli) -> None:
    one = Ordered(cli, site, 0)
    words = ("program", one.meter.meter, "recharge", "5", "--yes", "--meter-serial", "11000099")
    assert "has serial" in cli.refuses(*words, "-c", site.config, code=2)


def test_a_model_and_a_line_say_what_they_lack(site: FirmwareSite, cli: Cli, tmp_path: Path) -> None:
    text = site.config.read_text(encoding="utf-8")
    plain = tmp_path / "plain.toml"
    plain.write_text(text.replace("sdm320y-sim", "sdm320y"), encoding="utf-8")
    one = Ordered(cli, site, 0)
    sure = ("--yes", "--meter-serial", one.meter.serial, "--config", plain)
    for words, said in [
        (("relay", one.meter.meter, "--to", "connected"), "add [writes.relay], and [relay]"),
        (("program", one.meter.meter, "recharge", "5"), "add [writes.recharge]"),
    ]:
        assert said in cli(*words, *sure, code=4).err
    plain.write_text(text.replace("trusted = true\n", ""), encoding="utf-8")
    assert "declared trusted" in cli("relay", one.meter.meter, "--to", "connected", *sure, code=3).err


def test_a_dlms_meter_is_ordered_by_signed_orders_only(site: FirmwareSite, cli: Cli) -> None:
    meter = site.meters("GEN")[0].meter
    assert "signed" in cli.refuses("relay", meter, "--to", "connected", "-c", site.config, code=2)
    assert "is for Modbus" in cli.refuses("program", meter, "recharge", "5", "-c", site.config, code=2)


def test_an_address_on_a_trusted_line_of_the_configuration_is_as_good_as_a_name(
    site: FirmwareSite, cli: Cli
) -> None:
    one = Ordered(cli, site, 0)
    line = next(line for line in read_plan(site.folder / "town").lines if line.name == one.meter.line)
    where = (
        f"tcp://{line.host}:{line.port}",
        "--unit",
        1,
        "--model",
        "sdm320y-sim",
        "--identity",
        one.meter.meter,
    )
    sure = ("--yes", "--meter-serial", one.meter.serial)
    done = cli("relay", *where, "--to", "connected", *sure, "--config", site.config, "--json").json
    assert done["outcome"] in ("stands already", "done, and read back")
    assert "declared trusted" in cli("relay", *where, "--to", "connected", *sure, code=3).err
