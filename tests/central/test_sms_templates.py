"""Templates as operators look at them: sizes, variables, links, registration; each mistake at its line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.central.telling.alphabet import Alphabet, foreign, size_of
from gateway.central.telling.lint import TemplateMistakes, lint, load_library, unregistered
from gateway.central.telling.templates import LANGUAGES, Library, ValueRefused, hosts_in, registered_text

ID = "1107160000000012345"


@pytest.mark.parametrize(
    ("text", "alphabet", "units", "segments"),
    [
        ("", Alphabet.GSM7, 0, 0),
        ("a" * 160, Alphabet.GSM7, 160, 1),
        ("a" * 161, Alphabet.GSM7, 161, 2),
        ("a" * 306, Alphabet.GSM7, 306, 2),
        ("a" * 307, Alphabet.GSM7, 307, 3),
        ("€" * 80, Alphabet.GSM7, 160, 1),
        ("a" * 152 + "€" * 5, Alphabet.GSM7, 162, 2),
        ("€" * 152, Alphabet.GSM7, 304, 2),
        ("€" * 153, Alphabet.GSM7, 306, 3),  # an escape is not torn from its character: 76 fit into a part
        ("क" * 70, Alphabet.UCS2, 70, 1),
        ("क" * 71, Alphabet.UCS2, 71, 2),
        ("क" * 134, Alphabet.UCS2, 134, 2),
        ("₹" + "a" * 70, Alphabet.UCS2, 71, 2),
        ("😀" * 35, Alphabet.UCS2, 70, 1),
        ("😀" * 66, Alphabet.UCS2, 132, 2),
        ("😀" * 67, Alphabet.UCS2, 134, 3),  # nor is one half of a pair: 33 fit
    ],
)
def test_sizes(text: str, alphabet: Alphabet, units: int, segments: int) -> None:
    assert size_of(text) == (alphabet, units, segments)


def test_what_costs_twice_is_named_once() -> None:
    assert foreign("₹1 – ₹2") == "₹–"


def test_the_shipped_templates_are_right_but_for_their_registration() -> None:
    found = lint(None, registered=False)
    assert found.mistakes == []
    assert {language for one in found.library.templates.values() for language, _ in one.wordings()} == {
        *LANGUAGES
    }
    assert len(unregistered(found.library)) == 2 + 2 * len(found.library.templates)
    assert all(one.size.segments <= 2 for one in found.sizes)


def registration(library: Library) -> str:
    return f'header = "KESCOE"\nentity_id = "{ID}"\n' + "".join(
        f'[registered.{name}]\nen = "{ID}"\nhi = "{ID}"\n' for name in library.templates
    )


def test_a_file_registers_the_shipped_templates(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(registration(load_library(None)))
    found = lint(path)
    assert found.mistakes == []
    assert {one.dlt_id for one in found.sizes} == {ID}
    assert (found.library.header, unregistered(found.library)) == ("KESCOE", [])


def test_the_registered_text_has_var_in_each_place() -> None:
    wording = load_library(None).template("verify-mobile").en
    assert "old number ending {#var#}." in registered_text(wording)


GOOD = """
[[templates]]
id = "outage"
variables = [
  { name = "area", most = 30, example = "Kidwai Nagar" },
]
[templates.en]
text = "No supply in {area} today. Call 1912."
dlt_id = "1107160000000012345"
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "problem"),
    [
        (
            "most = 30",
            "most = 31",
            5,
            "templates[0].variables[0].most",
            "operators refuse values of more than 30",
        ),
        ("most = 30", "most = 5", 5, "templates[0].variables[0].example", "12 characters, and at most 5"),
        ("Kidwai Nagar", "see kesco.co.in", 5, "templates[0].variables[0].example", "a link that is not in"),
        (
            'example = "Kidwai',
            'exampel = "Kidwai',
            5,
            "templates[0].variables[0].exampel",
            "Did you mean `example`?",
        ),
        ("{area}", "{are}", 8, "templates[0].en.text", "`{are}` is no variable"),
        ("{area}", "town", 8, "templates[0].en.text", "the variable `area` is not in the text"),
        ("{area}", "{area", 8, "templates[0].en.text", "a brace without its partner"),
        ("today", "at https://bit.ly/x", 8, "templates[0].en.text", "a link to `bit.ly`"),
        ("today", "see kesco-bill.in", 8, "templates[0].en.text", "a link to `kesco-bill.in`"),
        ("today", "for ₹5", 8, "templates[0].en.text", "`₹` is not in GSM-7"),
        ("today", "today\\nnow", 8, "templates[0].en.text", "a line end, tab"),
        ("today.", "today. ", 8, "templates[0].en.text", "spaces at an end"),
        ("1912", "1921", 8, "templates[0].en.text", "the helpline 1912 is not in the text"),
        ("today", "x" * 460, 8, "templates[0].en.text", "4 parts"),
        (f'"{ID}"', '"12"', 9, "templates[0].en.dlt_id", "pattern"),
        ('id = "outage"', 'id = "Outage!"', 3, "templates[0].id", "pattern"),
        (
            'id = "outage"',
            'id = "outage"\nunverified = "outages"',
            4,
            "templates[0].unverified",
            "did you mean `outage`",
        ),
        (
            'name = "area"',
            'name = "area", kind = "code"',
            2,
            "templates[0].purpose",
            'write purpose = "code"',
        ),
        (
            'name = "area"',
            'name = "area", kind = "account_number"',
            3,
            "templates[0].id",
            "name in `unverified`",
        ),
        (
            "[[templates]]",
            "[registered.outrage]\nen = '1'\n[[templates]]",
            3,
            "registered.outrage.en",
            "pattern",
        ),
        ("\n[[templates]]", "header = 'kesco'\n[[templates]]", 1, "header", "pattern"),
        ("[templates.en]", "[templates.en", None, "(file)", "not TOML"),
    ],
)
def test_each_mistake_is_named_with_line_and_field(
    tmp_path: Path, old: str, new: str, line: int | None, field: str, problem: str
) -> None:
    path = tmp_path / "t.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    found = [one for one in lint(path, registered=False).mistakes if one.field == field]
    assert found, lint(path, registered=False).mistakes
    assert found[0].line == line
    assert any(problem in str(one) for one in found), found
    with pytest.raises(TemplateMistakes):
        load_library(path)


