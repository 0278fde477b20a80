"""The configuration file: every mistake is shown where it stands."""

from pathlib import Path

import pytest

from gateway.config.file import JournalSection, load
from gateway.config.mistakes import ConfigMistakes
from gateway.roles.lines import make_line
from protocols.lines.optical import OpticalLine
from protocols.lines.udp import UdpLine

GOOD = """
[gateway]
name = "edge-1"
data = "/var/lib/x"

[[lines]]
name = "bus"
kind = "serial"
device = "/dev/ttyUSB0"

[[meters]]
meter = "EAS:10000001"
line = "bus"
profiles = ["instantaneous"]
[meters.modbus]
unit = 1
model = "abb-b23"
framing = "rtu"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_loads(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))
    assert config.meters[0].spec("edge-1").modbus is not None


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('name = "edge-1"', 'nam = "edge-1"', 3, ["gateway.nam", "unknown key", "Did you mean `name`?"]),
        ('kind = "serial"', 'kind = "seriel"', 8, ["`seriel` is not allowed", "Did you mean `serial`?"]),
        ('line = "bus"', 'line = "bas"', 13, ["there is no line `bas`", "Did you mean `bus`?"]),
        ("unit = 1", "unit = 248", 16, ["meters[0].modbus.unit", "less than or equal to 247"]),
        ('model = "abb-b23"\n', "", 15, ["meters[0].modbus.model", "required"]),
        ('device = "/dev/ttyUSB0"', "", 6, ["lines[0]", "needs `device`"]),
        ('"instantaneous"', '"instantaneus"', 14, ["Did you mean `instantaneous`?"]),
        ('meter = "EAS:10000001"', 'meter = "10000001"', 12, ["meters[0].meter", "pattern"]),
    ],
)
def test_a_mistake_is_shown_where_it_stands(
    tmp_path: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    with pytest.raises(ConfigMistakes) as caught:
        load(write(tmp_path, GOOD.replace(old, new)))
    text = str(caught.value)
    assert f"gateway.toml:{line}:" in text
    for word in words:
        assert word in text


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("unit = 1", "unit = 0").replace('kind = "serial"', 'kind = "x"')
    with pytest.raises(ConfigMistakes) as caught:
        load(write(tmp_path, text))
    assert len(caught.value.mistakes) == 2


@pytest.mark.parametrize("text", ["[gateway", "\x00", "gateway = 3"])
def test_a_broken_file_is_one_clear_mistake(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigMistakes):
        load(write(tmp_path, text))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigMistakes, match="there is no such file"):
        load(tmp_path / "none.toml")


DLMS = """
[gateway]
name = "edge-1"
data = "/var/lib/x"

[[lines]]
name = "path"
kind = "udp"
host = "10.20.0.1"
port = 4059

[[meters]]
meter = "GEN:10000001"
line = "path"
[meters.dlms]
framing = "wrapper-udp"
"""
OPTICAL = DLMS.replace(
    'kind = "udp"\nhost = "10.20.0.1"\nport = 4059',
    'kind = "serial"\ndevice = "/dev/ttyUSB0"\nmode_e = true\nmode_e_address = "0012"',
).replace("wrapper-udp", "hdlc")


def test_udp_and_optical_lines_are_made(tmp_path: Path) -> None:
    assert isinstance(make_line(load(write(tmp_path, DLMS)).lines[0]), UdpLine)
    assert isinstance(make_line(load(write(tmp_path, OPTICAL)).lines[0]), OpticalLine)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DLMS.replace("wrapper-udp", "wrapper"), "go together"),
        (DLMS.replace('kind = "udp"', 'kind = "tcp"'), "go together"),
        (DLMS.replace('host = "10.20.0.1"', ""), "needs `host` and `port`"),
        (DLMS.replace("port = 4059", "port = 4059\nmode_e = true"), "a serial line"),
        (OPTICAL.replace('framing = "hdlc"', 'framing = "wrapper"'), "`mode_e`, which needs"),
        (OPTICAL.replace('"0012"', '"0012!"'), "mode_e_address"),
    ],
)
def test_lines_and_framings_that_do_not_fit_are_mistakes(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigMistakes, match=words):
        load(write(tmp_path, text))


def test_central_alone_releases_entries_unless_the_configuration_names_others() -> None:
    assert JournalSection().ack_consumers == ("central",)
