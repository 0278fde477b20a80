"""Slips on paper: Hindi is shaped as HarfBuzz shapes it, numbers are in groups, and nothing private stands there."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest
import segno
from pypdf import PdfReader

from gateway.central.campaign.printing import LANGUAGES, Form, Language, Look, html, pdf, words
from gateway.central.campaign.slips import Slip, new_token
from mapping.account import AccountNumber
from mapping.checkchar import is_checked
from tests.support.central.glyphs import drawn, holds, shaped, unshaped

NOW = datetime(2026, 11, 30, 20, tzinfo=UTC)
LOOK = Look(portal="https://portal.example", utility="KESCO")
REGULAR, BOLD = "NotoSansDevanagari-Regular.ttf", "NotoSansDevanagari-Bold.ttf"


def slip(number: int = 1, **more: object) -> Slip:
    given: dict[str, object] = {
        "id": number,
        "account_id": f"acc-{number}",
        "number": AccountNumber(f"{1234567889 + number}"),
        "legacy": f"KE{number:07}",
        "usage_point": f"UP-{number}",
        "meter": f"GEN:{10000000 + number}",
        "route": "R-12 किदवई नगर",
        "stop": number,
        "token": new_token(),
        "name": None,
    }
    return Slip(**{**given, **more})  # type: ignore[arg-type]


def texts(form: Form) -> list[tuple[str, str]]:
    said = words("hi")
    if form is Form.STICKERS:
        return [(said["title"], BOLD), (said["check"], REGULAR), (said["qr_short"], REGULAR)]
    plain = [said[key] for key in ("check", "old", "pay", "qr", "date", "slip")] + list(said["ticks"])
    return [(said["title"], BOLD), *((text, REGULAR) for text in plain)]


@pytest.mark.parametrize("form", list(Form))
def test_hindi_is_drawn_as_harfbuzz_shapes_it(form: Form) -> None:
    page = drawn(pdf([slip()], LOOK, form, NOW))
    differ = 0
    for text, font in texts(form):
        for word in re.findall(r"[\u0900-\u097f]+", text):
            assert holds(page, shaped(word, font)), word
            differ += shaped(word, font) != unshaped(word, font)
    assert differ >= 2  # words that a library without shaping gets wrong


@pytest.mark.parametrize("name", ["श्रीमती कृष्णा ज्ञानेश्वर", "क्षत्रिय", "विद्यार्थी", "हृषीकेश", "पर्ची"])
def test_names_with_conjuncts_are_shaped(name: str) -> None:
    page = drawn(pdf([slip(name=name)], Look(portal="https://p.example", names=True), Form.SLIPS, NOW))
    for word in name.split():
        assert holds(page, shaped(word, BOLD)), word
        assert not holds(page, unshaped(word, BOLD)), word


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_slip_says(language: Language) -> None:
    look = Look(portal="https://portal.example", utility="KESCO", language=language, names=False)
    page = PdfReader(io.BytesIO(pdf([slip(name="Asha Devi")], look, Form.SLIPS, NOW))).pages[0].extract_text()
    for told in ("1234 567 890", "KE0000001", "GEN:10000001", "0000 0017", "01.12.2026", "1912", "KESCO"):
        assert told in page, told  # midnight in India is past: the date is the reader's
    assert "Asha" not in page
    assert "portal.example" not in page


def test_three_slips_on_a_sheet_and_one_sticker_on_a_page() -> None:
    made = [slip(number) for number in range(1, 8)]
    sheets = PdfReader(io.BytesIO(pdf(made, LOOK, Form.SLIPS, NOW))).pages
    assert [len(re.findall(r"GEN:", page.extract_text())) for page in sheets] == [3, 3, 1]
    stickers = PdfReader(io.BytesIO(pdf(made, LOOK, Form.STICKERS, NOW))).pages
    assert len(stickers) == 7
    width, height = (float(side) / 72 * 25.4 for side in stickers[0].mediabox[2:])
    assert (round(width), round(height)) == (70, 40)


def test_a_sticker_hangs_where_strangers_pass() -> None:
    look = Look(portal="https://portal.example", names=True)
    told = (
        PdfReader(io.BytesIO(pdf([slip(name="Asha Devi")], look, Form.STICKERS, NOW))).pages[0].extract_text()
    )
    assert "1234 567 890" in told
    assert "KE0000001" not in told
    assert "Asha" not in told


def test_the_qr_code_names_nobody_and_the_check_digit_fits() -> None:
    one = slip()
    page = html([one], LOOK, NOW)
    path = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert path is not None
    address = f"https://portal.example/q/{one.token}"
    assert path[0] == segno.make_qr(address, error="m").svg_inline(border=4, omitsize=True)
    for private in (one.number.text, one.legacy, one.account_id, "10000001"):
        assert private not in address
    checked = re.search(r'class="check">([0-9])<', page)
    assert checked is not None
    assert is_checked(one.number.text + checked[1])
    assert len({slip().token for _ in range(100)}) == 100


def test_a_page_runs_nothing_that_a_name_says() -> None:
    evil = slip(name="<script>alert(1)</script>", route='"><img src=x>')
    page = html([evil], Look(portal="https://p.example", names=True), NOW)
    assert "<script>" not in page
    assert "<img" not in page
    made = pdf(
        [slip(name='#panic("x") $a$ *b*')], Look(portal="https://p.example", names=True), Form.SLIPS, NOW
    )
    assert '#panic("x")' in PdfReader(io.BytesIO(made)).pages[0].extract_text()


def test_the_same_slips_make_the_same_octets() -> None:
    made = [slip(number, token="A" * 16) for number in range(1, 4)]
    assert pdf(made, LOOK, Form.SLIPS, NOW) == pdf(made, LOOK, Form.SLIPS, NOW)


def test_both_languages_have_the_same_words() -> None:
    english, hindi = words("en"), words("hi")
    assert set(english) == set(hindi)
    assert len(english["ticks"]) == len(hindi["ticks"])
