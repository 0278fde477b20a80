"""Models of users: folders and files are hostile input, and what a file says wrong is told where it stands."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import MeterConfigError
from protocols.modbus.format.library import (
    MAX_BASES,
    MAX_FILE,
    MAX_MISTAKES,
    ModelMistakes,
    all_models,
    forget_models,
    known_names,
    load_model,
    model_file,
    model_names,
    parse_model,
)
from protocols.modbus.format.model_keys import tables
from protocols.toml_mistakes import Mistake

OWN = 'extends = "sdm120"\nname = "mine"\ntitle = "Mine"\n'
VOLTAGE, EXPORT = "1-0:12.7.0*255", "1-0:2.8.0*255"


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    forget_models()


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(MeterConfigError) as caught:
        model_file(path)
    return str(caught.value)


def test_a_folder_stands_beside_the_shipped_models(tmp_path: Path) -> None:
    put(tmp_path, "mine", OWN)
    assert set(known_names(tmp_path)) == {*model_names(), "mine"}
    assert load_model("mine", tmp_path).title == "Mine"
    assert load_model("sdm120", tmp_path) is load_model("sdm120")
    assert model_file(tmp_path / "mine.toml") == load_model(str(tmp_path / "mine.toml"))


def test_a_model_extends_one_of_the_same_folder(tmp_path: Path) -> None:
    put(tmp_path, "mine", OWN + "max_read = 20\n")
    other = put(tmp_path, "other", 'extends = "mine"\nname = "other"\n')
    assert load_model("other", tmp_path).max_read == 20
    assert model_file(other).max_read == 20


def test_a_name_that_is_shipped_or_not_the_files_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "sdm120", OWN)
    put(tmp_path, "other", OWN)
    problems = {entry.name: str(entry.problem) for entry in all_models(tmp_path) if entry.problem}
    assert "has the name of a shipped model" in problems["sdm120"]
    assert "the file must be called mine.toml" in problems["other"]


def test_an_unknown_model_is_told_the_nearest(tmp_path: Path) -> None:
    put(tmp_path, "elmeasure", OWN)
    with pytest.raises(MeterConfigError, match="Did you mean `elmeasure`"):
        load_model("elmeasur", tmp_path)


def test_a_link_that_leaves_the_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    outside = put(tmp_path, "outside", OWN)
    (folder / "mine.toml").symlink_to(outside)
    assert f"is a link that leaves its folder, to {outside}" in refused(folder / "mine.toml")
    (folder / "gone.toml").symlink_to(folder / "nowhere.toml")
    assert "cannot be read: No such file" in refused(folder / "gone.toml")
    (folder / "loop.toml").symlink_to(folder / "loop.toml")
    assert "loop.toml" in refused(folder / "loop.toml")


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    """Kubernetes mounts files so."""
    (tmp_path / "..data").mkdir()
    put(tmp_path / "..data", "mine", OWN)
    (tmp_path / "mine.toml").symlink_to(tmp_path / "..data" / "mine.toml")
    assert load_model("mine", tmp_path).title == "Mine"


def test_what_is_no_file_of_text_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    assert "is no file" in refused(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    assert "folder.toml" in refused(tmp_path / "folder.toml")
    (tmp_path / "octets.toml").write_bytes(b"name = \xff")
    assert "is no text (UTF-8): octet 7 is 0xff" in refused(tmp_path / "octets.toml")
    assert f"at most {MAX_FILE} octets" in refused(put(tmp_path, "long", "#" * (MAX_FILE + 1)))
    assert "cannot be read" in refused(tmp_path / "nowhere.toml")


def test_models_that_extend_each_other_end(tmp_path: Path) -> None:
    put(tmp_path, "a", 'extends = "b"\nname = "a"\n')
    put(tmp_path, "b", 'extends = "a"\nname = "b"\n')
    with pytest.raises(ModelMistakes, match="extends: there is no other model"):
        load_model("a", tmp_path)
    for number in range(MAX_BASES + 2):
        put(tmp_path, f"c{number}", f'extends = "c{number + 1}"\nname = "c{number}"\n')
    put(tmp_path, f"c{MAX_BASES + 2}", OWN)
    with pytest.raises(ModelMistakes, match=f"more than {MAX_BASES} models"):
        load_model("c0", tmp_path)


def child(more: str) -> str:
    return f'extends = "sdm120"\nname = "mine"\n{more}'


def test_extending_changes_and_removes_registers() -> None:
    text = child(
        f'remove = ["{EXPORT}"]\n[[registers]]\nquantity = "{VOLTAGE}"\naddress = 0x100\ntype = "u32"\nscaler = -1\n'
    )
    model = parse_model(text, where="mine.toml")
    voltage = model.of_quantity(VOLTAGE)
    assert (voltage.address, voltage.type, voltage.scaler, voltage.unit) == (0x100, "u32", -1, "V")
    assert voltage.resolution is None  # it belonged to the float
    assert EXPORT not in [r.quantity for r in model.registers]
    base = load_model("sdm120")
    assert len(model.registers) == len(base.registers) - 1
    assert [r for r in model.registers if r.quantity != VOLTAGE] == [
        r for r in base.registers if r.quantity not in (VOLTAGE, EXPORT)
    ]


def mistakes(text: str) -> list[str]:
    with pytest.raises(ModelMistakes) as caught:
        parse_model(text, where="mine.toml")
    return [str(mistake) for mistake in caught.value.mistakes]


def test_mistakes_of_what_is_inherited_stand_where_it_is_extended() -> None:
    (one,) = mistakes(child('remove = ["1-0:99.8.0*255"]\n'))
    assert one.startswith("mine.toml:3: remove[0]: the model that is extended has no such register")
    changed = f'[[registers]]\nquantity = "{VOLTAGE}"\nunit = "A"\n'
    (one,) = mistakes(child(changed))
    assert one.startswith(f"mine.toml:5: registers[0].unit ({VOLTAGE}): {VOLTAGE} is in V; `unit` says `A`")
    found = mistakes(child("align = 4\n"))
    assert found[0].startswith("mine.toml:1: registers[")
    assert "as extended: address and size must be multiples of align = 4" in found[0]


REGISTER = {
    "quantity": "1-0:1.8.0",
    "profiles": ["instantaneous"],
    "function": 3,
    "address": 4,
    "type": "u32",
}
HEAD = """
name = "x"
title = "X"
manufacturer = "XXX"
source = "nowhere"
serial = false
[fingerprint]
growing = ["1-0:1.8.0"]
"""


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    return str(value)


def registers(*changes: dict[str, Any], head: str = HEAD) -> str:
    text = head
    for change in changes:
        entry = {**REGISTER, "unit": "kWh", **change}
        text += "[[registers]]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in entry.items() if v is not None)
    return text


SECOND = {"quantity": "1-0:2.8.0", "address": 8}
SCALE = '[[scales]]\nname = "ct"\nfunction = 3\naddress = 40\ntype = "u16"\n'
WRONG = {
    "1-0:1.8.0 is in Wh; `unit` says `V`": registers({"unit": "V"}),
    "1-0:1.8.0 is in Wh; `unit` says none": registers({"unit": None}),
    "`KWH` is none; known: Wh, mWh, kWh": registers({"unit": "KWH"}),
    "5 overlaps registers[0] (1-0:1.8.0) at 4: u32 has 2": registers({}, {**SECOND, "address": 5}),
    "4 overlaps registers[0] (1-0:1.8.0) at 4; `shared = true`": registers({}, {**SECOND, "address": 4}),
    "40005 looks like the printed number of register 5, which is 4 on the wire": registers(
        {"address": 40005}
    ),
    "30005 looks like the printed number": registers({"address": 30005, "function": 4}),
    "scales[0].address: 5 overlaps the registers of 1-0:1.8.0 at 4": registers({})
    + SCALE.replace("address = 40", "address = 5"),
    "280 is not below `high` = 180": registers({})
    + '[[probe]]\nquantity = "1-0:1.8.0"\nlow = 280\nhigh = 180\n',
    "Did you mean `u16`?": "absent = { u17 = [1] }\n" + registers({}),
    "400005 is the printed number of register 5, which is 4 on the wire: write address = 4, function = 3": registers(
        {"address": 400005}
    ),
    "a quotient whose decimal does not end needs `resolution`": registers({"factor": "1/3"}),
    '`zero` is no factor: write a number, or a fraction as "1/3"': registers({"factor": "zero"}),
    "`1/0` is no factor": registers({"factor": "1/0"}),
    "must be a number of at most 24 digits": registers({"low": 10**30}),
    "there is no scale `ct`; known: none": registers({"multiply_by": ["ct"]}),
    "there is no scale `cd`; known: ct": registers({"multiply_by": ["cd"]}) + SCALE,
    "the name `ct` is taken": registers({}) + SCALE + SCALE,
    "type f32 takes no `bits`": registers({"type": "f32", "resolution": -1, "bits": [0, 7]}),
    "`bits` are the lowest and the highest, within 0 to 31": registers({"bits": [0, 32]}),
    "`count` of type mod10000 is 1 to 5, not 9": registers({"type": "mod10000", "count": 9}),
    "functions 1 and 2 give type bit": registers({"function": 1}),
    "`digits` and `rollover` say the same": registers({"digits": 8, "rollover": 1000}),
    "type f32 does not roll over at a count": registers({"type": "f32", "resolution": -1, "digits": 8}),
    "`low` = 5 is not below `high` = 5": registers({"low": 5, "high": 5}),
    "a part is an integer, not f32": registers({"plus": [{"address": 6, "type": "f32"}]}),
    "5 overlaps registers[0]": registers(
        {"plus": [{"address": 9, "type": "u16"}]}, {**SECOND, "address": 5}
    ).replace("address = 5", "address = 9"),
    "lies in the forbidden registers 5 to 9": registers({})
    + "[[forbidden]]\nfunction = 3\nfirst = 5\nlast = 9\n",
    "`isolated` registers are alone": registers({"isolated": True, "group": "a"}),
    "function 43 gives texts": registers({"function": 43}),
    "a meter that shows no serial needs a [fingerprint]": registers({}, head=HEAD.split("[fingerprint]")[0]),
    "fingerprint.growing[0]: no register gives 1-0:1.8.0": registers({"quantity": "1-0:2.8.0"}),
    "0-0:1.0.0*255 is a time": registers({}, {"quantity": "0-0:1.0.0", "unit": "", "address": 9}),
    "`fields` needs month, day, hour, minute, too": registers(
        {"quantity": "0-0:1.0.0", "unit": "", "type": "time_fields", "count": 1, "fields": {"year": "0"}}
    ),
    '`x` is no place: write "WORD:LOW-HIGH+BASE"': registers(
        {
            "quantity": "0-0:1.0.0",
            "unit": "",
            "type": "time_fields",
            "count": 1,
            "fields": dict.fromkeys(("year", "month", "day", "hour", "minute"), "x"),
        }
    ),
    "`close` and `open` are two unsigned patterns of 16 bits": registers({})
    + '[writes.relay]\nfunction = 6\naddress = 9\ntype = "u16"\nclose = 1\nopen = 1\n',
    "function 6 writes one register, and type u32 has 2": registers({})
    + '[writes.relay]\nfunction = 6\naddress = 9\ntype = "u32"\nclose = 1\nopen = 0\n',
    "a clock is of type time_bcd, time_seconds, time_fields, not u16": registers({})
    + '[writes.clock]\nfunction = 6\naddress = 9\ntype = "u16"\n',
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_told_with_advice(words: str) -> None:
    shown = words if words != "5 overlaps registers[0]" else "9 overlaps registers[0]"
    assert shown in "\n".join(mistakes(WRONG[words]))


def test_what_overlaps_on_purpose_is_said() -> None:
    text = registers({}, {**SECOND, "address": 4, "shared": True})
    assert len(parse_model(text, where="x.toml").registers) == 2
    halves = registers(
        {"type": "u16", "bits": [0, 7]}, {**SECOND, "address": 4, "type": "u16", "bits": [8, 15]}
    )
    assert len(parse_model(halves, where="x.toml").registers) == 2
    high = registers({"address": 40005}, head="high_addresses = true\n" + HEAD)
    assert parse_model(high, where="x.toml").registers[0].address == 40005


def test_every_key_is_described() -> None:
    for name, table, _ in tables():
        assert table.__doc__, name
        for key, field in table.model_fields.items():
            assert field.description, f"{name}.{key}"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 3, 4, 17, 43, 10**40, 40001, 400001])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["u16", "f32", "text", "time_fields", "1-0:1.8.0*255", "kWh", "1/3", "0:0-6+2000", "big", "bit"]
    )
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["low", "address", "type", "0", "year", "offset"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
KEYS = sorted({key for _, table, _ in tables() for key in table.model_fields})


def written(value: Any) -> str:
    """Return a value as TOML, as well as it can be."""
    match value:
        case None:
            return "''"
        case float() if value != value:
            return "nan"
        case str():
            return '"' + "".join(c if c.isalnum() or c in " -:.*/+" else "_" for c in value) + '"'
        case list():
            return "[" + ", ".join(map(written, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key} = {written(v)}" for key, v in value.items()) + "}"
    return toml(value).replace(" ", "T") if hasattr(value, "isoformat") else toml(value)


def read_or_refused(text: str) -> None:
    found: list[Mistake] = []
    try:
        model = parse_model(text, where="fuzzed.toml")
    except ModelMistakes as error:
        found = error.mistakes
    assert found or model.registers
    assert all(mistake.file == "fuzzed.toml" and mistake.problem for mistake in found)


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
    st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8), max_size=3),
    st.sampled_from(["", 'extends = "sdm120"\n', HEAD, 'extends = "abb-b23"\nname = "x"\n']),
    st.booleans(),
)
def test_any_toml_is_a_model_or_is_refused_with_its_place(
    top: dict[str, Any], entries: list[dict[str, Any]], head: str, near: bool
) -> None:
    said = {line.partition(" = ")[0] for line in head.splitlines()}
    text = "".join(f"{key} = {written(value)}\n" for key, value in top.items() if key not in said) + head
    if "registers" not in top:
        for entry in entries:
            table = {**(REGISTER if near else {}), **entry}
            text += "[[registers]]\n" + "".join(f"{key} = {written(value)}\n" for key, value in table.items())
    read_or_refused(text)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_file_is_a_model_or_is_refused_with_its_place(data: st.DataObject) -> None:
    text = registers({"multiply_by": ["ct"]}) + SCALE
    at = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(at, min(len(text), at + 12)))
    read_or_refused(text[:at] + data.draw(st.text('"[]{}=.,#\n19x', max_size=4)) + text[end:])


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "9" * 5_000,
        "a = 1e99999999999999999999",
        "a = 1e-99999999999999999999",
        "name = '''" + "x" * 200_000 + "'''",
        "[[registers]]\n" * 10_000,
        "registers = 3\n",
        "registers = [3]\nextends = 'sdm120'\n",
        "extends = 3\n",
        "extends = ['sdm120']\n",
        "remove = 3\nextends = 'sdm120'\n",
        "remove = [3, []]\nextends = 'sdm120'\n",
        "scales = {a = 1}\nextends = 'sdm120'\n",
        "low = 1e9999\n",
        "\x00",
    ],
    ids=range(15),
)
def test_hostile_files_are_refused(text: str) -> None:
    with pytest.raises(MeterConfigError):
        parse_model(text, where="hostile.toml")


def test_what_would_take_for_ever_is_refused_at_once() -> None:
    assert "line 2 has more than 500 dots" in mistakes("\na" + ".a" * 30_000 + "=1")[0]
    assert "not TOML" in mistakes("[" * 200_000)[0]


def test_not_more_mistakes_are_told_than_somebody_reads() -> None:
    found = mistakes("".join(f"k{number} = 1\n" for number in range(1000)))
    assert len(found) == MAX_MISTAKES + 1
    assert "mistakes in all; these are the first 64" in found[-1]


def test_lines_are_those_of_the_file() -> None:
    text = registers({}, SECOND, {**SECOND, "quantity": "1-0:3.8.0", "address": 8, "unit": "kWh"})
    found = mistakes(text)
    lines = text.splitlines()
    line = lines.index('unit = "kWh"', lines.index('quantity = "1-0:3.8.0"')) + 1
    assert found[0].startswith(f"mine.toml:{line}: registers[2].unit (1-0:3.8.0): 1-0:3.8.0 is in varh")
    assert tomllib.loads(text)["registers"][2]["quantity"] == "1-0:3.8.0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "float"}, "registers[0].type .*`float` is not allowed; .*Did you mean `f32`"),
        ({"type": "UINT32"}, "registers[0].type .*Did you mean `u32`"),
        ({"type": "int16"}, "registers[0].type .*Did you mean `s16`"),
        ({"unit": "kwh"}, "registers[0].unit .*Did you mean `kWh`"),
        ({"unit": "kilowatt"}, "registers[0].unit .*`kilowatt` is none; known: Wh, "),
        ({"quantity": "1-0:1.8"}, "registers[0].quantity .*: not an OBIS code"),
        ({"adress": 4}, "registers[0].adress .*Did you mean `address`"),
        ({"profiles": ["instantanous"]}, "registers[0].profiles[0] .*Did you mean `instantaneous`"),
    ],
)
def test_a_mistake_is_told_with_line_field_and_the_nearest_name(change: dict[str, Any], said: str) -> None:
    """At the line of the key that is wrong, and nothing beside it: entries that are wrong are not missing, too."""
    text = registers(change, SECOND)
    (one,) = mistakes(text)
    assert re.search(said.replace("[0]", r"\[0\]"), one), one
    line = int(one.split(":")[1])
    key = said.partition("registers[0].")[2].partition(" ")[0].partition("[")[0]
    assert text.splitlines()[line - 1].startswith(f"{key} = ")
