"""A layout stays as long as an entry names it."""

from __future__ import annotations

import sqlite3

from gateway.contract.blocks import Keyed
from gateway.edge.journal.templates import SLACK, TemplateTable


def test_a_layout_stays_for_the_last_entry_of_a_long_transaction() -> None:
    """A salvage or a group of backfills gives more numbers in one transaction than the slack."""
    db = sqlite3.connect(":memory:")
    db.execute("create table template (key text primary key, text blob not null, last integer not null)")
    table, layout = TemplateTable(db), Keyed.of({"profile": "daily"})
    table.begin()
    for seq in range(1, 4 * SLACK, SLACK // 2):
        table.use(layout, seq)
    table.committed()
    table.trim(3 * SLACK)
    assert table.get(layout.key) == layout
    assert TemplateTable(db).get(layout.key) == layout
