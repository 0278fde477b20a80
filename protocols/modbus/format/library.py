"""Finding and reading meter models: the shipped ones, a user's folder beside them, single files.

All of it is hostile input: what a file says wrong is told with file, line, field and the nearest valid name.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from protocols.errors import MeterConfigError
from protocols.modbus.format.inheritance import BadExtension, Inherited, extended
from protocols.modbus.format.model import FAULTS, MeterModel
from protocols.modbus.format.model_keys import keys_at
from protocols.toml_lines import Path as Trail
from protocols.toml_mistakes import Mistake, TomlSource, dotted, nearest_name

OTHER_NAMES = {
    **{
        f"{prefix}int{bits}": f"{kind}{bits}"
        for prefix, kind in (("", "s"), ("u", "u"))
        for bits in (16, 32, 64)
    },
    "int": "s16",
    "uint": "u16",
    "word": "u16",
    "dword": "u32",
    "long": "s32",
    "ulong": "u32",
    **dict.fromkeys(("float", "float32", "real", "single"), "f32"),
    **dict.fromkeys(("double", "float64"), "f64"),
    **dict.fromkeys(("string", "ascii", "utf8", "char"), "text"),
    **dict.fromkeys(("bool", "boolean", "coil"), "bit"),
}
"""What maps and other programs call the types of registers."""
FILE = ".toml"
MAX_FILE = 1 << 18
"""Octets of a model file: 512 registers of which each has all keys take less."""
MAX_FILES = 1000
"""Files of a folder that are looked at."""
MAX_DOTS = 500
"""Dots in a line of a file."""
MAX_MISTAKES = 64
"""Mistakes of a file that are told at once."""
MAX_BASES = 8
"""Models that `extends` may lead through."""
MAX_OWN = 1024
"""Models of users that are kept in memory."""
_Key = tuple[str | Path, Path | None]
_own_models: dict[_Key, MeterModel] = {}


class ModelMistakes(MeterConfigError):
    """A model file with mistakes; `mistakes` lists every one of them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class ModelEntry(NamedTuple):
    """A model that a folder or the package has: its name, the file, and what is wrong with it (None: nothing)."""

    name: str
    file: str
    model: MeterModel | None
    problem: MeterConfigError | None


def parse_model(text: str, *, where: str, folder: Path | None = None) -> MeterModel:
    r"""Read a model from TOML `text` and return it.

    `where` names the file in messages. `extends = "NAME"` takes everything of another model, shipped or in `folder`,
    that this one does not say. Raises ModelMistakes, which says where and what is wrong.

    >>> parse_model('extends = "sdm120"\nname = "mine"\ntitle = "Mine"', where="mine.toml").manufacturer
    'EAS'
    """
    source = TomlSource(where, text)
    document, inherited = _document(source, folder, ())
    try:
        return MeterModel.model_validate(document)
    except ValidationError as error:
        raise ModelMistakes(_mistakes(error, source, document, inherited)) from None


def load_model(name: str, folder: Path | None = None) -> MeterModel:
    """Return a model by its `name`: a shipped one, one of the user's `folder`, or, with a path or `.toml`, a file.

    A model is read once, until `forget_models`: a file that is changed under a running gateway changes nothing before
    it is told. Raises MeterConfigError for another name, naming those that exist, and ModelMistakes for a file with
    mistakes.

    >>> load_model("sdm120").of_quantity("1-0:12.7.0*255").unit
    'V'
    """
    if is_file_name(name):
        return model_file(Path(name), folder)
    if name in model_names():
        return _shipped_model(name)
    return _read_once((name, folder), lambda: _folder_model(name, folder))


def _folder_model(name: str, folder: Path | None) -> MeterModel:
    own = folder_files(folder)
    if name not in own:
        known = sorted({*model_names(), *own})
        hint = nearest_name(name, known)
        raise MeterConfigError(
            f"there is no meter model {name!r}; known: {', '.join(known)}"
            + (f". Did you mean `{hint}`?" if hint else "")
        )
    return _own_model(own[name], folder)


def model_file(path: Path, folder: Path | None = None) -> MeterModel:
    """Return the model of a file, which is read once, and may extend those of `folder`, or else of its own folder.

    MeterConfigError when it cannot be read, ModelMistakes when it is wrong.
    """
    beside = folder or path.parent
    return _read_once((path, folder), lambda: parse_model(read_text(path), where=str(path), folder=beside))


def _read_once(key: _Key, read: Callable[[], MeterModel]) -> MeterModel:
    if key not in _own_models:
        if len(_own_models) >= MAX_OWN:
            _own_models.clear()
        _own_models[key] = read()
    return _own_models[key]


