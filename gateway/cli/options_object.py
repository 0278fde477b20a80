"""Commands that take many options as one object: a dataclass whose fields are the options, used by several commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, get_type_hints


def with_options(function: Callable[..., None], parameter: str, options: type[Any]) -> Callable[..., None]:
    """Return the function as a command that has the options of a dataclass after its own parameters.

    They come to the function as one object, its parameter of that name. May be applied more than once.
    """
    signature = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    of_object = get_type_hints(options, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for p in signature.parameters.values()
        if p.name != parameter
    ]
    added = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=of_object[field.name],
        )
        for field in fields(options)
    ]

    def command(**given: Any) -> None:
        function(**{parameter: options(**{p.name: given.pop(p.name) for p in added})}, **given)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    command.__dict__["__signature__"] = inspect.Signature([*own, *added])
    return command
