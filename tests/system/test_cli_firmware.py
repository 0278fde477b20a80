"""The commands `firmware …` as a user gives them, against simulated meters; and killed at each step of a run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.config import file as configuration
from gateway.contract.signing import new_key_pair
from gateway.lots.core import LotState
from gateway.lots.store import LotStore
from gateway.roles.reach import edge_counters
from protocols.meters.counters import FileCounters
from tests.support.cli import Cli
from tests.support.firmware_site import VERSION, FirmwareSite, firmware_site
from tests.support.town import Program
from tests.support.waiting import wait_until

DESCRIBED = ("--maker", "GEN", "--model", "6", "--hardware", "0-0:94.91.11=D1", "--version", VERSION)
QUICK = ("--rate", "0", "--watch", "0", "--pause", "0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirmwareSite]:
    with firmware_site(tmp_path_factory.mktemp("firmware")) as made:
        yield made


@pytest.fixture
def image(site: FirmwareSite, cli: Cli, tmp_path: Path) -> Path:
    """An image that is described, in a folder of its own."""
    path = tmp_path / "sim.bin"
    path.write_bytes(site.image().read_bytes())
    cli("firmware", "image", path, *DESCRIBED)
    return path.with_suffix(".toml")


def test_a_hundred_meters_in_small_from_image_to_report(
    site: FirmwareSite, cli: Cli, image: Path, tmp_path: Path
) -> None:
    at = ("--config", site.config)
    right, other = site.meters("GEN")[0].meter, site.meters("SEC")[0].meter
    bus = site.meters("GEN", "hdlc-")[0].meter
    shown = cli("firmware", "show", right, *at, "--json").json
    assert (shown["image_transfer_status"], shown["firmware"]) == ("0 (not initiated)", "SIM-W-1.4.2")
    assert (shown["image_transfer_enabled"], shown["image_to_activate_info"]) == (False, None)

    listed = tmp_path / "meters.csv"
    listed.write_text(f"usage_point,meter\nUP-1,{right}\nUP-2,{bus}\n\nUP-3,{other}\n", encoding="utf-8")
    planned = cli(
        "firmware", "plan", "july", "--image", image, "--meters", listed, *QUICK, *at, "--json"
    ).json
    assert (planned["meters"], planned["next"]) == (3, "meter-gateway firmware run july")
    assert "already" in cli.refuses(
        "firmware", "plan", "july", "--image", image, "--meter", right, *at, code=2
    )

    ended = cli("firmware", "run", "july", "--yes", *at, "--json", code=1).json
    assert (ended["state"], ended["done"], ended["failures"]) == ("finished", 2, "wrong_image 1")
    rows = list(csv.DictReader(io.StringIO(cli("firmware", "report", "july", *at, "--csv").out)))
    assert [(r["meter"], r["state"], r["reason"]) for r in rows] == [
        (right, "done", ""),
        (bus, "done", ""),
        (other, "failed", "wrong_image"),
    ]
    assert rows[0]["note"] == f"runs {VERSION}, before SIM-W-1.4.2"
    assert cli("firmware", "list", *at, "--json").json[0]["state"] == "finished"
    assert cli("firmware", "retry", "july", *at, "--json").json == {"again": [other]}
    assert cli("firmware", "cancel", "july", *at, "--json").json["state"] == "cancelled"
    acts = [json.loads(row) for row in (site.data / "acts.jsonl").read_text().splitlines()]
    assert [a["outcome"].split(" at ")[0] for a in acts if a["meter"] == right] == [
        "image transfer begun",
        "activation due",
        f"done: runs {VERSION}, before SIM-W-1.4.2",
    ]


def test_what_is_wrong_is_said_before_any_meter_is_visited(
    site: FirmwareSite, cli: Cli, image: Path, tmp_path: Path
) -> None:
    at = ("--config", site.config)
    plan = ("firmware", "plan", "wrong", "--image", image, *at)
    assert "which meters?" in cli.refuses(*plan, code=2)
    one = site.meters("GEN")[0].meter
    assert "twice" in cli.refuses(*plan, "--meter", one, "--meter", one, code=2)
    assert not [path.name for path in (site.data / "lots").glob("wrong*") if path.suffix != ".lock"]
    said = cli.refuses(*plan, "--meter", "GEN:11000099", code=2)
    assert "not in the configuration: GEN:11000099" in said
    meter = site.meters("GEN")[0].meter
    assert "is in the lot twice" in cli.refuses(*plan, "--meter", meter, "--meter", meter, code=2)
    assert "is no window" in cli.refuses(*plan, "--meter", meter, "--window", "night", code=2)
    assert "needs a time" in cli.refuses(*plan, "--meter", meter, "--by", "schedule", code=2)
    modbus = next(
        m for m in json.loads((site.folder / "town/plan.json").read_text())["meters"] if m["modbus"]
    )
    assert "is no DLMS meter" in cli.refuses(*plan, "--meter", modbus["meter"], code=2)
    assert "there is no lot `jule`" in cli.refuses("firmware", "run", "jule", "--yes", *at, code=2)
    image.with_suffix(".bin").write_bytes(b"SIMFW GEN other\n")
    assert "its SHA-256 is" in cli.refuses(*plan, "--meter", meter, code=3)
    image.write_text(image.read_text().replace("maker =", "makr ="), encoding="utf-8")
    said = cli(*plan, "--meter", meter, code=3).err
    assert f"{image}:" in said
    assert "Did you mean `maker`?" in said


def test_where_a_key_is_named_only_images_signed_with_it_are_planned(
    site: FirmwareSite, cli: Cli, tmp_path: Path
) -> None:
    private, public = new_key_pair()
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "key").chmod(0o600)
    keys = site.config.parent / "keys"
    (keys / "image-key").write_bytes(public)
    (keys / "image-key").chmod(0o600)
    config = tmp_path / "gateway.toml"
    config.write_text(site.config.read_text() + '\n[acts]\nimage_key_ref = "image-key"\n', encoding="utf-8")
    meter = site.meters("GEN")[0].meter
    for name, more in (("plain", ()), ("signed", ("--sign-key", tmp_path / "key"))):
        (tmp_path / f"{name}.bin").write_bytes(site.image().read_bytes())
        cli("firmware", "image", tmp_path / f"{name}.bin", *DESCRIBED, *more)

    def plan(name: str) -> tuple[object, ...]:
        return (
            "firmware",
            "plan",
            name,
            "--image",
            tmp_path / f"{name}.toml",
            "--meter",
            meter,
            "-c",
            config,
        )

    assert "is not signed" in cli.refuses(*plan("plain"), code=3)
    cli(*plan("signed"))
    changed = tmp_path / "changed.toml"
    changed.write_text((tmp_path / "signed.toml").read_text().replace('"6"', '"7"'), encoding="utf-8")
    assert "something was changed after signing" in cli.refuses(*plan("changed"), code=3)


@pytest.mark.slow
def test_killed_at_each_step_a_lot_goes_on_and_each_meter_activates_once(tmp_path: Path, cli: Cli) -> None:
    with firmware_site(tmp_path) as site:
        at = ("--config", site.config)
        meters = [m.meter for m in site.meters("GEN")] + [m.meter for m in site.meters("GEN", "hdlc-")]
        image = site.image(size=120_000)
        cli("firmware", "image", image, *DESCRIBED)
        chosen = [word for meter in meters for word in ("--meter", meter)]
        plan = ("firmware", "plan", "kill", "--image", image.with_suffix(".toml"), *chosen, *QUICK)
        cli(*plan, "--attempts", "100", *at)
        run = Program("run", ["firmware", "run", "kill", "--yes", "--config", str(site.config)], tmp_path)

        def signature() -> tuple[LotState, object]:
            with LotStore(site.data / "lots" / "kill.lot") as store:
                return store.lot().state, [(i.state, i.tries, dict(i.kept)) for i in store.items()]

        for n in range(60):  # each run is killed after 1 to 3 things of it were seen to be durable
            if signature()[0] is not LotState.READY:
                break
            run.start()
            for _ in range(1 + n % 3):
                before = signature()
                wait_until(lambda seen=before: signature() != seen or not run.running, run.tail)  # type: ignore[misc]
            run.kill()
        assert run.starts >= 3
        with LotStore(site.data / "lots" / "kill.lot") as store:
            failed = {item.reason for item in store.items() if item.state == "failed"}
        assert failed <= {"activation_unproven"}  # killed between the durable word and the request
        if failed:
            cli("firmware", "retry", "kill", *at)
        cli("firmware", "run", "kill", "--yes", *at)
        for meter in meters:
            events = cli("events", meter, *at, "--json").json
            assert [e["code"] for e in events].count(157) == 1
            assert cli("firmware", "show", meter, *at, "--json").json["firmware"] == VERSION


def test_meters_that_only_the_running_edge_reaches_are_refused_before_any_is_visited(
    site: FirmwareSite, cli: Cli, image: Path, tmp_path: Path
) -> None:
    alone, bus = site.meters("GEN")[0], site.meters("GEN", "hdlc-")[0]
    at = ("--config", site.config)
    plan = ("firmware", "plan", "--image", image, *QUICK, "--meter", alone.meter, "--meter", bus.meter, *at)
    cli(*plan, "on-the-bus")
    with closing(
        FileCounters(edge_counters(configuration.load(site.config)))
    ):  # as a running edge holds them
        for words in ((*plan, "onwards"), ("firmware", "run", "on-the-bus", "--yes", *at)):
            said = cli.refuses(*words, code=2)
            assert f"the edge runs and talks on line {bus.line}, a bus with one talker at a time" in said
        cli("firmware", "plan", "on-tcp", "--image", image, "--meter", alone.meter, *at)
    dials = tmp_path / "dials.toml"
    text = site.config.read_text().replace(f'line = "{alone.line}"', 'line = "ring"')
    more = '[[lines]]\nname = "ring"\nkind = "dial-in"\n\n[push]\n'
    dials.write_text(f"{text}\n{more}", encoding="utf-8")
    for words in ((*plan, "third"), ("firmware", "run", "on-the-bus", "--yes", *at)):
        said = cli.refuses(*words, "--config", dials, code=2)
        assert f"{alone.meter} dials in: only the running edge hears it (line ring)" in said


def test_a_time_of_activation_is_ahead_and_by_a_clock_that_is_right(
    site: FirmwareSite, cli: Cli, image: Path, tmp_path: Path
) -> None:
    meter = site.meters("GEN")[0].meter
    text = site.config.read_text()
    doubted = text[: text.index("[simulation]")].replace('trust = "host"', 'sources = ["central"]\n#')
    config = tmp_path / "doubted.toml"
    config.write_text(doubted + text[text.index("[[lines]]") :], encoding="utf-8")
    plan = ("firmware", "plan", "timed", "--image", image, "--meter", meter, "--config", config)
    assert "is over" in cli.refuses(*plan, "--activate", "2020-01-01T02:00", code=2)
    cli(*plan, "--activate", "2099-01-01T02:00")
    said = cli.refuses("firmware", "run", "timed", "--yes", "--config", config, code=2)
    assert "goes by a time, and this computer's clock may be wrong" in said


def test_where_the_record_cannot_be_written_nothing_goes_to_a_meter(cli: Cli, tmp_path: Path) -> None:
    with firmware_site(tmp_path) as site:
        at, meter = ("--config", site.config), site.meters("GEN")[0].meter
        cli("firmware", "image", site.image(), *DESCRIBED)
        (site.data / "acts.jsonl").mkdir(parents=True)
        plan = ("firmware", "plan", "full", "--image", site.image().with_suffix(".toml"), "--meter", meter)
        cli(*plan, *QUICK, "--attempts", "1", *at)
        cli("firmware", "run", "full", "--yes", *at, code=1)
        shown = cli("firmware", "show", meter, *at, "--json").json
        assert (shown["image_transfer_enabled"], shown["image_transfer_status"]) == (
            False,
            "0 (not initiated)",
        )
        rows = list(csv.DictReader(io.StringIO(cli("firmware", "report", "full", *at, "--csv").out)))
        assert "the record of acts" in rows[0]["note"]
