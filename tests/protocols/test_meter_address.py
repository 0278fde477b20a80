"""URLs of meters: what they mean, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.errors import MeterConfigError, SecretMissing
from protocols.meters import KeyFile
from protocols.meters.address import parse_address, parse_line
from protocols.meters.lines import LineSettings
from protocols.meters.titles import client_title
from protocols.session import Auth


def key_file(folder: Path, *names: str) -> KeyFile:
    path = folder / "keys.toml"
    path.touch(mode=0o600)
    path.write_text("".join(f'{name} = "{"0f" * 16}"\n' for name in names))
    return KeyFile(path)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("dlms+tcp://10.0.0.7", LineSettings(kind="tcp", host="10.0.0.7", port=4059)),
        ("dlms+tcp://[fd00::7]:5000", LineSettings(kind="tcp", host="fd00::7", port=5000)),
        ("dlms+udp://meter.example:4060", LineSettings(kind="udp", host="meter.example", port=4060)),
        (
            "dlms+serial:///dev/ttyUSB0?baud=1200",
            LineSettings(kind="serial", device="/dev/ttyUSB0", baud=1200),
        ),
        (
            "dlms+optical:///dev/ttyUSB0?mode_e_address=12345",
            LineSettings(kind="serial", device="/dev/ttyUSB0", mode_e=True, mode_e_address="12345"),
        ),
        ("modbus+tcp://10.0.0.9?unit=1&model=sdm120", LineSettings(kind="tcp", host="10.0.0.9", port=502)),
        (
            "modbus+rtu+tcp://10.0.0.9:8899?unit=1&model=sdm120",
            LineSettings(kind="rtu-over-tcp", host="10.0.0.9", port=8899),
        ),
        (
            "modbus+serial:///dev/ttyUSB0?parity=E&stop_bits=2&unit=1&model=sdm120",
            LineSettings(kind="serial", device="/dev/ttyUSB0", parity="E", stop_bits=2),
        ),
    ],
)
def test_the_scheme_names_protocol_and_line(url: str, line: LineSettings) -> None:
    found, spec = parse_address(url)
    assert found == line
    assert (spec.dlms is None) == url.startswith("modbus")
    assert (spec.meter, spec.zone) == (None, "Asia/Kolkata")


def test_settings_that_are_not_given_follow_from_line_client_and_keys(tmp_path: Path) -> None:
    both = key_file(tmp_path, "hls_key", "encryption_key", "authentication_key")
    public = parse_address("dlms+tcp://h", both)[1].dlms
    utility = parse_address("dlms+tcp://h?client=48", both)[1].dlms
    assert public is not None
    assert utility is not None
    assert (public.auth, public.ciphered, public.framing) == (Auth.NONE, False, "wrapper")
    assert (utility.auth, utility.ciphered, utility.password_ref) == (Auth.HLS2, True, "hls_key")
    framings = {
        "dlms+tcp://h?physical=17": "hdlc",
        "dlms+serial:///dev/x": "hdlc",
        "dlms+udp://h": "wrapper-udp",
        "dlms+tcp://h?framing=hdlc": "hdlc",
        "modbus+tcp://h?unit=1&model=sdm120": "tcp",
        "modbus+rtu+tcp://h?unit=1&model=sdm120": "rtu",
        "modbus+serial:///dev/x?unit=1&model=sdm120": "rtu",
    }
    for url, framing in framings.items():
        spec = parse_address(url)[1]
        settings = spec.dlms or spec.modbus
        assert settings is not None
        assert settings.framing == framing


def test_settings_that_are_given_hold(tmp_path: Path) -> None:
    url = (
        "dlms+tcp://h?client=32&auth=lls&ciphered=false&timeout=2.5&max_list=4&companion=generic"
        "&meter=GEN:12345678&zone=Asia/Kathmandu"
    )
    spec = parse_address(url, key_file(tmp_path, "password", "encryption_key", "authentication_key"))[1]
    dlms = spec.dlms
    assert dlms is not None
    assert (spec.meter, spec.zone) == ("GEN:12345678", "Asia/Kathmandu")
    assert (dlms.client, dlms.auth, dlms.ciphered, dlms.timeout) == (32, Auth.LLS, False, 2.5)
    assert (dlms.max_list, dlms.companion, dlms.password_ref) == (4, "generic", "password")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "tcp://h",
            r"`tcp://h` is not the address of a meter: write dlms\+ or modbus\+ before tcp://host:port",
        ),
        ("10.0.0.7", "is not the address of a meter"),
        ("dlms+http://h", "`http://h` is not the address of a line: write tcp://host:port, udp:"),
        ("dlms+tcp://", "is not the address of a line"),
        ("dlms+tcp://h:99999", "Port out of range"),
        (
            "dlms+tcp://h?cleint=48",
            "`cleint` is no setting of an address; known: accept_plain, address_octets",
        ),
        ("dlms+tcp://h?unit=1", "`unit` is no setting"),
        ("dlms+tcp://h?client=many", "client = `many`: a number is allowed"),
        ("dlms+tcp://h?client=400", "client = 400: 1 to 127 is allowed"),
        ("dlms+tcp://h?auth=high", "auth = `high`: one of none, lls, hls2"),
        ("dlms+tcp://h?ciphered=yes", "ciphered = `yes`: true or false is allowed"),
        ("dlms+tcp://h?auth=lls", "auth lls needs password: put it into a key file"),
        ("dlms+tcp://h?ciphered=true", "ciphered needs encryption_key and authentication_key: put them into"),
        ("dlms+tcp://h?auth=hls-gmac", "auth hls-gmac needs encryption_key and authentication_key"),
        ("dlms+tcp://h?system_title=1", "16 hex digits"),
        ("modbus+tcp://h?unit=1", "a Modbus meter needs `model`, for example model=abb-b23"),
        ("modbus+tcp://h?model=sdm120", "a Modbus meter needs `unit`, for example unit=1"),
    ],
)
def test_a_wrong_address_says_what_is_allowed(url: str, message: str) -> None:
    with pytest.raises(MeterConfigError, match=message):
        parse_address(url)


def test_a_missing_secret_is_named_with_what_needs_it() -> None:
    with pytest.raises(SecretMissing) as caught:
        parse_address("dlms+tcp://h?client=48")
    assert (caught.value.setting, caught.value.secret) == ("auth hls2", "hls_key")


@pytest.mark.parametrize("parse", [parse_address, parse_line])
def test_an_address_holds_no_password_and_does_not_show_one(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(MeterConfigError, match="put secrets into a key file") as caught:
        parse("dlms+tcp://me:hunter2@h" if parse is parse_address else "tcp://me:hunter2@h")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(MeterConfigError) as caught:
        parse_address("nonsense?password=hunter2")
    assert "hunter2" not in str(caught.value)


def test_two_clients_have_two_system_titles() -> None:
    assert client_title("a/b/cli") != client_title("a/b/library")
    assert len(client_title("x")) == 8
