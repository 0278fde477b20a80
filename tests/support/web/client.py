"""Starlette's test client; its advice on another HTTP library is not ours to follow in a test run."""

from __future__ import annotations

import warnings
from typing import Any

from starlette.types import ASGIApp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient as _TestClient


class TestClient(_TestClient):
    """A browser on this machine, unless another address is given."""

    __test__ = False

    def __init__(self, app: ASGIApp, *, client: tuple[str, int] = ("127.0.0.1", 50000), **more: Any) -> None:
        super().__init__(app, client=client, **more)