def forget_models() -> Callable[[], None]:
    """Let the files of users be read again: the configuration was. Returns what takes that back.

    A configuration that is refused must leave a running gateway with the models that it has.
    """
    before = dict(_own_models)
    _own_models.clear()

    def take_back() -> None:
        _own_models.clear()
        _own_models.update(before)

    return take_back


def is_file_name(name: str) -> bool:
    """Return whether a model is named by its file."""
    return name.endswith(FILE) or "/" in name


@lru_cache(maxsize=1)
def model_names() -> tuple[str, ...]:
    """Return the names of the shipped models, sorted.

    Raises nothing: they come with the package.

    >>> "sdm120" in model_names()
    True
    """
    files_ = (entry.name for entry in _shipped_folder().iterdir())
    return tuple(sorted(name.removesuffix(FILE) for name in files_ if name.endswith(FILE)))


def known_names(folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of the shipped models and of the files in a user's folder, sorted.

    Raises MeterConfigError when the folder cannot be read.
    """
    return tuple(sorted({*model_names(), *folder_files(folder)}))


def folder_files(folder: Path | None) -> Mapping[str, Path]:
    """Return the files of a user's folder by name; MeterConfigError when it cannot be read or holds too many."""
    if folder is None:
        return {}
    try:
        if not folder.is_dir():
            raise MeterConfigError(f"there is no folder {folder} of meter models")
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(FILE))
    except OSError as error:
        raise MeterConfigError(
            f"the folder of meter models {folder} cannot be read: {error.strerror}"
        ) from error
    if len(paths) > MAX_FILES:
        raise MeterConfigError(f"the folder {folder} has {len(paths)} models; at most {MAX_FILES} are read")
    return {path.name.removesuffix(FILE): path for path in paths}


def all_models(folder: Path | None = None) -> Iterator[ModelEntry]:
    """Yield the shipped models and those of a user's folder by name, also the broken ones.

    Raises MeterConfigError when the folder cannot be read.
    """
    own = folder_files(folder)
    for name in sorted({*model_names(), *own}):
        if name in model_names():
            yield ModelEntry(name, "shipped", _shipped_model(name), None)
        if name in own:
            try:
                yield ModelEntry(name, str(own[name]), _own_model(own[name], folder), None)
            except MeterConfigError as error:
                yield ModelEntry(name, str(own[name]), None, error)


@lru_cache(maxsize=256)
def _shipped_model(name: str) -> MeterModel:
    model = parse_model(_shipped_text(name), where=f"{name}.toml")
    if model.name != name:
        raise MeterConfigError(f"model {name}.toml: name: the file says {model.name!r}")
    return model


def _own_model(path: Path, folder: Path | None) -> MeterModel:
    if path.name.removesuffix(FILE) in model_names():
        raise MeterConfigError(f"{path} has the name of a shipped model: give it another")
    model = model_file(path, folder)
    if model.name != path.name.removesuffix(FILE):
        raise MeterConfigError(f"{path}: name: the file must be called {model.name}{FILE}, as the model is")
    return model


