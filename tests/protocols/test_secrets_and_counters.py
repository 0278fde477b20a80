"""Secrets stay private and out of errors; counters never repeat, even when the process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError, MeterConfigError
from protocols.meters import counters
from protocols.meters.counters import (
    MAX_COUNTER,
    MAX_FIRST,
    MAX_JUMP,
    CountersOnDemand,
    FileCounters,
    KeyCounters,
    highest_believed,
    load_counters,
)
from protocols.meters.secrets import MAX_SECRET, FileSecrets


def put(folder: Path, name: str, content: bytes, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hex:00ff\n", b"\x00\xff"),
        (b"hex: 00 ff\n", b"\x00\xff"),
        (b"000102030405060708090a0b0c0d0e0f\n", bytes(range(16))),
        (b"12345678", b"12345678"),
        (b"pass word\r\n", b"pass word"),
        (b"raw:hex:1\n", b"hex:1"),
        (b"raw:" + b"0" * 32, b"0" * 32),
        (bytes(range(1, 9)), bytes(range(1, 9))),
    ],
)
def test_content(tmp_path: Path, content: bytes, expected: bytes) -> None:
    put(tmp_path, "k.1", content, 0o400)
    assert FileSecrets(tmp_path, {}).secret("k.1") == expected


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"topsecret", 0o640, "chmod 600"),
        (b"topsecret", 0o604, "chmod 600"),
        (b"hex:topsecret", 0o600, "pairs of hex"),
        (b"\n", 0o600, "empty"),
        (b"topsecret" * MAX_SECRET, 0o600, "longer"),
    ],
)
def test_refusals_do_not_tell_the_secret(tmp_path: Path, content: bytes, mode: int, says: str) -> None:
    put(tmp_path, "k", content, mode)
    secrets = FileSecrets(tmp_path, {})
    with pytest.raises(MeterConfigError, match=says) as caught:
        secrets.secret("k")
    assert "topsecret" not in str(caught.value) + repr(secrets)


@pytest.mark.parametrize("ref", ["../k", "a/b", "", ".k", "a..b", "k\0", "/etc/passwd", "é", "x" * 200])
def test_path_tricks(tmp_path: Path, ref: str) -> None:
    with pytest.raises(MeterConfigError, match="not a secret's name"):
        FileSecrets(tmp_path, {}).secret(ref)


def test_links_folders_pipes_and_absence(tmp_path: Path) -> None:
    secrets = FileSecrets(tmp_path, {})
    put(tmp_path, "real", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    for ref in ("link", "folder", "pipe", "absent"):
        with pytest.raises(MeterConfigError):
            secrets.secret(ref)


def test_systemd_credentials_come_first(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    put(tmp_path / "c", "k", b"theirs", 0o440)
    put(tmp_path, "k", b"ours")
    put(tmp_path, "other", b"ours")
    secrets = FileSecrets(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "c")})
    assert (secrets.secret("k"), secrets.secret("other")) == (b"theirs", b"ours")


def test_a_systemd_folder_credential_is_found_under_its_prefix(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    put(tmp_path / "c", "keys_k", b"folder", 0o440)
    put(tmp_path / "c", "keys_both", b"folder", 0o440)
    put(tmp_path / "c", "both", b"single", 0o440)
    secrets = FileSecrets(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "c")})
    assert (secrets.secret("k"), secrets.secret("both")) == (b"folder", b"single")
    with pytest.raises(MeterConfigError, match="no secret absent"):
        secrets.secret("absent")


steps = st.lists(
    st.one_of(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), st.just("reopen")), max_size=60
)


@settings(max_examples=40)
@given(steps=steps, block=st.integers(1, 8))
def test_counters_rise_for_ever(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], block: int
) -> None:
    path = tmp_path_factory.mktemp("c") / "counters.json"
    counters = FileCounters(path, block)
    last = {"a": -1, "b": -1}
    for step in steps:
        if step == "reopen":
            counters.close()
            counters = FileCounters(path, block)
            continue
        key, at_least = step
        given_now = counters.next(key, at_least)
        assert given_now > last[key]
        assert given_now >= at_least
        last[key] = given_now
    counters.close()


def test_exhausted_damaged_and_shared(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    counters = FileCounters(path)
    assert counters.next("k", MAX_COUNTER) == MAX_COUNTER
    with pytest.raises(LocalError, match="used up"):
        counters.next("k")
    with pytest.raises(LocalError, match="in use"):
        FileCounters(path)
    counters.close()
    for content in ("{", "[]", '{"k": -1}', '{"k": true}'):
        path.write_text(content)
        with pytest.raises(LocalError, match="damaged"):
            FileCounters(path)


CHILD = """
import sys
from pathlib import Path
from protocols.meters.counters import FileCounters
counters = FileCounters(Path(sys.argv[1]), 4)
while True:
    print(counters.next("k"), flush=True)
