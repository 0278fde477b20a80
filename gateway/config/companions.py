"""Which companion says how a meter's pushes are read: the shipped ones, and a user's own in a folder or a file."""

from __future__ import annotations

from pathlib import Path

from gateway.config.meters import MeterSection
from protocols.dlms.companion import PushGrammar, companion, companion_file
from protocols.dlms.companion.loader import DEFAULT
from protocols.errors import MeterConfigError
from protocols.session import COMPANIONS

FILE = ".toml"


def push_grammars(folder: Path | None) -> dict[str, PushGrammar]:
    """Return all grammars by name: those of a user's folder first; MeterConfigError names what is wrong in one."""
    try:
        paths = sorted(folder.glob(f"*{FILE}")) if folder is not None and folder.is_dir() else []
    except OSError as error:
        raise MeterConfigError(f"the folder of companions {folder} cannot be read: {error}") from error
    if folder is not None and not folder.is_dir():
        raise MeterConfigError(f"there is no folder {folder} of companions")
    own = {path.stem: companion_file(path).push for path in paths}
    shipped = {name: companion(name).push for name in COMPANIONS}
    if taken := sorted(own.keys() & shipped.keys()):
        raise MeterConfigError(
            f"{folder}/{taken[0]}{FILE} has the name of a shipped companion: give it another; for the same `makers`"
            " yours is taken before the shipped one"
        )
    _check_makers(own)
    return {**own, **shipped}


def _check_makers(own: dict[str, PushGrammar]) -> None:
    """Refuse a maker in two companions of a user: which of them reads its meters would be chance."""
    holders: dict[str, str] = {}
    for name, one in own.items():
        for maker in sorted(one.makers):
            if (other := holders.setdefault(maker, name)) != name:
                raise MeterConfigError(
                    f"the companions {other}{FILE} and {name}{FILE} both name the maker {maker}: leave it in one, and"
                    " name the other in [meters.push] of the meters that it is for"
                )


def grammar_named(name: str, known: dict[str, PushGrammar]) -> PushGrammar:
    """Return a grammar by its name, or that of a file, which is read once and known then.

    MeterConfigError when there is none or it is wrong.
    """
    if name not in known and (name.endswith(FILE) or "/" in name):
        known[name] = companion_file(Path(name)).push
    if name not in known:
        raise MeterConfigError(
            f"there is no companion `{name}`: name one of {', '.join(sorted(known))}, or a file (.toml)"
        )
    return known[name]


def push_grammar_of(meter: MeterSection, known: dict[str, PushGrammar]) -> PushGrammar:
    """Choose how a meter's pushes are read.

    As [meters.push] says; else as the companion of [meters.dlms] does, where that is not the default; else as the
    companion that names its maker (three letters: of the meter, or of its system title); else as IS 15959.
    MeterConfigError when what is named is not there.
    """
    if meter.push is not None and meter.push.companion is not None:
        return grammar_named(meter.push.companion, known)
    if meter.dlms is not None and meter.dlms.companion != DEFAULT:
        return known[meter.dlms.companion]
    makers = {meter.meter.partition(":")[0]}
    if meter.push is not None and meter.push.system_title is not None:
        makers.add(bytes.fromhex(meter.push.system_title)[:3].decode("latin-1"))
    return next((one for one in known.values() if one.makers & makers), known[DEFAULT])