def test_what_is_there_twice_or_not_registered_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(GOOD + GOOD.replace('dlt_id = "1107160000000012345"', ""))
    found = [str(one).removeprefix(str(path)) for one in lint(path).mistakes]
    assert ":12: templates[1].id: `outage` is there twice (first as templates[0])" in found
    assert any("registered.outage.en: no DLT id" in one for one in found)


@pytest.mark.parametrize(("name", "problem"), [("absent.toml", "no such file"), (".", "no regular file")])
def test_a_file_that_is_none(tmp_path: Path, name: str, problem: str) -> None:
    (mistake,) = lint(tmp_path / name).mistakes
    assert problem in mistake.problem


def test_devices_are_not_read() -> None:
    (mistake,) = lint(Path("/dev/zero")).mistakes
    assert mistake.problem == "is no regular file"


def test_a_link_of_the_allowlist_may_stand(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('links = ["portal.example"]\n' + GOOD.replace("today", "see https://portal.example/me"))
    assert lint(path, registered=False).mistakes == []


def test_numbers_and_dates_are_no_links() -> None:
    assert hosts_in("Rs. 1,234.50 by 1.2.2027, No. 5. Call 1912. Or") == []


@pytest.mark.parametrize("value", ["see bit.ly", "a\tb", "a\u202eb", " ", "x" * 31])
def test_row_74_values_that_an_operator_would_refuse(tmp_path: Path, value: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(GOOD)
    library = load_library(path)
    with pytest.raises(ValueRefused):
        library.check_values(library.template("outage"), {"area": value})


@pytest.mark.parametrize("ending", ["2345", "X", "XXXXX2345", "XXX 45", "XX5/-1", "XXXX"])
def test_the_end_of_an_old_number_may_have_separators(ending: str) -> None:
    library = load_library(None)
    library.check_values(library.template("new-account-number-masked"), {"old_ending": ending})
