"""Register images as text: what they hold, and that nothing else than an image or a mistake comes of any text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import MeterConfigError
from protocols.modbus.image import MAX_IMAGE, RegisterImage

TEXT = """
# a remark
3 0xFC00: 0098 9681    # a serial
4 0: 4366 6666
1 16: 1 0 1
17: 01 FF 41 42 43
43 2: V1.07 beta
20/4 7: 0001 0002
"""


def test_what_stands_in_an_image_is_read() -> None:
    image = RegisterImage.parse(TEXT, where="x.txt")
    assert image.words(3, 0xFC00, 2) == [0x98, 0x9681]
    assert image.words(3, 0xFC01, 1) == [0x9681]
    assert image.words(3, 0xFC01, 2) is None
    assert image.words(4, 0, 2) == [0x4366, 0x6666]
    assert image.words(1, 16, 3) == [1, 0, 1]
    assert image.words(17, 2, 2) == [0x4142, 0x4300]
    assert image.words(17, 5, 1) is None
    assert image.words(43, 2, 5) == [0x5631, 0x2E30, 0x3720, 0x6265, 0x7461]
    assert image.words(43, 1, 1) is None
    assert image.words(20, 7, 2, file=4) == [1, 2]
    assert image.words(20, 7, 3, file=4) is None
    assert image.words(20, 7, 2, file=5) is None


@given(st.text(alphabet="0123456789abcdefx/:# \n", max_size=80) | st.text(max_size=40))
def test_any_text_is_an_image_or_a_mistake_with_its_line(text: str) -> None:
    try:
        RegisterImage.parse(text, where="x.txt")
    except MeterConfigError as error:
        said = str(error)
    else:
        said = "x.txt:1"
    assert said.startswith("x.txt:")


def test_files_that_cannot_be_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(MeterConfigError, match="cannot be read"):
        RegisterImage.load(tmp_path / "nowhere.txt")
    long = tmp_path / "long.txt"
    long.write_bytes(b"#" * (MAX_IMAGE + 1))
    with pytest.raises(MeterConfigError, match="at most"):
        RegisterImage.load(long)
    long.write_bytes(b"\xff")
    with pytest.raises(MeterConfigError, match="cannot be read"):
        RegisterImage.load(long)
