"""The commands `program`, `get`, `set` and `action` as a user gives them, against simulated meters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.firmware_site import FirmwareSite, firmware_site

CALENDAR = """\
[calendar]
name = "TOD2027"
activate = "2027-01-01T00:00"

[[calendar.seasons]]
name = "S1"
start = "*-04-01"
week = "W1"

[[calendar.weeks]]
name = "W1"
all = 1
sunday = 2

[[calendar.days]]
id = 1
switches = [{ at = "00:00", script = 1 }, { at = "06:00", script = 2 }]

[[calendar.days]]
id = 2
switches = [{ at = "00:00", script = 1 }]
"""
PUSH = """\
[push]
setup = "0-0:25.9.0*255"
destination = "10.1.2.3:4059"
retries = 5
objects = [{ class = 1, obis = "0-0:96.1.2*255" }, { class = 8, obis = "0-0:1.0.0*255" }]
"""
DEMAND = "1/1-0:0.8.0*255/2"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirmwareSite]:
    with firmware_site(tmp_path_factory.mktemp("program")) as made:
        yield made


@pytest.fixture
def words(site: FirmwareSite) -> tuple[str, tuple[object, ...]]:
    """A meter, and the options with which a script programs it."""
    meter = site.meters("GEN")[0]
    return meter.meter, ("--config", site.config, "--yes", "--meter-serial", meter.serial, "--json")


def after(cli: Cli, *arguments: object) -> list[str]:
    told = cli("program", *arguments).json
    assert told["outcome"] == "done, and read back"
    return [change["after"] for change in told["changes"]]


@pytest.mark.parametrize(
    ("act", "value", "stands"),
    [
        ("demand-period", "900", ["900"]),
        ("capture-period", "900", ["900"]),
        ("load-limit", "3000", ["3000"]),
        ("load-limit", "off", ["0 (none: always connected)"]),
        ("billing-date", "15T06:00", ["['*-*-15 06:00:00']"]),
        ("billing-date", "last", ["['*-*-last day 00:00:00']"]),
        ("payment-mode", "postpaid", ["0"]),
        ("metering-mode", "import-and-export", ["1"]),
        ("esw-filter", "0-2,127", ["111" + "0" * 124 + "1"]),
    ],
)
def test_an_act_is_done_once_read_back_and_recorded(
    site: FirmwareSite,
    cli: Cli,
    words: tuple[str, tuple[object, ...]],
    act: str,
    value: str,
    stands: list[str],
) -> None:
    meter, options = words
    assert after(cli, meter, act, value, *options) == stands
    assert cli("program", meter, act, value, *options).json["outcome"] == "stands already"
    shown = cli("program", meter, act, "--show", "--config", site.config, "--json").json
    assert stands[0] in shown.values()
    lines = [json.loads(row) for row in (site.data / "acts.jsonl").read_text().splitlines()]
    mine = [line for line in lines if line["act"] == act and line["meter"] == meter]
    assert [line["outcome"] for line in mine[-2:]] == ["begun", "done"]
    assert mine[-1]["act_id"] == mine[-2]["act_id"]
    assert mine[-1]["after"].endswith(stands[0])


def test_a_calendar_is_written_and_rules_at_its_time_or_at_once(
    cli: Cli, words: tuple[str, tuple[object, ...]], tmp_path: Path
) -> None:
    meter, options = words
    file = tmp_path / "calendar.toml"
    file.write_text(CALENDAR, encoding="utf-8")
    written = after(cli, meter, "activity-calendar", file, *options)
    assert written[0] == "TOD2027"
    assert written[-1] == "2027-01-01 00:00:00"
    file.write_text(CALENDAR.replace("2027-01-01T00:00", "now"), encoding="utf-8")
    written = after(cli, meter, "activity-calendar", file, *options)
    assert written[:4] == written[4:]
    assert cli("get", meter, "20/0-0:13.0.0*255/2", *options[:2], "--json").json["value"] == "TOD2027"


def test_special_days_come_from_csv_and_a_push_setup_from_toml(
    cli: Cli, words: tuple[str, tuple[object, ...]], tmp_path: Path
) -> None:
    meter, options = words
    days, push = tmp_path / "days.csv", tmp_path / "push.toml"
    days.write_text("date,day\n*-01-26,9\n", encoding="utf-8")
    refused = cli.refuses("program", meter, "special-days", days, *options[:2], "--show", code=2)
    assert "has no day profile 9" in refused
    days.write_text("date,day\n*-01-26,2\n2027-11-08,2\n", encoding="utf-8")
    calendar = tmp_path / "calendar.toml"
    calendar.write_text(CALENDAR.replace("TOD2027", "SPECIAL"), encoding="utf-8")
    after(cli, meter, "activity-calendar", calendar, *options)
    assert "2027-11-08" in after(cli, meter, "special-days", days, *options)[0]
    push.write_text(PUSH, encoding="utf-8")
    objects, destination, retries = after(cli, meter, "push-setup", push, *options)
    assert objects == "['data 0-0:96.1.2*255 #2 value', 'clock 0-0:1.0.0*255 #2 time']"
    assert (destination, retries) == ("TCP 10.1.2.3:4059 (A-XDR)", "5")


def test_a_push_s_schedule_is_part_of_its_setup(
    cli: Cli, words: tuple[str, tuple[object, ...]], tmp_path: Path
) -> None:
    meter, options = words
    push = tmp_path / "push.toml"
    times = '["06:30", "*:15", "*-*-01T00:00"]'
    push.write_text(f'[push]\nsetup = "0-0:25.9.0*255"\ntimes = {times}\n', encoding="utf-8")
    (schedule,) = after(cli, meter, "push-setup", push, *options)
    assert schedule == "['*-*-* 06:30:00', '*-*-* *:15:00', '*-*-01 00:00:00']"
    shown = cli("program", meter, "push-setup", "--show", *options[:2], "--json").json
    assert schedule in shown.values()
    push.write_text('[push]\nsetup = "0-0:25.9.0*255"\ntimes = ["6"]\n', encoding="utf-8")
    assert "is no time of day" in cli("program", meter, "push-setup", push, *options, code=3).err
    push.write_text('[push]\nsetup = "0-0:25.9.0*255"\nschedule = "0-0:15.0.4*255"\n', encoding="utf-8")
    assert "without `times`" in cli("program", meter, "push-setup", push, *options, code=3).err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('week = "W1"', 'week = "W9"'), "season S1: there is no week W9"),
        (("script = 2", "scrip = 2"), "Did you mean `script`?"),
        (('"06:00"', '"25:00"'), ":17: calendar.days[0].switches[1].at: hour 25"),
        (('"06:00"', '"00:00"'), "in the order of their times"),
        (("sunday = 2", "sunday = 7"), "there is no day 7"),
        (("all = 1\n", ""), "monday is not given"),
        (('"*-04-01"', '"*-13-01"'), "months go from 1 to 12"),
        (("2027-01-01T00:00", "soon"), "is no time"),
        (("id = 2", "id = 1"), "a day is there twice"),
        (('{ at = "00:00", script = 1 }, ', ""), "day 1: it begins at 06:00:00"),
        (
            (
                "[[calendar.weeks]]",
                '[[calendar.seasons]]\nname = "S2"\nstart = "*-04-01"\nweek = "W1"\n[[calendar.weeks]]',
            ),
            "a season's start is there twice",
        ),
        (("*-04-01", "*-02-30"), "that month has no day 30"),
        (("*-04-01", "27-04-01"), "the year with four digits"),
    ],
)
def test_mistakes_of_a_calendar_are_named_where_they_stand(
    cli: Cli, words: tuple[str, tuple[object, ...]], tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    meter, options = words
    file = tmp_path / "calendar.toml"
    file.write_text(CALENDAR.replace(*change), encoding="utf-8")
    told = cli("program", meter, "activity-calendar", file, *options, code=3).err
    assert f"{file}:" in told
    assert said in told


@pytest.mark.parametrize(
    ("act", "value", "said"),
    [
        ("demand-perod", "900", "Did you mean `demand-period`?"),
        ("demand-period", None, "takes: seconds over which"),
        ("demand-period", "soon", "is no number of seconds"),
        ("demand-period", "70000", "does not fit the meter's long_unsigned"),
        ("capture-period", "777", "is one of 900, 1800, 3600"),
        ("billing-date", "31", "1 to 28, or last"),
        ("payment-mode", "pospaid", "postpaid, prepaid"),
        ("esw-filter", "200", "has bits 0 to 127"),
        ("load-limit", "0", "is no limit"),
    ],
)
def test_a_wrong_value_changes_nothing(
    cli: Cli, words: tuple[str, tuple[object, ...]], act: str, value: str | None, said: str
) -> None:
    meter, options = words
    given = [] if value is None else [value]
    got = cli("program", meter, act, *given, *options, code=2)
    assert said in got.err


def test_nothing_is_changed_without_a_word_or_on_another_meter(site: FirmwareSite, cli: Cli) -> None:
    meter = site.meters("GEN")[1]
    program = ("program", meter.meter, "demand-period", "900", "--config", site.config)
    assert "--yes needs --meter-serial" in cli.refuses(*program, "--yes", code=2)
    said = cli.refuses(*program, "--yes", "--meter-serial", "5", code=2)
    assert f"has serial {meter.serial}, not 5: nothing is changed" in said
    asked = cli(*program, code=2)
    assert f"{meter.meter}: demand-period 900?" in asked.err
    assert cli("get", meter.meter, DEMAND, "--config", site.config, "--json").json["value"] == "1800"


def test_get_shows_type_and_octets_and_never_a_secret(site: FirmwareSite, cli: Cli) -> None:
    meter, at = site.meters("GEN")[1].meter, ("--config", site.config)
    assert cli("get", meter, DEMAND, *at, "--json").json == {
        "attribute": "data 1-0:0.8.0*255 #2 value",
        "type": "long-unsigned",
        "value": "1800",
        "raw": "12 07 08",
    }
    assert "holds a secret" in cli.refuses("get", meter, "15/0-0:40.0.2*255/7", *at, code=2)
    assert "write CLASS/OBIS/NUMBER" in cli.refuses("get", meter, "1-0:0.8.0*255", *at, code=2)


def test_set_and_action_do_only_what_the_configuration_allows(
    site: FirmwareSite, cli: Cli, tmp_path: Path
) -> None:
    meter = site.meters("SEC")[0]
    sure = ("--yes", "--meter-serial", meter.serial)
    reset = "9/0-0:10.0.1*255/1"
    said = cli.refuses("set", meter.meter, DEMAND, "900", *sure, "--config", site.config, code=2)
    assert f'[acts] set = ["{DEMAND}"]' in said
    said = cli.refuses("action", meter.meter, reset, *sure, "--config", site.config, code=2)
    assert "is not allowed" in said
    config = tmp_path / "gateway.toml"
    allowed = (
        f'[acts]\nset = ["{DEMAND}", "15/0-0:40.0.2*255/7"]\naction = ["{reset}", "64/0-0:43.0.3*255/2"]\n'
    )
    config.write_text(f"{site.config.read_text()}\n{allowed}", encoding="utf-8")
    at = (*sure, "--config", config)
    assert cli("set", meter.meter, DEMAND, "900", *at, "--json").json["changes"][0]["after"] == "900"
    assert "is no long-unsigned" in cli.refuses("set", meter.meter, DEMAND, "soon", *at, code=2)
    done = cli("action", meter.meter, reset, "long-unsigned:1", *at, "--json").json
    assert done["outcome"] == "the meter answered with success"
    for words in (
        ("set", meter.meter, "15/0-0:40.0.2*255/7", "x"),
        ("action", meter.meter, "64/0-0:43.0.3*255/2"),
    ):
        assert "secret" in cli.refuses(*words, *at, code=2)
    acts = [json.loads(row) for row in (site.data / "acts.jsonl").read_text().splitlines()]
    assert [a["act"] for a in acts if a["meter"] == meter.meter] == ["set", "set", "action", "action"]


@pytest.mark.parametrize("method", ["70/0-0:96.3.10*255/1", "9/0-0:10.0.106*255/1"])
def test_no_allow_list_lets_the_supply_contact_be_moved_by_action(
    site: FirmwareSite, cli: Cli, words: tuple[str, tuple[object, ...]], tmp_path: Path, method: str
) -> None:
    """Limits, signature and proof of an order would all be passed by."""
    config = tmp_path / "gateway.toml"
    config.write_text(f'{site.config.read_text()}\n[acts]\naction = ["{method}"]\n', encoding="utf-8")
    meter, options = words
    said = cli.refuses("action", meter, method, *options, "--config", config, code=2)
    assert "moves the supply contact: that is ordered through the gateway" in said


def test_a_wrong_entry_of_the_allow_list_is_named(site: FirmwareSite, cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'{site.config.read_text()}\n[acts]\nset = ["1-0:0.8.0"]\n', encoding="utf-8")
    assert "write CLASS/OBIS/NUMBER" in cli("check", "--config", config, code=3).err
