"""The commands `models`, run as people do, on the model that `docs/modbus.md` builds."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.cli import Cli
from tests.support.paths import ROOT
from tests.support.town import Town
from tests.support.town_meters import address, one

PAGE = (ROOT / "docs" / "modbus.md").read_text(encoding="utf-8")
STEPS = PAGE.partition("## A model in ten minutes")[2].partition("\n## ")[0]


def fenced(kind: str) -> list[str]:
    found = re.findall(rf"^   ```{kind}\n(.*?)^   ```", STEPS, re.DOTALL | re.MULTILINE)
    return [dedent(text) for text in found]


@pytest.fixture
def model(cli: Cli) -> Path:
    folder = cli.folder / "models"
    folder.mkdir(exist_ok=True)
    (folder / "ex3.txt").write_text(fenced("text")[0], encoding="utf-8")
    path = folder / "ex3.toml"
    path.write_text("\n".join(fenced("toml")), encoding="utf-8")
    return path


def check(cli: Cli, *words: object) -> list[str]:
    return [
        " ".join(line.split()) for line in cli("models", "check", *words).out.splitlines() if line.strip()
    ]


def test_the_model_of_the_docs_says_what_they_say(cli: Cli, model: Path) -> None:
    said = check(cli, model, "--image", model.with_suffix(".txt"))
    shown = [" ".join(line.split()) for line in fenced("console")[0].splitlines()[1:] if line.strip()]
    assert len(said) == len(shown)
    for got, wanted in zip(said, shown, strict=True):
        if not wanted.startswith("at "):
            assert got.endswith(wanted)


def test_a_wrong_word_order_is_found_by_the_probe(cli: Cli, model: Path) -> None:
    image = model.with_suffix(".txt")
    image.write_text(image.read_text(encoding="utf-8").replace("4366 6666", "6666 4366"), encoding="utf-8")
    said = cli("models", "check", model, "--image", image, code=1).err
    assert "probe: voltage is" in said
    assert 'with `word_order = "little"` every probe is plausible' in said


def test_mistakes_have_file_line_field_and_the_nearest_name(cli: Cli, model: Path) -> None:
    text = model.read_text(encoding="utf-8").replace("address = 4", "adress = 4")
    model.write_text(text, encoding="utf-8")
    line = text.splitlines().index("adress = 4") + 1
    said = cli("models", "check", model, code=3).err
    assert f"ex3.toml:{line}: registers[1].adress (1-0:1.8.0*255): unknown key" in said
    assert "Did you mean `address`?" in said
    wrong = cli("models", "check", model, "--json", code=3).json
    assert {(one["line"], one["nearest"]) for one in wrong} >= {(line, "address")}


def test_models_are_listed_with_those_of_a_folder(cli: Cli, model: Path) -> None:
    rows = cli("models", "--folder", model.parent, "--json").json
    assert {row["model"] for row in rows} >= {"ex3", "sdm120", "abb-b23"}
    assert {row["file"] for row in rows if row["model"] == "ex3"} == {str(model)}
    model.write_text("nonsense", encoding="utf-8")
    assert "ex3.toml" in cli("models", "--folder", model.parent, code=3).err


def test_a_model_is_shown(cli: Cli, model: Path) -> None:
    said = cli("models", "show", "ex3", "--folder", model.parent).out
    assert "Example EX3" in said
    assert "10^-2 x ct" in said
    assert "may be written" not in said
    contact = (
        '[[registers]]\nquantity = "0-0:96.3.10"\nprofiles = []\nfunction = 3\naddress = 26\ntype = "u16"\n'
        "[relay]\nclosed = [1]\nopen = [0]\n"
    )
    written = contact + '[writes.relay]\nfunction = 6\naddress = 26\ntype = "u16"\nclose = 1\nopen = 0\n'
    model.write_text(model.read_text(encoding="utf-8") + written, encoding="utf-8")
    said = " ".join(cli("models", "show", model).out.split())
    assert "may be written: relay function 6, register 26 (0x001a); on trusted lines only" in said
    assert cli("models", "show", model, "--json").json["registers"][1]["quantity"] == "1-0:1.8.0*255"
    assert "Did you mean `sdm120`" in cli.refuses("models", "show", "sdm12", code=3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "ex3.txt:1: write FUNCTION ADDRESS: WORDS in hex"),
        ("5 0: 0001", "write FUNCTION ADDRESS"),
        ("3 0: 10000", "each word is 0 to FFFF"),
        ("1 0: 2", "each word is 0 to 1"),
        ("3 65535: 1 1", "pass the last address"),
        ("3/1 0: 1", "records of files"),
        ("20 0: 1", "records of files"),
        ("3 0: 1 1\n3 1: 1", "ex3.txt:2: register 1 of function 3 stands here twice"),
        ("3 0: xyz", "invalid literal"),
        ("17: 1", "ex3.txt:1"),
    ],
)
def test_an_image_that_is_none_is_told(cli: Cli, model: Path, line: str, words: str) -> None:
    image = model.with_suffix(".txt")
    image.write_text(line, encoding="utf-8")
    assert words in cli.refuses("models", "check", model, "--image", image, code=3)


def test_registers_that_are_not_in_the_image_are_named(cli: Cli, model: Path) -> None:
    image = model.with_suffix(".txt")
    image.write_text("3 8: 1388\n", encoding="utf-8")
    document = cli("models", "check", model, "--image", image, "--json").json
    assert document["absent"] == ["1-0:1.8.0*255", "1-0:12.7.0*255", "0-0:96.1.0*255"]
    assert document["sets"][0]["values"]["1-0:14.7.0*255"] == "50.00 Hz"


CONFIG = """
[gateway]
name = "e-1"
data = "data"
[modbus]
models = "{models}"
[[lines]]
name = "bus"
kind = "serial"
device = "/dev/ttyUSB0"
[[meters]]
meter = "EXA:10000001"
line = "bus"
[meters.modbus]
unit = 1
model = "ex3"
"""


def test_check_reads_the_folder_and_warns_of_files_that_no_meter_has(cli: Cli, model: Path) -> None:
    config = cli.folder / "models.toml"
    config.write_text(CONFIG.format(models=model.parent), encoding="utf-8")
    assert "ex3" not in cli("check", "--config", config).out
    other = model.with_name("other.toml")
    other.write_text("colour = 1", encoding="utf-8")
    said = cli("check", "--config", config).out
    assert f"warning: {other}:" in said
    assert "colour: unknown key" in said
    other.unlink()


def test_a_model_may_be_a_file_where_a_meters_address_is_given(cli: Cli, model: Path) -> None:
    where = ("read", "tcp://127.0.0.1:1", "instantaneous", "--unit", 1, "--model")
    assert "line" in cli.refuses(*where, model, code=4)
    assert "no-such.toml cannot be read" in cli.refuses(*where, "./no-such.toml", code=3)
    model.write_text("colour = 1", encoding="utf-8")
    assert "ex3.toml:1: colour: unknown key" in cli(*where, model, code=3).err


def test_an_image_is_read_of_a_meter_and_fits_its_model(cli: Cli, cli_town: Town) -> None:
    meter = one(cli_town, model="abb-b23")
    where = address(cli_town, meter)
    ranges = ("3:0x5000-0x5007", "3:0x5B00-0x5B3A", "3:0x8900-0x8901")
    image = cli.folder / "read.txt"
    cli("models", "image", where, 1, *ranges, "--write", image)
    known = Path(str(files("protocols.modbus"))) / "models" / "abb-b23.toml"
    document = cli("models", "check", known, "--image", image, "--json").json
    assert document["absent"] == []
    assert document["sets"][-1]["values"]["0-0:96.1.0*255"] == meter.meter.partition(":")[2]
    assert "is there already" in cli.refuses("models", "image", where, 1, "3:0", "--write", image, code=2)
    assert "is no range of registers" in cli.refuses("models", "image", where, 1, "3", code=2)
    assert "unit 99" in cli.refuses("models", "image", where, 99, "3:0", code=4)
