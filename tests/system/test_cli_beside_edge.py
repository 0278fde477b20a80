"""A command beside a running edge never fights it for a meter's counter or a bus: a title of its own, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.meter.access import find_meter
from gateway.cli.meter.address import AddressOptions
from gateway.cli.meter.scan import scan
from gateway.config import file as configuration
from gateway.config.file import Config
from gateway.errors import UsageError
from gateway.roles.beside_edge import client_beside_edge
from gateway.roles.doors import Doors
from gateway.roles.reach import edge_counters
from protocols.errors import LocalError
from protocols.meters.counters import FileCounters, in_use

METERS = {
    "GEN:1": ("wrapper", "", "one"),
    "GEN:2": ("converter", 'framing = "hdlc"\nphysical = 17', "two"),
    "GEN:3": ("port", 'framing = "hdlc"\nphysical = 17', "two"),
}
LINES = {
    "wrapper": 'kind = "tcp"\nhost = "127.0.0.1"\nport = 4059',
    "converter": 'kind = "tcp"\nhost = "127.0.0.1"\nport = 4060',
    "port": 'kind = "serial"\ndevice = "/dev/ttyUSB0"',
}
TITLE = 'system_title = "4D475700000000AA"'


def config_in(folder: Path, *, title: str = "") -> tuple[Path, Config]:
    text = ['[gateway]\nname = "north"\nroles = ["edge"]', f'data = "{folder}/data"']
    text += [f'[[lines]]\nname = "{name}"\n{kind}' for name, kind in LINES.items()]
    text += [
        f'[[meters]]\nmeter = "{meter}"\nline = "{line}"\n[meters.dlms]\nclient = 48\nauth = "hls-gmac"\n'
        f'ciphered = true\nencryption_key_ref = "{key}"\nauthentication_key_ref = "ak"\n{how}\n{title}'
        for meter, (line, how, key) in METERS.items()
    ]
    path = folder / "edge.toml"
    path.write_text("\n".join(text), encoding="utf-8")
    return path, configuration.load(path)


@contextmanager
def running_edge(config: Config) -> Iterator[None]:
    """Hold what a running edge holds: the lock of its counters."""
    with closing(FileCounters(edge_counters(config))):
        yield


def test_a_command_has_title_and_counters_of_its_own(tmp_path: Path) -> None:
    path, config = config_in(tmp_path)
    with running_edge(config):
        found = find_meter("GEN:1", AddressOptions(config=path))
    ours = config.spec(config.meters[0], config.gateway.name)
    assert found.spec.dlms is not None
    assert ours.dlms is not None
    assert found.spec.dlms.system_title != ours.dlms.system_title
    assert found.counters != edge_counters(config)


def test_options_that_count_for_an_address_alone_are_not_ignored_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = config_in(tmp_path)
    find_meter("GEN:1", AddressOptions(config=path))
    assert capsys.readouterr().err == ""
    given: dict[str, Any] = {"client": 32, "local_deviation": 0}
    find_meter("GEN:1", AddressOptions(config=path, **given))
    assert "--client, --local-deviation: for an address only; GEN:1" in capsys.readouterr().err


def test_a_title_that_is_given_is_the_edge_s_while_it_runs(tmp_path: Path) -> None:
    path, config = config_in(tmp_path, title=TITLE)
    with (
        running_edge(config),
        pytest.raises(UsageError, match=r"GEN:1 gives a `system_title`.*take it out.*or stop the edge"),
    ):
        find_meter("GEN:1", AddressOptions(config=path))
    found = find_meter("GEN:1", AddressOptions(config=path))
    assert found.counters == edge_counters(config)
    with closing(FileCounters(found.counters)), pytest.raises(LocalError, match="in use"):
        FileCounters(edge_counters(config))  # an edge that starts meanwhile waits for its end


@pytest.mark.parametrize("meter", ["GEN:2", "GEN:3"])
def test_a_bus_that_the_edge_talks_on_is_left_alone(tmp_path: Path, meter: str) -> None:
    path, config = config_in(tmp_path)
    with running_edge(config), pytest.raises(UsageError, match="a bus with one talker at a time"):
        find_meter(meter, AddressOptions(config=path))
    assert find_meter(meter, AddressOptions(config=path)).spec.meter == meter


def test_an_address_on_the_edge_s_bus_is_left_alone_too(tmp_path: Path) -> None:
    path, config = config_in(tmp_path)
    with running_edge(config):
        link = tmp_path / "by-id-1"
        link.symlink_to("/dev/ttyUSB0")
        for address in (
            "tcp://127.0.0.1:4060",
            "tcp://LOCALHOST:4060",
            "serial:///dev/ttyUSB0",
            f"serial://{link}",
        ):
            with pytest.raises(UsageError, match="a bus with one talker"):
                find_meter(address, AddressOptions(config=path))
        for address in ("tcp://127.0.0.1:4059", "tcp://127.0.0.1:4061", "serial:///dev/ttyUSB1"):
            assert find_meter(address, AddressOptions(config=path)).spec.dlms


@pytest.mark.parametrize("line", ["converter", "port", "tcp://127.0.0.1:4060"])
def test_a_scan_of_the_edge_s_bus_is_refused(tmp_path: Path, line: str) -> None:
    path, config = config_in(tmp_path)
    with running_edge(config), pytest.raises(UsageError, match="a bus with one talker"):
        scan(line, path)


def test_no_two_programs_have_one_title_and_two_files_of_counters(tmp_path: Path) -> None:
    """A nonce is title and counter: one title under one key has one file, whoever asks and whether the edge runs."""
    files: dict[tuple[str | None, bytes], set[Path]] = {}
    for title, program in product(("", TITLE), ("cli", "field", "keys")):
        _, config = config_in(tmp_path, title=title)
        for meter in config.meters:
            client = client_beside_edge(config, meter, program)
            edge = config.spec(meter, config.gateway.name)
            for spec, path in ((client.spec, client.counters), (edge, edge_counters(config))):
                assert spec.dlms is not None
                key = (spec.dlms.encryption_key_ref, spec.dlms.system_title)
                files.setdefault(key, set()).add(path)
    assert all(len(paths) == 1 for paths in files.values())


@pytest.mark.parametrize(("meter", "title"), [("GEN:1", TITLE), ("GEN:2", ""), ("GEN:3", "")])
def test_long_work_is_refused_before_it_begins(tmp_path: Path, meter: str, title: str) -> None:
    _, config = config_in(tmp_path, title=title)
    with closing(Doors(config, "firmware", config.clock())) as doors:
        doors.refuse_unreachable([meter])
        with running_edge(config), pytest.raises(UsageError, match="edge"):
            doors.refuse_unreachable([meter])


def test_looking_whether_counters_are_in_use_leaves_them_alone(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    assert not in_use(path)
    with closing(FileCounters(path)):
        assert in_use(path)
    assert not in_use(path)
    FileCounters(path).close()
