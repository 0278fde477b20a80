"""Golden messages of version 1, which no code makes any more."""

from __future__ import annotations

from tests.support.paths import ROOT

GOLDEN_1 = {
    path.stem: path.read_bytes().removesuffix(b"\n")
    for path in sorted((ROOT / "docs" / "contract" / "v1" / "golden").glob("*.json"))
}
