"""Names of a package that are imported at their first use.

A face shows names of many modules, and a program that needs one of them does not pay for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package (PEP 562) whose public names lie in other modules.

    `homes` has the module of each name. AttributeError for a name that is not in it.
    """

    def import_name(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return import_name
