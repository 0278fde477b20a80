"""Pushes of makes that were made up, by files as a user writes them: each place, each mistake, nothing guessed."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.companion import companion, companion_file
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
)
from protocols.dlms.data.units import UNIT_CODES
from protocols.dlms.push.explain import ExplainedPush, explained
from protocols.errors import MeterConfigError
from protocols.reading import Missing, MissingReason, Number, Obis, ProfileName, ReadingSet, Value

NOW = datetime(2026, 11, 30, tzinfo=UTC)
CLOCK = octets(bytes.fromhex("07EA0B1E010A000000014A00"))
ENERGY, EXPORT = "1-0:1.8.0*255", "1-0:2.8.0*255"
WH = '{ quantity = "1-0:1.8.0*255", unit = "Wh" }'
BLOCK_LOAD = companion().profiles[ProfileName.BLOCK_LOAD]
UNKNOWN = Missing(MissingReason.NOT_SUPPORTED)


def number(value: int) -> Data:
    return double_long_unsigned(value)


def name(obis: str) -> Data:
    return octets(Obis.parse(obis).to_bytes())


def scale(scaler: int, unit: str) -> Data:
    return structure(integer(scaler), enum(UNIT_CODES[unit]))


def single(value: float) -> Data:
    return Data(Tag.FLOAT32, struct.pack(">f", value))


def check(tmp_path: Path, body: Data, *forms: str) -> ExplainedPush:
    text = '[companion]\nbase = "generic"\n[push]\n' + "".join(
        f'[[push.forms]]\nname = "form {number}"\n{form}\n' for number, form in enumerate(forms)
    )
    path = tmp_path / "own.toml"
    path.write_text(text)
    apdu = notification.encode(DataNotification(body=body))
    found = explained(
        apdu, companion_file(path).push, keys=None, zone=ZoneInfo("Asia/Kolkata"), received_at=NOW
    )
    (push,) = found.pushes
    return push


def read(tmp_path: Path, body: Data, *forms: str) -> ReadingSet:
    push = check(tmp_path, body, *forms)
    assert push.mistakes == ()
    (one,) = push.sets
    return one


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ('"1-0:1.8.0*255"', r"line 6: 1-0:1.8.0.255 .* is a register"),
        ('"7-0:3.0.0*255"', "is a register"),
        ('"0-1:24.2.1*255"', "is a register"),
        ('{ structure = ["1-0:1.8.0*255"] }', "is a register"),
        (f"{WH}, {WH}", "is declared twice"),
        ('{ structure = [{ structure = ["payload"] }] }', "payload is what is left of the push itself"),
        ('{ structure = ["objects", "any"] }', "objects takes all that is left"),
        ('"structure"', "neither a quantity nor one of device_id"),
        ("{ structure = [" * 6 + '"any"' + "] }" * 6, "4 deep"),
        ("{ structure = [] }", "structure must have 1 to"),
    ],
)
def test_what_would_guess_is_a_mistake_in_the_file(tmp_path: Path, fields: str, why: str) -> None:
    with pytest.raises(MeterConfigError, match=why):
        check(tmp_path, number(1), f"fields = [{fields}]")


@pytest.mark.parametrize(
    ("first", "later", "hidden"),
    [
        (WH, WH.replace("1.8", "2.8"), True),
        ('"any"', WH, True),
        ('{ text = "AC" }', '{ text = "ACME" }', True),
        ('{ text = "ACME" }', '{ text = "AC" }', False),
        (WH.replace("}", ', type = "long_unsigned" }'), WH, False),
        (WH, WH.replace("}", ', type = "long_unsigned" }'), True),
        (f"{{ structure = [{WH}] }}", '{ structure = ["any"] }', False),
        (WH, "0-0:96.5.0*255", False),
    ],
)
def test_a_form_that_an_earlier_one_hides_is_a_mistake_in_the_file(
    tmp_path: Path, first: str, later: str, hidden: bool
) -> None:
    later = later if later[0] in "{" else f'"{later}"'
    forms = (f"fields = [{first}]", f"fields = [{later}]")
    if hidden:
        with pytest.raises(MeterConfigError, match="form 'form 1' is never used: 'form 0' stands before it"):
            check(tmp_path, number(1), *forms)
    else:
        check(tmp_path, number(1), *forms)


def test_other_forms_that_would_fit_are_named(tmp_path: Path) -> None:
    typed = WH.replace("}", ', type = "double_long_unsigned" }')
    forms = (f"fields = [{typed}]", f"fields = [{WH.replace('1.8', '2.8')}]")
    push = check(tmp_path, number(1), *forms)
    assert push.also == ("form 1",)
    assert push.sets[0].value(ENERGY) == Number(1, 0, "Wh")


KWH3 = Number(5, 3, "Wh")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (structure(name(ENERGY), number(5), scale(3, "Wh")), KWH3),
        (structure(name(ENERGY), number(5), integer(3), enum(30)), KWH3),
        (structure(structure(name(ENERGY), number(5), integer(3), enum(30))), KWH3),
        (structure(structure(name(ENERGY), scale(3, "Wh"), number(5))), KWH3),
        (
            array(
                structure(long_unsigned(3), name(ENERGY), integer(2), number(5)),
                structure(long_unsigned(3), name(ENERGY), integer(3), scale(3, "Wh")),
            ),
            KWH3,
        ),
        (structure(long_unsigned(3), name(ENERGY), integer(2), number(5), scale(3, "Wh")), KWH3),
        (structure(long_unsigned(3), name(ENERGY), integer(2), number(5)), UNKNOWN),
        (structure(name(ENERGY), number(5)), UNKNOWN),
        (structure(name(ENERGY), single(1.5)), UNKNOWN),
        (structure(name(ENERGY), single(1.5), scale(3, "Wh")), Number(15, 2, "Wh")),
        (structure(name(ENERGY), number(5), scale(127, "Wh")), UNKNOWN),
        (structure(name(ENERGY), number(5), scale(-128, "Wh")), UNKNOWN),
        (structure(name(ENERGY), NULL, scale(3, "Wh")), Missing(MissingReason.NOT_SPECIFIED)),
        (structure(name(ENERGY), single(float("nan")), scale(3, "Wh")), Missing(MissingReason.SENTINEL)),
    ],
)
def test_a_value_among_pairs_has_the_scale_that_stands_beside_it_or_none(
    tmp_path: Path, body: Data, value: Value
) -> None:
    assert read(tmp_path, body, 'fields = ["pairs"]').value(ENERGY) == value


@pytest.mark.parametrize("obis", ["7-0:3.0.0*255", "0-1:24.2.1*255", "6-0:1.0.0*255"])
def test_other_media_s_registers_need_a_scale_as_well(tmp_path: Path, obis: str) -> None:
    one = read(tmp_path, structure(name(obis), number(5)), 'fields = ["pairs"]')
    assert one.value(obis) == UNKNOWN


def test_a_quantity_with_two_values_is_no_push_and_the_same_one_twice_is_one(tmp_path: Path) -> None:
    pair = structure(name(ENERGY), number(5), scale(0, "Wh"))
    other = structure(name(ENERGY), number(6), scale(0, "Wh"))
    assert "comes twice, with different values" in str(
        check(tmp_path, array(pair, other), 'fields = ["pairs"]').mistakes
    )
    assert len(read(tmp_path, array(pair, pair), 'fields = ["pairs"]').values) == 1


def entry(class_id: int, obis: str, attribute: int) -> Data:
    return structure(long_unsigned(class_id), name(obis), integer(attribute), long_unsigned(0))


@pytest.mark.parametrize("together", [True, False])
def test_demand_registers_of_a_described_list_have_their_scale(tmp_path: Path, together: bool) -> None:
    listed = array(
        entry(40, "0-0:25.9.0*255", 2),
        entry(1, "0-0:96.1.0*255", 2),
        entry(5, "1-0:1.5.0*255", 3),
        entry(5, "1-0:1.5.0*255", 4),
    )
    values = (octets(b"77"), number(70), scale(1, "W"))
    body = structure(listed, structure(*values)) if together else structure(listed, *values)
    one = read(tmp_path, body, 'fields = ["objects"]')
    assert one.value("1-0:1.5.0*255#3") == Number(70, 1, "W")
    assert one.value("1-0:1.5.0*255#4") is None


def test_structures_in_a_push_have_fields_of_their_own(tmp_path: Path) -> None:
    form = f'fields = [{{ structure = ["device_id", "clock"] }}, {{ structure = [{WH}] }}]'
    push = check(tmp_path, structure(structure(octets(b"S1"), CLOCK), array(number(7))), form)
    assert push.body is not None
    assert push.body.device == "S1"
    assert push.sets[0].value(ENERGY) == Number(7, 0, "Wh")
    assert push.sets[0].at == datetime(2026, 11, 30, 4, 30, tzinfo=UTC)
    (mistake,) = check(tmp_path, structure(structure(octets(b"S1"), CLOCK), array()), form).mistakes
    assert "field 2, structure (own.toml line 6): field 1, 1-0:1.8.0*255" in mistake


def test_an_empty_place_is_a_place_only_where_it_is_always_there(tmp_path: Path) -> None:
    body = structure(NULL, NULL, number(7))
    push = check(tmp_path, body, f'fields = ["device_id", "clock", {WH}]')
    assert push.body is not None
    assert (push.body.device, push.body.clock, push.mistakes) == ("", b"", ())
    assert check(tmp_path, body, f'fields = ["device_id?", "clock?", {WH}]').mistakes != ()


@pytest.mark.parametrize("value", [Data(Tag.ENUM, 3), Data(Tag.BCD, 0x12), octets(b"12"), array(number(1))])
def test_what_counts_nothing_is_no_number(tmp_path: Path, value: Data) -> None:
    (mistake,) = check(tmp_path, structure(value), f"fields = [{WH}]").mistakes
    assert "is no number" in mistake or "is no single value" in mistake


@pytest.mark.parametrize("profile", ["block_load", "daily", "billing"])
@pytest.mark.parametrize("clock", [NULL, octets(bytes.fromhex("FFFFFFFFFFFFFFFFFF8000FF"))])
def test_a_stored_profile_is_not_stamped_with_our_time(tmp_path: Path, profile: str, clock: Data) -> None:
    period = "\nperiod = 900" if profile == "block_load" else ""
    form = f'fields = ["clock", {WH}]\nprofile = "{profile}"{period}'
    (mistake,) = check(tmp_path, structure(clock, number(7)), form).mistakes
    assert f"a push of {profile} without the clock" in mistake
    assert read(tmp_path, structure(CLOCK, number(7)), form).profile is ProfileName(profile)


def test_rows_of_a_profile_in_a_described_list_are_captures_beside_its_values(tmp_path: Path) -> None:
    at = bytes.fromhex("07EA0B1E0108000000014A00")
    row = structure(octets(at), *[long_unsigned(1)] * (len(BLOCK_LOAD.columns) - 1))
    listed = array(
        entry(1, "0-0:96.1.0*255", 2),
        entry(7, str(BLOCK_LOAD.obis), 2),
        entry(3, ENERGY, 2),
        entry(3, ENERGY, 3),
    )
    body = structure(listed, octets(b"77"), array(row), number(5), scale(0, "Wh"))
    push = check(tmp_path, body, 'fields = ["objects"]')
    assert push.mistakes == ()
    assert [one.profile for one in push.sets] == [ProfileName.INSTANTANEOUS, ProfileName.BLOCK_LOAD]
    assert push.sets[0].value(ENERGY) == Number(5, 0, "Wh")
    assert push.sets[0].value(str(BLOCK_LOAD.obis)) is None
    assert push.sets[1].at == datetime(2026, 11, 30, 2, 30, tzinfo=UTC)
    alone = structure(array(*listed.items[:2]), octets(b"77"), array(row))
    assert [one.profile for one in check(tmp_path, alone, 'fields = ["objects"]').sets] == [
        ProfileName.BLOCK_LOAD
    ]
    other = structure(array(entry(7, "1-0:99.77.0*255", 2)), array(row))
    (mistake,) = check(tmp_path, other, 'fields = ["objects"]').mistakes
    assert mistake.startswith("1 rows of 1-0:99.77.0*255: what came does not fit")
