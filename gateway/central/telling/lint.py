"""Reads files of templates and finds every mistake in them before an operator does: file, line and field."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from gateway.central.people.contacts import Language
from gateway.central.telling.alphabet import Size, foreign, size_of
from gateway.central.telling.templates import (
    LANGUAGES,
    MAX_VALUE,
    PLACE,
    Kind,
    Library,
    Template,
    TemplateFile,
    ValueRefused,
    Variable,
    Wording,
    hosts_in,
)
from gateway.errors import ConfigError
from protocols.toml_lines import Path as Trail
from protocols.toml_mistakes import Mistake, TomlSource, nearest_name

SHIPPED: Final = "shipped.toml"
MAX_FILE: Final = 1024 * 1024
"""Octets of a file of templates; a utility's has some thousands."""
MOST_SEGMENTS: Final = 3
"""Parts of a message at its longest: each is paid for."""
_LONGEST: Final = "अ" * MAX_VALUE


class TemplateMistakes(ConfigError):
    """Files of templates with mistakes; `mistakes` lists every one of them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(one) for one in mistakes))
        self.mistakes = mistakes


class Measured(NamedTuple):
    """What a template's text costs at its longest."""

    template: str
    language: Language
    size: Size
    dlt_id: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the linter says of a utility's templates: all of them, their sizes, and every mistake."""

    library: Library
    sizes: list[Measured]
    mistakes: list[Mistake]


def load_library(path: Path | None, *, language: Language = "en") -> Library:
    """Return the shipped templates with those of a utility's file; TemplateMistakes lists all that is wrong.

    `language` is that of recipients who have chosen none.
    A text without a DLT id is no mistake here: who sends through a provider asks for it (`unregistered`).
    """
    found = lint(path, registered=False)
    if found.mistakes:
        raise TemplateMistakes(found.mistakes)
    return replace(found.library, language=language)


def lint(path: Path | None, *, registered: bool = True) -> Found:
    """Look at the shipped templates and a utility's file; with `registered` each text must have its DLT id."""
    shipped = files("gateway.central.telling") / "templates" / SHIPPED
    first = _Read(SHIPPED, shipped.read_text(encoding="utf-8"))
    mistakes = first.mistakes
    own = None
    if path is not None:
        own = _Read(str(path), *_text(path))
        mistakes += own.mistakes
    if mistakes or first.file is None or (own is not None and own.file is None):
        return Found(Library(templates={}), [], mistakes)
    library = _joined(first.file, None if own is None else own.file)
    for read in (first, own) if own is not None else (first,):
        mistakes += read.look_at(library, own=read is own)
    if registered:
        mistakes += _unregistered(library, own or first)
    return Found(library, list(measured(library)), mistakes)


def unregistered(library: Library) -> list[str]:
    """Return what a provider would refuse for want of a DLT id: header, entity and texts without one."""
    missing = [
        name for name, held in (("header", library.header), ("entity_id", library.entity_id)) if not held
    ]
    return missing + [
        f"{template.id}.{language}"
        for template in library.templates.values()
        for language, wording in template.wordings()
        if wording.dlt_id is None
    ]


def measured(library: Library) -> Iterator[Measured]:
    """Yield what each text costs when each value is as long as it may be."""
    for template in library.templates.values():
        for language, wording in template.wordings():
            yield Measured(template.id, language, _size(template, language, wording), wording.dlt_id)


def _size(template: Template, language: Language, wording: Wording) -> Size:
    longest = {
        v.name: (_LONGEST if v.kind == "text" and language == "hi" else "0" * MAX_VALUE)[
            : min(v.most, MAX_VALUE)
        ]
        for v in template.variables
    }
    return size_of(PLACE.sub(lambda place: longest.get(place[1], ""), wording.text))


def _text(path: Path) -> tuple[str, str | None]:
    """Return a file's text, or why there is none."""
    try:
        if not path.is_file():
            return "", "there is no such file" if not path.exists() else "is no regular file"
        if path.stat().st_size > MAX_FILE:
            return "", f"has more than {MAX_FILE} octets"
        return path.read_text(encoding="utf-8"), None
    except (OSError, UnicodeDecodeError) as error:
        return "", f"cannot be read: {error}"


class _Read:
    """One file as it was read: its contents where it has a right form, and the mistakes."""

    def __init__(self, name: str, text: str, problem: str | None = None) -> None:
        self.source = TomlSource(name, text)
        self.file: TemplateFile | None = None
        self.mistakes: list[Mistake] = []
        if problem is not None:
            self.mistakes.append(self.source.mistake((), problem))
            return
        try:
            self.file = TemplateFile.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            self.mistakes.append(self.source.mistake((), f"not TOML: {error}"))
        except ValidationError as error:
            self.mistakes += [self.source.explain(dict(one), _keys_at) for one in error.errors()]

    def look_at(self, library: Library, *, own: bool) -> list[Mistake]:
        """Return what is wrong in a file of right form, its templates seen among all of them."""
        assert self.file is not None
        found: list[Mistake] = []
        seen: dict[str, int] = {}
        for i, template in enumerate(self.file.templates):
            if template.id in seen:
                problem = f"`{template.id}` is there twice (first as templates[{seen[template.id]}])"
                found.append(self.source.mistake(("templates", i, "id"), problem))
            seen.setdefault(template.id, i)
            if own or library.templates.get(template.id) is template:
                found += [
                    self.source.mistake(("templates", i, *at), text) for at, text in _look(template, library)
                ]
        for name, ids in self.file.registered.items():
            if name not in library.templates:
                nearest = nearest_name(name, library.templates)
                found.append(self.source.mistake(("registered", name), "there is no such template", nearest))
            elif "hi" in ids and library.templates[name].hi is None:
                found.append(
                    self.source.mistake(("registered", name, "hi"), "the template has no Hindi text")
                )
        return found


