"""Anything at the API's door: every answer is one that is described, and nothing is changed by nonsense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapping.kinds import KINDS
from tests.support.web.staffed import Staffed, key, staffed

PATH = "/v1/directory/change-sets"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.text(max_size=40),
    st.sampled_from(
        [
            "UP-asha",
            "acc-asha",
            "GEN:10000001",
            "KE0012345",
            "1234567890",
            "2026-11-20T10:00:00+05:30",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00",
            "2026-11-20T10:00:00.1234567Z",
            "1e400",
            "NaN",
            "-0",
            "\u202e",
            "\x00",
            "consumer",
            "prepaid",
        ]
    ),
)
MEMBERS = sorted({name for form in KINDS.values() for name in form.model_fields} - {"kind"})
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4)
    ),
    max_leaves=8,
)
FORMS = st.fixed_dictionaries(
    {"kind": st.one_of(st.sampled_from(sorted(KINDS)), st.text(max_size=9))},
    optional=dict.fromkeys(MEMBERS, VALUES),
)
REQUESTS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"changes": st.lists(FORMS, max_size=4)},
        optional={"fingerprint": SCALARS, "reference": SCALARS, "x": SCALARS},
    ),
)
ALLOWED = {200, 400, 409, 412, 422, 429}


@pytest.fixture
async def here(tmp_path: Path, seeded_files: Path) -> AsyncIterator[Staffed]:
    async with staffed(tmp_path, seeded_files, more="[directory]\napprove_above = 100") as made:
        yield made


async def test_no_document_breaks_the_door(here: Staffed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.api_access.REQUESTS", 10**6)
    loop = asyncio.get_running_loop()
    http = httpx.AsyncClient(base_url=here.base, headers={"Authorization": f"Bearer {here.token}"})
    count = 0

    async def post(body: bytes) -> httpx.Response:
        nonlocal count
        count += 1
        headers = {"Content-Type": "application/json"} | key(f"fuzz-{count}")
        return await http.post(PATH, content=body, headers=headers)

    def check(body: bytes) -> None:
        got = asyncio.run_coroutine_threadsafe(post(body), loop).result()
        assert got.status_code in ALLOWED, (got.status_code, body, got.text)
        if got.status_code >= 400:
            problem = got.json()
            assert problem["status"] == got.status_code
            assert problem["detail"]

    @settings(max_examples=120, suppress_health_check=list(HealthCheck))
    @given(REQUESTS)
    def documents(request: Any) -> None:
        if isinstance(request, dict):
            request = request | {"dry_run": True}
        check(json.dumps(request).encode())

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(
        st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
    def octets(body: bytes) -> None:
        check(body)

    try:
        with here.directory() as store:
            before = store.version
        await asyncio.to_thread(documents)
        await asyncio.to_thread(octets)
        check_deep = b'{"changes":' + b"[" * 100_000
        assert (await post(check_deep)).status_code == 400
        assert (await post(b'{"changes":[{"kind":"\\ud800"}]}')).status_code in (400, 422)
        with here.directory() as store:
            assert store.version == before
    finally:
        await http.aclose()


async def test_the_same_request_at_once_is_done_once(here: Staffed) -> None:
    move = {"kind": "move_out", "usage_point": "UP-asha", "at": "2026-11-22T10:00:00+05:30"}
    async with here.client() as http:
        got = await asyncio.gather(
            *(http.post(PATH, json={"changes": [move]}, headers=key("one")) for _ in range(8))
        )
    codes = sorted(one.status_code for one in got)
    assert codes[0] == 201
    assert set(codes) <= {201, 409}
    assert all(one.headers["Retry-After"] for one in got if one.status_code == 409)
    with here.directory() as store:
        assert [c.by for c in store.snapshot().changes].count("machine:sap") == 1
