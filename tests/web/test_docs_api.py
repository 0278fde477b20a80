"""The page about the API is what curl gets, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.web.api_walk import PAGE, walked


@pytest.mark.curl
async def test_the_page_is_what_curl_prints(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    async with walked(tmp_path) as walk:
        assert await walk.run(page) == page, (
            "run `python -m tests.support.web.api_walk` and read what changed"
        )
