"""The engineer's commands on one meter against real sockets: explore, replay, clock, relay, events, traces."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protocols.capture.trace_file import read_trace
from protocols.session import Auth
from tests.support.cli import Cli
from tests.support.paths import ROOT
from tests.support.town import Town
from tests.support.town_meters import address, one
from tests.support.waiting import PATIENCE

KEY_NAMES = {
    "password_ref": "hls_key",
    "encryption_key_ref": "encryption_key",
    "authentication_key_ref": "authentication_key",
}


@pytest.fixture(params=[Auth.LLS, Auth.HLS2], ids=["lls", "hls2"])
def at(request: pytest.FixtureRequest, cli: Cli, cli_town: Town) -> tuple[str, ...]:
    return there(cli, cli_town, request.param)


def there(cli: Cli, town: Town, auth: Auth) -> tuple[str, ...]:
    """Give address and options of a meter of the town, its keys in one private file."""
    meter = one(town, auth=auth)
    dlms = meter.spec.dlms
    assert dlms is not None
    lines = []
    for field, name in KEY_NAMES.items():
        if (ref := getattr(dlms, field)) is not None:
            secret = (town.folder / "town" / "keys" / ref).read_text(encoding="utf-8").strip()
            lines.append(f"{name} = {json.dumps(secret)}")
    path = cli.folder / f"{auth.value}.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o600)
    how = () if dlms.ciphered else ("--no-ciphered",)
    return (address(town, meter), "--client", str(dlms.client), "--key-file", str(path), *how)


def secrets_in(keys: str) -> list[str]:
    found = re.findall(
        r'^(?:hls|enc|auth|pass)\w+ = "(?:hex:)?(.+)"', Path(keys).read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found
    return [value.lower() for value in found]


# clock, relay, events


def test_clock_beside_ours(cli: Cli, at: tuple[str, ...]) -> None:
    found = cli("clock", *at, "--json").json
    assert found["deviation"] == "330 min"
    assert (found["status"], found["drift"][-2:]) == ("ok", " s")


def test_the_clock_is_set_by_the_utility_only_and_after_a_question(cli: Cli, cli_town: Town) -> None:
    utility, reader = there(cli, cli_town, Auth.HLS2), there(cli, cli_town, Auth.LLS)
    sure = ("--set", "--trust-host")
    done = cli("clock", *utility, *sure, "--yes", "--json").json
    assert (done["set"], done["drift"] in ("+0 s", "-0 s", "-1 s")) == ("as asked", True)
    assert "denied" in cli.refuses("clock", *reader, *sure, "--yes", code=4)
    assert "say --yes" in cli("clock", *utility, *sure, code=2).err


def test_relay_is_shown_and_named(cli: Cli, at: tuple[str, ...]) -> None:
    found = cli("relay", *at, "--json").json
    assert found["output_state"] == "connected"
    assert "connected" in found["control_state"].lower()
    assert str(found["control_mode"]).startswith("4")


def test_events_have_log_name_and_kind(cli: Cli, at: tuple[str, ...]) -> None:
    rows = cli("events", *at, "--json").json
    assert rows
    assert {row["kind"] for row in rows} <= {"occurrence", "restoration", "single"}
    assert all(row["log"] and row["event"] for row in rows)
    since = rows[-1]["at"]
    assert cli("events", *at, "--since", since).out.strip() == "no events"
    table = list(csv.DictReader(io.StringIO(cli("events", *at, "--csv").out)))
    assert [row["event"] for row in table] == [str(row["code"]) for row in rows]


def test_read_as_csv_is_read_as_json(cli: Cli, at: tuple[str, ...]) -> None:
    day = datetime.now(UTC).date() - timedelta(days=3)
    span = ("--since", day, "--until", day + timedelta(days=1))
    rows = cli("read", at[0], "block_load", *at[1:], *span, "--json").json
    table = list(csv.DictReader(io.StringIO(cli("read", at[0], "block_load", *at[1:], *span, "--csv").out)))
    energy = next(name for name in table[0] if "1-0:1.29.0*255" in name)
    assert energy.endswith("[Wh]")
    assert [f"{row[energy]} Wh" for row in table] == [row["values"]["1-0:1.29.0*255"] for row in rows]
    assert [datetime.fromisoformat(row["at"]) for row in table] == [
        datetime.fromisoformat(row["at"]) for row in rows
    ]


# explore, save, replay


@contextmanager
def replaying(cli: Cli, *arguments: object) -> Iterator[str]:
    """Serve a saved meter; gives its address."""
    with subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli.main import main; main()", "simulate"]
        + [str(a) for a in arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as program:
        try:
            assert program.stdout is not None
            found = re.search(r"tcp://\S+", program.stdout.readline())
            assert found is not None
            yield found[0]
            program.send_signal(signal.SIGINT)
            assert program.wait(PATIENCE) == 0
        finally:
            program.kill()


@contextmanager
def simulating(folder: Path, fault: str) -> Iterator[str]:
    """Serve a small town whose DLMS meters have a fault; gives the name of one. Its files lie in the folder."""
    words = ["simulate", "--meters", "5", "--calm", "--fault", fault, "--folder", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli.main import main; main()", *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as program:
        try:
            assert program.stdout is not None
            lines = iter(program.stdout.readline, "Ctrl-C ends it.\n")
            (meter,) = [line.split()[0] for line in lines if " is at tcp://" in line]
            yield meter
        finally:
            program.kill()


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ("clock-blue-book", 0, "as asked, written in another form"),
        ("clock-goes-wrong", 4, "could NOT be put back"),
        ("clock-slow", 0, "as asked"),
        ("clock-stuck", 4, "as it did before"),
    ],
)
def test_a_clock_that_was_set_is_judged(cli: Cli, tmp_path: Path, fault: str, code: int, text: str) -> None:
    """The meter is some seconds off; one that says yes and stays so was not set."""
    with simulating(tmp_path, fault) as meter:
        sure = ("--set", "--yes", "--trust-host", "--config", tmp_path / "gateway.toml")
        done = cli("clock", meter, *sure, code=code)
        assert text in done.text


def test_a_deviation_that_means_nothing_is_proposed_and_not_applied(cli: Cli, tmp_path: Path) -> None:
    with simulating(tmp_path, "deviation-zero") as meter:
        found = cli("clock", meter, "--config", tmp_path / "gateway.toml", "--json").json
        assert "local_deviation = 0" in found["advice"]
        assert found["drift"].startswith("+19")
        for command in (("read", meter, "instantaneous"), ("read", meter, "block_load"), ("explore", meter)):
            told = cli(*command, "--config", tmp_path / "gateway.toml")
            assert "local_deviation = 0" in told.err, command


def test_an_explored_meter_is_replayed_as_itself(cli: Cli, cli_town: Town) -> None:
    at = there(cli, cli_town, Auth.HLS2)
    saved = cli.folder / "meter.json"
    got = cli("explore", *at, "--entries", 60, "--save", saved)
    assert max(map(len, got.out.splitlines())) <= 100
    assert "block load profile" in got.out
    assert re.search(r"#2  value +r-  \d+ Wh", got.out)
    assert re.search(r"\w+:\d+: \d+ objects, \d+ attributes read, 1 not readable; saved as", got.err)
    unread = [
        (one["obis"], a["index"], a["access"])
        for one in json.loads(saved.read_text(encoding="utf-8"))["objects"]
        for a in one["attributes"]
        if a["index"] > 1 and "value" not in a
    ]
    assert unread == [("0-0:40.0.2*255", 7, 2)], "the reader's password, which the utility may write only"
    assert saved.stat().st_mode & 0o777 == 0o600
    span = ("--since", (datetime.now(UTC) - timedelta(hours=20)).isoformat(), "--json")
    rows = cli("read", at[0], "block_load", *at[1:], *span).json
    keys = at[4]
    with replaying(cli, "--replay", saved, "--key-file", keys, "--frozen") as where:
        again = cli.folder / "again.json"
        cli("explore", where, *at[1:], "--entries", 60, "--save", again)
        first, second = (json.loads(path.read_text()) for path in (saved, again))
        assert {**first, "explored_at": None} == {**second, "explored_at": None}
        kept = cli("read", where, "block_load", *at[1:], *span).json
        assert kept[: len(rows)] == rows[: len(kept)]
        assert len(kept) >= len(rows) - 1 > 30
        names = [o["name"] for o in cli("explore", where, *at[1:], "--json").json["objects"]]
        assert "clock" in names
    assert "give encryption_key" in cli.refuses("simulate", "--replay", saved, code=2)
    text = saved.read_text(encoding="utf-8").lower()
    for secret in secrets_in(at[4]):
        assert secret not in text
        assert secret.encode().hex() not in text


# traces


def test_a_trace_holds_the_session_and_no_secret(cli: Cli, at: tuple[str, ...]) -> None:
    trace = cli.folder / "session.trace"
    cli("relay", *at, "--trace", trace)
    assert trace.stat().st_mode & 0o777 == 0o600
    text = trace.read_text(encoding="ascii").lower()
    assert len(list(read_trace(trace.read_text(encoding="ascii")))) >= 8
    for secret in secrets_in(at[4]):
        assert secret not in text
        assert secret.encode().hex() not in text
    shown = cli("decode", trace, "--key-file", at[4]).out
    assert "0-0:96.3.10*255" in shown
    assert cli("decode", trace).code == 0


def test_only_when_asked_a_password_is_in_the_trace(cli: Cli, cli_town: Town) -> None:
    at = there(cli, cli_town, Auth.LLS)
    trace = cli.folder / "plain.trace"
    (password,) = re.findall(r'hls_key = "(.+)"', Path(at[4]).read_text(encoding="utf-8"))
    cli("clock", *at, "--trace", trace, "--trace-plain")
    assert password.encode().hex() in trace.read_text(encoding="ascii").lower()


def test_a_modbus_meter_is_traced_too(cli: Cli, cli_town: Town) -> None:
    meter = one(cli_town, model="abb-b23")
    trace = cli.folder / "modbus.trace"
    words = ("--unit", 1, "--model", "abb-b23", "--trace", trace)
    cli("read", address(cli_town, meter), "instantaneous", *words)
    assert {piece.sent for piece in read_trace(trace.read_text(encoding="ascii"))} == {True, False}
    assert "unit 1, answer" in cli("decode", trace, "--model", "abb-b23").out
    scanned = cli.folder / "scan.trace"
    bus = ("rtu-bus-1", "-c", cli_town.folder / "edge.toml", "--last", 2, "--protocol", "modbus")
    cli("scan", *bus, "--trace", scanned)
    assert len(list(read_trace(scanned.read_text(encoding="ascii")))) > 2
