"""The configuration file: every mistake is shown where it stands."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from gateway.config.dlms import DlmsSection
from gateway.config.file import DirectorySection, JournalSection, load
from gateway.config.meters import LineSection
from gateway.config.mistakes import ConfigMistakes
from gateway.edge.journal.captures import CAPTURE_OCTETS
from gateway.edge.polling.admission import Route
from gateway.roles.admission import files_needed, route, too_few_files
from gateway.roles.journal import journal_needs
from gateway.roles.lines import make_line
from gateway.roles.timekeeping import time_warnings
from protocols.lines.optical import OpticalLine
from protocols.lines.udp import UdpLine
from protocols.session import Auth, DlmsSettings

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
        ("unit = 1", "unit = 256", 16, ["meters[0].modbus.unit", "less than or equal to 255"]),
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[time]\nsources = []", "time.sources: must name at least 1"),
        ('[mqtt]\nbrokers = ["mq1.internal"]', "`mq1.internal` is no broker: write HOST:PORT"),
        ('[mqtt]\nbrokers = ["mq1.internal:99999"]', "`mq1.internal:99999` is no broker"),
        ('[mqtt]\nbrokers = ["[::1]:0"]', "is no broker"),
        ('[directory]\nverify_key_refs = "key"', "directory.verify_key_refs: must be a list"),
        ('[directory]\nverify_key_refs = ["a", "b", "c", "d", "e"]', "may name at most 4"),
    ],
)
def test_lists_and_brokers_are_explained_in_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigMistakes) as caught:
        load(write(tmp_path, f"{GOOD}\n{text}\n"))
    assert words in str(caught.value)


def test_a_wrong_name_in_a_list_is_one_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigMistakes) as caught:
        load(write(tmp_path, GOOD + '\n[time]\nsources = ["ntp"]\n'))
    [mistake] = caught.value.mistakes
    assert mistake.field == "time.sources[0]"


def test_brokers_of_a_cluster_may_have_names_and_addresses(tmp_path: Path) -> None:
    given = '\n[mqtt]\nbrokers = ["mq1.internal:8883", "[2001:db8::1]:8883", "10.0.0.1:1883"]\n'
    assert len(load(write(tmp_path, GOOD + given)).mqtt.brokers) == 3


def test_a_box_that_waits_for_central_must_be_able_to_believe_it(tmp_path: Path) -> None:
    text = GOOD.replace('name = "edge-1"', 'name = "edge-1"\nreplacement = true')
    with pytest.raises(ConfigMistakes, match=r"gateway.replacement: .*verify_key_ref"):
        load(write(tmp_path, text))
    assert load(write(tmp_path, text + '\n[directory]\nverify_key_refs = ["key"]\n')).gateway.replacement


@pytest.mark.parametrize(
    ("roles", "section", "heard"),
    [
        ('["edge"]', 'sources = ["meters"]', False),
        ('["edge"]', 'sources = ["central"]', True),
        ('["edge", "central"]', 'sources = ["central"]', False),
        ('["edge", "central"]', 'sources = ["central", "kernel"]', True),
        ('["edge"]', 'sources = ["meters"]\ntrust = "host"', True),
    ],
)
def test_a_clock_of_which_nobody_can_speak_is_told(
    tmp_path: Path, roles: str, section: str, heard: bool
) -> None:
    text = GOOD.replace('name = "edge-1"', f'name = "edge-1"\nroles = {roles}')
    config = load(write(tmp_path, f'{text}\n[directory]\nverify_key_ref = "key"\n[time]\n{section}\n'))
    assert any("nobody is left" in warning for warning in time_warnings(config)) is not heard


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("unit = 1", "unit = 300").replace('kind = "serial"', 'kind = "x"')
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


def test_what_sessions_share_on_their_way(tmp_path: Path) -> None:
    def line(**settings: object) -> LineSection:
        return LineSection.model_validate({"name": "l", "kind": "tcp", "port": 4059, **settings})

    assert route(line(host="10.20.30.40")) == Route("10.20.30.0/24", "10.20.30.40")
    assert route(line(host="2001:db8::7")) == Route("2001:db8::/64", "2001:db8::7")
    assert route(line(host="dcu-7.example")) == Route("dcu-7.example", "dcu-7.example")
    assert route(line(host="10.20.30.40", segment="radio-3")) == Route("radio-3", "10.20.30.40")
    assert route(LineSection(name="l", kind="dial-in")) == Route()
    assert route(LineSection(name="l", kind="serial", device="/dev/ttyS0")) is None


def test_too_few_files_for_the_lines_are_told(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))
    needed = files_needed(config)
    assert too_few_files(config, needed) is None
    assert f"LimitNOFILE={needed}" in (too_few_files(config, needed - 1) or "")


def test_central_alone_releases_entries_unless_the_configuration_names_others() -> None:
    assert JournalSection().ack_consumers == ("central",)


ASSOCIATED = DLMS + 'auth = "lls"\npassword_ref = "password"\n'


def test_the_dlms_table_gives_settings_whose_title_is_the_clients_own(tmp_path: Path) -> None:
    first, second = (load(write(tmp_path, ASSOCIATED)).meters[0].spec(name).dlms for name in ("a", "b"))
    assert first is not None
    assert second is not None
    assert first == DlmsSettings(
        framing="wrapper-udp", auth=Auth.LLS, password_ref="password", system_title=first.system_title
    )
    assert len(first.system_title) == len(second.system_title) == 8
    assert first.system_title != second.system_title
    given = load(write(tmp_path, ASSOCIATED + 'system_title = "4D47570000000001"\n')).meters[0].spec("a").dlms
    assert given is not None
    assert given.system_title == bytes.fromhex("4D47570000000001")


def test_every_dlms_setting_can_be_given(tmp_path: Path) -> None:
    assert set(DlmsSection.model_fields) == {setting.name for setting in fields(DlmsSettings)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DLMS + 'auth = "lls"', r'meters\[0\].dlms: auth = "lls" needs `password_ref`'),
        (DLMS + "ciphered = true", r"meters\[0\].dlms: ciphering needs `encryption_key_ref`"),
        (DLMS + "client = 128", r"meters\[0\].dlms.client: Input should be less than or equal to 127"),
        (DLMS + "timeout = 0", r"meters\[0\].dlms.timeout: Input should be greater than 0"),
        (DLMS + "address_octets = 3", r"meters\[0\].dlms.address_octets: Input should be 0, 1, 2 or 4"),
        (DLMS + 'companion = "is15958"', "Did you mean `is15959`"),
        (DLMS + "cleint = 16", "Did you mean `client`"),
        (DLMS + 'hls_object = "x"', "meters.0..dlms.hls_object"),
    ],
)
def test_mistakes_in_the_dlms_table(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigMistakes, match=words):
        load(write(tmp_path, text))


def test_what_size_the_journal_needs_for_the_configured_meters(tmp_path: Path) -> None:
    """Captures per meter and day by schedule x octets per entry x days; a bound that is smaller is named."""
    config = load(write(tmp_path, GOOD))
    needs = journal_needs(config, entry_octets=1_000)
    assert (needs.captures_per_day, needs.floor_bytes) == (96, 96 * 1_000 * 45)
    assert needs.list_bytes == 96 * 3 * CAPTURE_OCTETS
    assert needs.warnings(config) == []
    stored = GOOD.replace('["instantaneous"]', '["instantaneous", "prepayment"]').replace(
        "abb-b23", "sdm320y"
    )
    small = (
        stored + "\n[journal]\nmax_bytes = 1_048_576\nmax_capture_bytes = 1_048_576\nretention_days = 90\n"
    )
    config = load(write(tmp_path, small))
    needs = journal_needs(config, entry_octets=1_000)
    assert needs.floor_bytes == (96 + 96) * 1_000 * 90
    [floor] = needs.warnings(config)
    assert "holds about 5 of the 90 days" in floor
    assert str(needs.floor_bytes) in floor
    many = replace(needs, list_bytes=2_000_000).warnings(config)
    assert "max_capture_bytes" in many[1]


def test_the_old_single_verify_key_and_the_list_are_one_list() -> None:
    section = DirectorySection(verify_key_ref="a", verify_key_refs=("a", "b"))
    assert section.verify_refs() == ("a", "b")
    assert DirectorySection(verify_key_ref="a").verify_refs() == ("a",)
    assert DirectorySection(verify_key_refs=("b",)).verify_refs() == ("b",)
    assert DirectorySection().verify_refs() == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[clocks]\n[time]\ntrust = "host"\n', "a host whose clock is taken on trust"),
        ("[clocks]\nleast = 60\nmost = 60\n", "`most` is above `least`"),
        ("[clocks]\nmargin = 400\nstep = 200\n", "leave no moment in a quarter of an hour"),
    ],
)
def test_corrections_of_clocks_that_cannot_be_are_refused(tmp_path: Path, more: str, words: str) -> None:
    with pytest.raises(ConfigMistakes) as told:
        load(write(tmp_path, GOOD + more))
    assert words in str(told.value)
    assert load(write(tmp_path, f"{GOOD}[clocks]\n")).clocks is not None
