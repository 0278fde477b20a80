"""A hundred simulated meters, some with faults, through both lots of docs/dlms.md by its commands."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.firmware_site import VERSION, FirmwareSite, firmware_site
from tests.support.mosquitto import Mosquitto
from tests.support.town import Program
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hundred")]

TOWN = 740
"""Meters of which a hundred are DLMS meters of GEN; some have three phases: another model than the image's."""
BEGINS = 600.0
"""Seconds for so many meters to begin, on a machine that has much else to do."""
FAULTS = {
    "GEN:11000013": "image-blocks-lost",
    "GEN:11000025": "image-forgotten",
    "GEN:11000037": "frames-cut",
    "GEN:11000041": "image-not-verified",
    "GEN:11000057": "image-named-wrong",
    "GEN:11000065": "image-verified-slowly",
    "GEN:11000061": "keys-cut",
    "GEN:11000081": "keys-partly",
}
IMAGE_FAULTS = 6
"""So many of them are of images."""
REFUSES = "GEN:11000021"
"""It takes no keys, however often."""
IMAGE_FAILS = {"GEN:11000041": "verification_failed", "GEN:11000057": "wrong_identification"}
LOT = ("--rate", "0", "--at-once", "8", "--pause", "0", "--max-failed-percent", "100")
BROKER = """
[mqtt]
port = {port}
root = "kanpur"
username = "{name}"
[keys]
escrow_key_ref = "keys-escrow.pub"
store_key_ref = "keys-store.pub"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirmwareSite]:
    faults = "".join(f'[[meters]]\nmeter = "{m}"\nscripts = ["{script}"]\n' for m, script in FAULTS.items())
    faults += f'[[meters]]\nmeter = "{REFUSES}"\nfaults = [{{ kind = "keys-refused" }}]\n'
    with firmware_site(
        tmp_path_factory.mktemp("hundred"), meters=TOWN, faults=faults, patience=BEGINS
    ) as made:
        yield made


@pytest.fixture(scope="module")
def hundred(site: FirmwareSite) -> Path:
    """The first hundred meters of the maker, as directory.csv lists them."""
    head, *rows = (site.folder / "town" / "directory.csv").read_text().splitlines()
    listed = site.folder / "list.csv"
    listed.write_text("\n".join([head, *[row for row in rows if row.startswith("GEN:")][:100]]) + "\n")
    assert len(listed.read_text().splitlines()) == 101
    return listed


def report(cli: Cli, kind: str, lot: str, config: Path) -> dict[str, dict[str, str]]:
    told = cli(kind, "report", lot, "--config", config, "--csv").out
    return {row["meter"]: row for row in csv.DictReader(io.StringIO(told))}


def run_to_the_end(cli: Cli, kind: str, lot: str, config: Path, *, code: int) -> dict[str, dict[str, str]]:
    """Run a lot: it pauses after its pilot, and goes on when somebody looked."""
    at = ("--config", config)
    paused = cli(kind, "run", lot, "--yes", *at, "--json", code=1).json
    assert paused["state"].startswith("paused"), paused
    cli(kind, "resume", lot, *at)
    ended = cli(kind, "run", lot, "--yes", *at, "--json", code=code).json
    assert ended["state"] == "finished", ended
    return report(cli, kind, lot, config)


def test_a_hundred_meters_are_upgraded(site: FirmwareSite, cli: Cli, hundred: Path) -> None:
    image = site.image(size=3000)
    described = ("--maker", "GEN", "--model", "6", "--hardware", "0-0:94.91.11=D1", "--version", VERSION)
    cli("firmware", "image", image, *described)
    at = ("--config", site.config)
    terms = (*LOT, "--watch", "0", "--pilot", "5")
    plan = ("firmware", "plan", "july", "--image", image.with_suffix(".toml"), "--meters", hundred)
    assert cli(*plan, *terms, *at, "--json").json["meters"] == 100

    rows = run_to_the_end(cli, "firmware", "july", site.config, code=1)
    right = {m.meter for line in ("tcp-", "hdlc-") for m in site.meters("GEN", line)} & rows.keys()
    assert 80 <= len(right) < 100
    for meter, row in rows.items():
        expected = IMAGE_FAILS.get(meter, "") if meter in right else "wrong_image"
        assert row["reason"] == expected, row
        assert expected or f"runs {VERSION}, before " in row["note"]
    for meter in list(FAULTS)[:IMAGE_FAULTS]:
        shown = cli("firmware", "show", meter, *at, "--json").json
        assert (shown["firmware"] == VERSION) == (meter not in IMAGE_FAILS)


@pytest.mark.mosquitto
def test_a_hundred_meters_get_new_keys(site: FirmwareSite, cli: Cli, hundred: Path, tmp_path: Path) -> None:
    keys, secrets = tmp_path / "central.keys", site.folder / "town" / "keys"
    cli("keys", "escrow-new", tmp_path / "stick", "--no-passphrase")
    cli("keys", "store-new", keys)
    cli("directory", "keys", keys)
    public = {path.name: path for path in (tmp_path / "stick" / "keys-escrow.pub", keys / "keys-store.pub")}
    for folder, names in ((keys, ["keys-escrow.pub"]), (secrets, [*public, "directory-verify"])):
        for name in names:
            (folder / name).write_bytes(public.get(name, keys / name).read_bytes())
            (folder / name).chmod(0o600)
    with Mosquitto(tmp_path / "broker") as broker:
        config, centre = tmp_path / "edge.toml", tmp_path / "central.toml"
        edge = site.config.read_text() + BROKER.format(port=broker.port, name="town")
        config.write_text(f'{edge}[directory]\nverify_key_ref = "directory-verify"\n')
        own = f'[gateway]\nname = "central"\ndata = "{tmp_path}/c"\nsecrets = "{keys}"\nroles = ["central"]\n'
        own += '[time]\ntrust = "host"\n' + BROKER.format(port=broker.port, name="central")
        own += 'store_secret_ref = "keys-store"\n[directory]\nsigning_key_ref = "directory-signing"\n'
        centre.write_text(own)
        central = Program("central", ["run", "--config", str(centre)], tmp_path)
        central.start()
        try:
            wait_until(lambda: "central_connected" in central.tail(), central.tail)
            rotated(cli, hundred, config, centre, tmp_path)
        finally:
            central.stop()


def rotated(cli: Cli, hundred: Path, config: Path, centre: Path, folder: Path) -> None:
    meters = [row.split(",")[0] for row in hundred.read_text().splitlines()[1:]]
    cli("allocation", "move", *meters, "--to", "town", "--config", centre)
    plan = ("keys", "plan", "july-keys", "--what", "global", *LOT, "--pilot", "10", "--config", config)
    said = cli.refuses(*plan, "--meters", hundred, code=2)  # those read with a password alone have no keys
    misfits = [meter for meter in meters if f"{meter}:" in said]
    assert f"{len(misfits)} of 100 meters cannot be in this lot" in said
    fit = [meter for meter in meters if meter not in misfits]
    assert len(fit) >= 80
    listed = folder / "fit.csv"
    listed.write_text("\n".join(["meter", *fit]) + "\n")
    assert cli(*plan, "--meters", listed, "--json").json["meters"] == len(fit)

    rows = run_to_the_end(cli, "keys", "july-keys", config, code=1)
    failed = {meter: row["reason"] for meter, row in rows.items() if row["state"] != "done"}
    assert failed == {REFUSES: "keys_not_taken"}
    at = ("--config", config)
    assert cli("keys", "retry", "july-keys", *at, "--json").json == {"again": [REFUSES]}
    assert cli("keys", "run", "july-keys", "--yes", *at, "--json", code=1).json["done"] == len(fit) - 1
    assert {one["meter"] for one in cli("keys", "status", *at, "--json").json["under_way"]} <= {REFUSES}

    def proved() -> set[str]:
        return {
            one["meter"] for one in cli("keys", "kept", "--config", centre, "--json").json if one["proved"]
        }

    wait_until(lambda: proved() == set(fit) - {REFUSES}, lambda: f"central knows {len(proved())}")
    for meter in (REFUSES, "GEN:11000061", "GEN:11000081", fit[-1]):
        assert cli("read", meter, "instantaneous", *at, "--json").json