def read_text(path: Path) -> str:
    """Return the text of a small file; MeterConfigError when it is none, too long, or leads somewhere else."""
    try:
        real = path.resolve(strict=True)
        if path.is_symlink() and not real.is_relative_to(path.parent.resolve()):
            raise MeterConfigError(
                f"{path} is a link that leaves its folder, to {real}: put the file itself there"
            )
        # A pipe would be waited for without end: it is opened without waiting, and refused.
        with os.fdopen(os.open(real, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MeterConfigError(f"{path} is no file")
            octets = file.read(MAX_FILE + 1)
    except RuntimeError as error:
        raise MeterConfigError(f"{path} is a link that leads to itself") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(octets) > MAX_FILE:
        raise MeterConfigError(f"{path}: a meter model has at most {MAX_FILE} octets")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MeterConfigError(
            f"{path} is no text (UTF-8): octet {error.start} is {octets[error.start]:#04x}"
        ) from error


def _unreadable(path: Path, error: OSError) -> MeterConfigError:
    return MeterConfigError(f"the meter model {path} cannot be read: {error.strerror}")


def _shipped_folder() -> Traversable:
    return files("protocols.modbus").joinpath("models")


def _shipped_text(name: str) -> str:
    return str(_shipped_folder().joinpath(f"{name}{FILE}").read_text(encoding="utf-8"))


def _document(
    source: TomlSource, folder: Path | None, seen: tuple[str, ...]
) -> tuple[dict[str, Any], Inherited]:
    """Return what a file says together with what it extends, and whence each register is."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if line.count(".") > MAX_DOTS:  # the time that a name with dots takes grows with their square
            raise ModelMistakes([source.mistake((), f"line {number} has more than {MAX_DOTS} dots")])
    try:
        document = tomllib.loads(source.text, parse_float=_number)
    except RecursionError:
        raise ModelMistakes([source.mistake((), "lists in lists without end")]) from None
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of thousands of digits
        raise ModelMistakes([source.mistake((), f"not TOML: {error}")]) from None
    base = document.get("extends")
    if base is None:
        return document, Inherited.none(document)
    own = folder_files(folder)
    names = sorted({*model_names(), *own})
    if (
        not isinstance(base, str)
        or base not in names
        or f"{base}{FILE}" == Path(source.file).name
        or base in seen
    ):
        hint = nearest_name(base, names) if isinstance(base, str) else None
        raise ModelMistakes([source.mistake(("extends",), f"there is no other model {base!r}", hint)])
    if len(seen) >= MAX_BASES:
        problem = f"leads through more than {MAX_BASES} models"
        raise ModelMistakes([source.mistake(("extends",), problem)])
    is_shipped = base in model_names()
    base_source = TomlSource(
        f"{base}{FILE}" if is_shipped else str(own[base]),
        _shipped_text(base) if is_shipped else read_text(own[base]),
    )
    under, _ = _document(base_source, folder, (*seen, base))
    try:
        return extended(under, document)
    except BadExtension as error:
        raise ModelMistakes([source.mistake(error.trail, error.problem, error.nearest)]) from None


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text[:40]} is no number that can be used") from None


def _mistakes(
    error: ValidationError, source: TomlSource, document: Mapping[str, Any], inherited: Inherited
) -> list[Mistake]:
    """Return what pydantic found, each where it stands in the file itself."""
    found: list[Mistake] = []
    faults = error.errors(include_url=False)
    deeper = {fault["loc"][:n] for fault in faults for n in range(len(fault["loc"]))}
    for fault in faults:
        if fault["type"] == "too_short" and fault["loc"] in deeper:  # its entries are there, and wrong
            continue
        if len(found) >= MAX_MISTAKES:
            more = error.error_count()
            return [*found, source.mistake((), f"{more} mistakes in all; these are the first {len(found)}")]
        if fault["type"] == FAULTS:
            each = [(tuple(trail), str(problem)) for trail, problem in fault["ctx"]["faults"]]
        else:
            each = [(_at_key(_in_file(fault["loc"]), str(fault["msg"]), document), "")]
        for trail, problem in each:
            own = inherited.own(trail)
            where = ("extends",) if own is None else own
            one = source.mistake(where, problem) if problem else source.explain(fault, keys_at, where)
            if one.nearest is None and where[-1:] == ("type",):
                one = replace(one, nearest=OTHER_NAMES.get(str(fault.get("input")).lower()))
            own_key = f"`{trail[-1]}`: " if trail else ""
            label = _label(document, trail, own)
            found.append(replace(one, field=label, problem=one.problem.removeprefix(own_key)))
    return found


def _at_key(trail: Trail, problem: str, document: Mapping[str, Any]) -> Trail:
    """Return the place of the first key of a table that its mistake names in backquotes, where the table has it."""
    table: Any = document
    try:
        for part in trail:
            table = table[part]
    except (KeyError, IndexError, TypeError):
        return trail
    named = (name for name in re.findall(r"`([a-z_]+)`", problem) if isinstance(table, dict))
    return (*trail, *((key,) if (key := next((n for n in named if n in table), None)) else ()))


def _in_file(loc: tuple[int | str, ...]) -> Trail:
    """Return a place of pydantic's as the file has it: of a table's keys it names them as such."""
    return tuple(part for part in loc if part != "[key]")


def _label(document: Mapping[str, Any], merged: Trail, own: Trail | None) -> str:
    """Return the field as people find it: entries of lists with the quantity that they are of."""
    of = ""
    if len(merged) > 1 and merged[0] == "registers" and isinstance(merged[1], int):
        entry = document["registers"][merged[1]]
        quantity = entry.get("quantity") if isinstance(entry, dict) else None
        of = f" ({quantity[:40]})" if isinstance(quantity, str) else ""
    if own is None:
        return f"{dotted(merged[:2])}{of}{dotted(('', *merged[2:])) if merged[2:] else ''}, as extended"
    return f"{dotted(own)}{of}"
