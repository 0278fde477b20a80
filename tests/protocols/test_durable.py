"""A file is replaced whole, with the rights that were asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from protocols.durable import replace_file


def test_the_new_content_stands_with_its_rights_and_what_a_crash_left_goes(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    path.write_bytes(b"old")
    left = tmp_path / "counters.json.new"
    left.write_bytes(b"half a")
    left.chmod(0o666)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["counters.json"]


def test_the_old_file_stands_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "counters.json"
    replace_file(path, b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
