"""What a PDF really draws: the outlines of its glyphs, in order, and those that HarfBuzz gives for a text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import uharfbuzz
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from pypdf import PdfReader
from pypdf.generic import ByteStringObject, ContentStream, TextStringObject

FONTS = Path(str(files("gateway.central.campaign") / "fonts"))
Outline = tuple[Any, ...]


def shaped(text: str, font: str) -> list[Outline]:
    """Return the outlines that HarfBuzz puts together for a text, in the order they are drawn."""
    buffer = uharfbuzz.Buffer()
    buffer.add_str(text)
    buffer.guess_segment_properties()
    uharfbuzz.shape(uharfbuzz.Font(uharfbuzz.Face((FONTS / font).read_bytes())), buffer)
    return [_outline(_font(font), info.codepoint) for info in buffer.glyph_infos]


def unshaped(text: str, font: str) -> list[Outline]:
    """Return the outlines of the characters one by one: what a library without shaping draws."""
    held = _font(font)
    names = held.getBestCmap()
    return [_outline(held, held.getGlyphID(names[ord(c)])) for c in text]


def drawn(pdf: bytes, page: int = 0) -> list[Outline]:
    """Return the outlines of every glyph of a page, in the order they are drawn; spaces are left out."""
    reader = PdfReader(io.BytesIO(pdf))
    found: Any = reader.pages[page]
    fonts = {name: _embedded(font.get_object()) for name, font in found["/Resources"]["/Font"].items()}
    return [outline for outline in _walk(found, reader, fonts) if outline]


def _walk(page: Any, reader: PdfReader, fonts: dict[str, TTFont]) -> Iterator[Outline]:
    font = None
    for operands, operator in ContentStream(page.get_contents(), reader).operations:
        if operator == b"Tf":
            font = fonts[operands[0]]
        elif operator in (b"Tj", b"TJ") and font is not None:
            parts: list[Any] = operands[0] if operator == b"TJ" else operands
            for part in parts:
                if isinstance(part, ByteStringObject | TextStringObject):  # numbers between them are kerning
                    octets = part.original_bytes
                    for at in range(0, len(octets), 2):
                        yield _outline(font, int.from_bytes(octets[at : at + 2], "big"))


def _embedded(font: Any) -> TTFont:
    descendant = font["/DescendantFonts"][0].get_object()
    return TTFont(
        io.BytesIO(descendant["/FontDescriptor"].get_object()["/FontFile2"].get_object().get_data())
    )


@cache
def _font(name: str) -> TTFont:
    return TTFont(FONTS / name)


def _outline(font: TTFont, glyph: int) -> Outline:
    glyphs = font.getGlyphSet()
    pen = DecomposingRecordingPen(glyphs)
    glyphs[font.getGlyphOrder()[glyph]].draw(pen)
    return tuple((name, tuple(points)) for name, points in pen.value)


def holds(page: list[Outline], wanted: list[Outline]) -> bool:
    """Say whether these outlines stand one after the other on a page."""
    wanted = [one for one in wanted if one]
    return any(page[at : at + len(wanted)] == wanted for at in range(len(page) - len(wanted) + 1))
