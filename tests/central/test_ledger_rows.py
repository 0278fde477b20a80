"""Many rows in one statement: the same rows as one by one, with fewer values bound."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, event, select

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.bulk import MANY, write
from gateway.central.ledger.ledger import Ledger
from gateway.contract.topics import Topics
from tests.support.blocks import AT, batch_of, block_load, encoded

NAMES = ("a", "key", "c", "d")
TABLE = Table("rows", MetaData(), *(Column(name, (Integer, Text)[n % 2]) for n, name in enumerate(NAMES)))
ROW = st.tuples(
    st.one_of(st.none(), st.integers(0, 2)),
    st.one_of(st.none(), st.sampled_from(["", "x", "y"])),
    st.just(7),
    st.none(),
)


@given(st.lists(ROW, max_size=3 * MANY))
@example([(1, "x", 7, None)] * (2 * MANY + 1))
def test_rows_are_written_as_given(rows: list[tuple[Any, ...]]) -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        TABLE.metadata.create_all(connection)
        write(connection, TABLE, NAMES, rows)
        assert [tuple(row) for row in connection.execute(select(TABLE))] == rows
    engine.dispose()


def test_what_the_captures_of_a_block_share_is_bound_once_for_many(tmp_path: Path) -> None:
    """To bind a value costs nearly as much as to store it: 22 columns, of which five are a capture's own."""
    ledger = Ledger(tmp_path / "ledger.db")
    bound = 0

    def count(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        nonlocal bound
        if statement.startswith("INSERT INTO captures"):
            bound += sum(map(len, parameters))

    event.listen(ledger.database._writer, "before_cursor_execute", count)
    sent = [block_load(number) for number in range(5 * MANY)]
    payload = batch_of(encoded(*sent))
    topics = Topics("test")
    topic = topics.readings("edge-1", "block_load")
    handled = MessageStore(ledger, topics).handle([ReceivedMessage(topic, payload, AT + timedelta(days=30))])
    assert handled.result.stored == len(sent)
    assert bound <= len(sent) * 7
    ledger.close()