def _keys_at(trail: Trail) -> list[str]:
    names = [part for part in trail if isinstance(part, str)]
    match names:
        case ["templates", "variables"]:
            return list(Variable.model_fields)
        case ["templates", "en" | "hi"]:
            return list(Wording.model_fields)
        case ["templates"]:
            return list(Template.model_fields)
        case ["registered", _]:
            return list(LANGUAGES)
    return list(TemplateFile.model_fields)


def _joined(shipped: TemplateFile, own: TemplateFile | None) -> Library:
    templates = {one.id: one for one in shipped.templates}
    file = own or shipped
    templates |= {one.id: one for one in file.templates}
    for name, ids in file.registered.items():
        if (held := templates.get(name)) is not None:
            en = held.en.model_copy(update={"dlt_id": ids["en"]}) if "en" in ids else held.en
            hi = held.hi.model_copy(update={"dlt_id": ids["hi"]}) if held.hi and "hi" in ids else held.hi
            templates[name] = held.model_copy(update={"en": en, "hi": hi})
    return Library(
        templates=templates,
        header=file.header,
        entity_id=file.entity_id,
        helpline=file.helpline,
        links=tuple(link.lower() for link in file.links),
    )


def _look(template: Template, library: Library) -> Iterator[tuple[Trail, str]]:
    names = [v.name for v in template.variables]
    for i, variable in enumerate(template.variables):
        yield from (
            ((("variables", i, *at)), text) for at, text in _look_variable(template, variable, library)
        )
        if variable.name in names[:i]:
            yield ("variables", i, "name"), f"`{variable.name}` is there twice"
    for language, wording in template.wordings():
        yield from (((language, "text"), text) for text in _look_text(template, language, wording, library))
    if template.purpose != "code" and any(v.kind is Kind.CODE for v in template.variables):
        yield ("purpose",), 'it has a code, which is forgotten once it was sent: write purpose = "code"'
    if template.names_account and template.unverified is None:
        yield (
            ("id",),
            "it says a whole account number: name in `unverified` what goes to a mobile not verified of late",
        )
    if template.unverified is not None:
        other = library.templates.get(template.unverified)
        if other is None:
            hint = nearest_name(template.unverified, library.templates)
            also = f": did you mean `{hint}`?" if hint else ""
            yield ("unverified",), f"there is no template `{template.unverified}`{also}"
        elif other.names_account or other.unverified is not None:
            yield ("unverified",), f"`{other.id}` itself goes to verified mobiles only"


def _look_variable(template: Template, variable: Variable, library: Library) -> Iterator[tuple[Trail, str]]:
    if variable.most > MAX_VALUE:
        yield (
            ("most",),
            f"{variable.most} characters: operators refuse values of more than {MAX_VALUE}: shorten it",
        )
    try:
        alone = Template(id="example", variables=(variable,), en=Wording(text="x"))
        library.check_values(alone, {variable.name: variable.example})
    except ValueRefused as error:
        yield ("example",), str(error).replace("template `example`", f"template `{template.id}`")


def _look_text(template: Template, language: Language, wording: Wording, library: Library) -> Iterator[str]:
    text = wording.text
    names = {v.name for v in template.variables}
    used = PLACE.findall(text)
    for name in dict.fromkeys(used):
        if name not in names:
            yield f"`{{{name}}}` is no variable of the template"
    for name in sorted(names - set(used)):
        yield f"the variable `{name}` is not in the text"
    plain = PLACE.sub("", text)
    if "{" in plain or "}" in plain:
        yield "a brace without its partner"
    if not plain.isprintable():
        yield "a line end, tab or invisible character: operators compare texts character by character"
    if text != text.strip() or "  " in text:
        yield "spaces at an end, or two together: operators compare texts character by character"
    if language == "en" and (strange := foreign(plain)):
        yield f"`{strange}` is not in GSM-7 and makes the message cost more than twice (for ₹ write Rs.)"
    for host in hosts_in(plain):
        if host not in library.links:
            yield f"a link to `{host}`, which is not in the file's `links`"
    if library.helpline not in plain:
        yield f"the helpline {library.helpline} is not in the text"
    size = _size(template, language, wording)
    if size.segments > MOST_SEGMENTS:
        yield (
            f"{size.segments} parts ({size.units} units of {size.alphabet}) when the values are long, "
            f"and at most {MOST_SEGMENTS} are sent: shorten it"
        )


def _unregistered(library: Library, read: _Read) -> list[Mistake]:
    found = []
    for name in unregistered(library):
        if name in ("header", "entity_id"):
            found.append(read.source.mistake((name,), "required by the operators (DLT) and not there"))
            continue
        template, _, language = name.partition(".")
        problem = f'no DLT id: register the text and write [registered.{template}] {language} = "…"'
        found.append(read.source.mistake(("registered", template, language), problem))
    return found