"""


def test_a_file_of_an_earlier_program_is_read_and_believed(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    path.write_text('{"dlms/a": 768}')
    store = FileCounters(path)
    assert store.next("dlms/a") == 768
    assert store.believes("dlms/a", 768 + MAX_JUMP)
    assert not store.believes("dlms/a", 769 + MAX_JUMP)
    assert store.doubted() == 1
    store.close()
    assert load_counters(path)["dlms/a"] == KeyCounters(reserved=1024, confirmed=768, doubted=769 + MAX_JUMP)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["told", "proved", "use"]), st.integers(0, 2 * MAX_FIRST)), max_size=30
    )
)
def test_without_proof_a_counter_rises_by_one_jump_at_the_most(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However often a stranger tells however high a number."""
    with closing(FileCounters(tmp_path_factory.mktemp("c") / "counters.json")) as store:
        proved = least = used = 0
        bound = highest_believed(0)
        for step, number in steps:
            if step == "told" and store.believes("k", number):
                least = max(least, number + 1)
            elif step == "proved" and used:
                proved = used
                store.confirm("k", used)
                bound = max(bound, highest_believed(proved))
            else:
                used = store.next("k", at_least=least)
            assert used <= bound + 1 + len(steps)


def test_an_operator_may_go_on_higher_but_never_repeat(tmp_path: Path) -> None:
    store = FileCounters(tmp_path / "counters.json")
    assert not store.believes("k", 5 * MAX_FIRST)
    store.raise_to("k", 5 * MAX_FIRST + 1)
    assert store.next("k") == 5 * MAX_FIRST + 1
    assert store.believes("k", 5 * MAX_FIRST + 7)
    assert store.doubted() == 0
    with pytest.raises(LocalError, match="no counter to go on with"):
        store.raise_to("k", 5 * MAX_FIRST)
    store.close()


def test_no_counter_comes_twice_over_kills(tmp_path: Path) -> None:
    seen: list[int] = []
    for life in range(6):
        child = subprocess.Popen([sys.executable, "-c", CHILD, tmp_path / "c"], stdout=subprocess.PIPE)
        assert child.stdout is not None
        seen.extend(int(child.stdout.readline()) for _ in range(5 + 7 * life))
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")[:-1]
        seen.extend(int(line) for line in rest)
        child.wait()
        child.stdout.close()
    assert seen == sorted(set(seen))


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b"]), st.integers(0, 900)), max_size=40))
def test_commands_that_share_a_file_never_give_one_counter_twice(asks: list[tuple[int, str, int]]) -> None:
    """Each holds the file for a moment only; a block that one has taken is nobody else's, also after its end."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "counters.json"
        stores = [CountersOnDemand(path) for _ in range(3)]
        given_by: dict[str, list[int]] = {"a": [], "b": []}
        for n, (who, key, at_least) in enumerate(asks):
            counter = stores[who].next(key, at_least)
            assert counter >= at_least
            given_by[key].append(counter)
            if n % 7 == 6:
                stores[who].close()
                stores[who] = CountersOnDemand(path)
        for numbers in given_by.values():
            assert len(set(numbers)) == len(numbers)
        for store in stores:
            store.close()
        with closing(FileCounters(path)) as edge:  # and an edge that starts goes on above them all
            for key, numbers in given_by.items():
                assert edge.next(key) > max(numbers, default=-1)


def test_what_one_command_proved_the_next_one_knows(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    first = CountersOnDemand(path)
    assert not first.proven("key")
    first.confirm("key", first.next("key", 70))
    assert first.proven("key")
    first.failed("key")
    assert not first.proven("key")
    first.close()
    second = CountersOnDemand(path)
    assert second.proven("key")
    assert second.believes("key", 100)
    assert not second.believes("key", 2**31)
    second.close()
    assert load_counters(path)["key"].confirmed == 70


def test_a_file_that_an_edge_holds_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "MOMENT", 0)
    with closing(FileCounters(tmp_path / "c")), pytest.raises(LocalError, match="in use"):
        CountersOnDemand(tmp_path / "c").next("key")
