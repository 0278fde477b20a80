"""The record of acts, and what any file or text of a person comes to: a value, or an error that says what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.acts.audit import BEGUN, BROKEN_OFF, ActRecord
from gateway.acts.firmware_file import load_image
from gateway.acts.program_files import load_calendar, load_push, load_special_days
from gateway.config.targets import parse_target
from gateway.errors import ConfigError, JournalError
from protocols.dlms.acts.values import parse_value
from protocols.dlms.data import axdr
from protocols.dlms.data.types import Data, Tag
from protocols.errors import LocalError, MeterConfigError

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
ACT = {"at": NOW, "by": "ravi", "meter": "GEN:1", "act": "demand-period", "before": "1800", "after": "900"}


def test_an_act_is_recorded_before_it_is_done_and_with_what_came_of_it(tmp_path: Path) -> None:
    record = ActRecord(tmp_path)
    with record.recorded(
        now=lambda: NOW, by="ravi", meter="GEN:1", act="a", before="1", after="2"
    ) as outcome:
        assert [line.outcome for line in record.lines()] == [BEGUN]
        outcome.after = "3"
    with (
        pytest.raises(ZeroDivisionError),
        record.recorded(now=lambda: NOW, by="ravi", meter="GEN:1", act="a", before="1", after="2"),
    ):
        raise ZeroDivisionError("by nothing")
    lines = list(record.lines())
    assert [(line.outcome, line.after) for line in lines] == [
        (BEGUN, "2"),
        ("done", "3"),
        (BEGUN, "2"),
        ("failed: by nothing", "2"),
    ]
    assert len({line.act_id for line in lines}) == 2
    assert record.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ended", [asyncio.CancelledError, KeyboardInterrupt])
def test_an_act_that_was_broken_off_is_not_said_to_have_failed(
    tmp_path: Path, ended: type[BaseException]
) -> None:
    record = ActRecord(tmp_path)
    with (
        pytest.raises(ended),
        record.recorded(now=lambda: NOW, by="ravi", meter="GEN:1", act="recharge", before="1", after="2"),
    ):
        raise ended
    assert [line.outcome for line in record.lines()] == [BEGUN, BROKEN_OFF]


def test_a_line_that_a_crash_cut_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    record = ActRecord(tmp_path)
    record.begin(**ACT)  # type: ignore[arg-type]
    with record.path.open("ab") as file:
        file.write(b'{"act_id": "half')
    record.begin(**ACT)  # type: ignore[arg-type]
    assert len(list(record.lines())) == 2
    assert json.loads(record.path.read_text().splitlines()[-1])["by"] == "ravi"


def test_without_a_record_nothing_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(JournalError):
        ActRecord(tmp_path / "file").begin(**ACT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "tag", "data"),
    [
        ("900", Tag.LONG_UNSIGNED, Data(Tag.LONG_UNSIGNED, 900)),
        ("unsigned:7", Tag.LONG_UNSIGNED, Data(Tag.UNSIGNED, 7)),
        ("integer:-1", Tag.NULL, Data(Tag.INTEGER, -1)),
        ("true", Tag.BOOLEAN, Data(Tag.BOOLEAN, True)),
        ("bit-string:0110", Tag.NULL, Data(Tag.BIT_STRING, "0110")),
        ("0A0B", Tag.OCTET_STRING, Data(Tag.OCTET_STRING, b"\x0a\x0b")),
        ('"10:00"', Tag.OCTET_STRING, Data(Tag.OCTET_STRING, b"10:00")),
        ("axdr:12 03 84", Tag.NULL, Data(Tag.LONG_UNSIGNED, 900)),
        ("null:", Tag.UNSIGNED, Data(Tag.NULL, None)),
    ],
)
def test_values_as_people_write_them(text: str, tag: Tag, data: Data) -> None:
    assert parse_value(text, tag) == data


@given(text=st.text(max_size=60), tag=st.sampled_from(Tag))
def test_any_text_is_a_value_or_refused(text: str, tag: Tag) -> None:
    try:
        data = parse_value(text, tag)
    except LocalError:
        return
    assert axdr.decode(axdr.encode(data)) == data


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    try:
        parse_target(text)
    except ValueError:
        pass


KEYS = st.sampled_from(
    ["name", "activate", "seasons", "weeks", "days", "start", "week", "all", "id", "switches", "at"]
)
LEAVES = st.one_of(
    st.integers(-1, 300), st.text(max_size=8), st.sampled_from(["*-01-01", "00:00", "W1", "now"])
)
TABLES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    root=st.sampled_from(["calendar", "special_days", "push", "image"]),
    value=TABLES,
    raw=st.binary(max_size=40),
)
def test_any_file_is_read_or_its_mistakes_are_named(
    tmp_path: Path, root: str, value: object, raw: bytes
) -> None:
    path = tmp_path / "any.toml"
    for content in (f"{root} = {toml(value)}".encode(), raw):
        path.write_bytes(content)
        for load in (load_calendar, load_special_days, load_push, load_image):
            assert "any.toml" in complaint(load, path)
    csv = tmp_path / "any.csv"
    csv.write_bytes(b"date,day\n" + raw)
    complaint(load_special_days, csv)


def complaint(load: Callable[[Path], object], path: Path) -> str:
    """What is said of a file that cannot be read; its own name when it can."""
    try:
        load(path)
    except (ConfigError, MeterConfigError) as error:
        return str(error)
    return path.name
