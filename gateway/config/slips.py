"""The section [slips]: what is printed on the slips and stickers that meter readers carry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.types import Section


class SlipsSection(Section):
    """Slips and stickers with new account numbers.

    `utility` stands on top and `helpline` below. `names` allows consumers' names of the route book on slips; without
    it they are neither printed nor kept. `language` is that of slips for which none is asked. QR codes lead to
    `public_url` of [web].
    """

    utility: Annotated[str, Field(max_length=40)] = ""
    helpline: Annotated[str, Field(pattern=r"^[0-9+ -]{3,20}$")] = "1912"
    names: bool = False
    language: Literal["hi", "en"] = "hi"
