"""Tables of what is kept of captures as they come, so that no page counts or looks through captures."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from gateway.central.ledger.schema import ROW_ID, UtcInstant, metadata

unattributed = Table(
    "unattributed",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # Where the earliest of them begins, and the instants of the earliest and the latest.
    Column("start", UtcInstant, nullable=False),
    Column("first", UtcInstant, nullable=False),
    Column("last", UtcInstant, nullable=False),
    Column("captures", BigInteger, nullable=False),
    Column("ingested_at", UtcInstant, nullable=False),
    Column("stale", BigInteger, nullable=False),
)
Index("unattributed_meter", unattributed.c.meter, unattributed.c.profile)
Index("unattributed_reason", unattributed.c.reason, unattributed.c.meter, unattributed.c.first)
Index("unattributed_stale", unattributed.c.stale, unattributed.c.id)

tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    # Whose share of the number: processes that store for different gateways do not wait for each other.
    Column("share", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

meter_states = Table(
    "meter_states",
    metadata,
    Column("meter", Text, primary_key=True),
    Column("heard_at", UtcInstant),
    # By the word of the gateway that counts, else (`told` = 0) of the one that it is allocated to, if any.
    Column("gateway", Text, nullable=False),
    Column("told", BigInteger, nullable=False),
    Column("line", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("unwell", BigInteger, nullable=False),
    Column("told_since", UtcInstant),
    Column("detail", Text),
    # As the directory has it: none of both where it never was installed, no role where it is not any more.
    Column("role", Text),
    Column("role_until", UtcInstant),
)
Index("meter_states_heard", meter_states.c.heard_at)
Index("meter_states_unwell", meter_states.c.unwell)
Index("meter_states_until", meter_states.c.role_until)
Index("meter_states_role", meter_states.c.role)

use_days = Table(
    "use_days",
    metadata,
    Column("meter", Text, primary_key=True),
    # The local day, as the number of days since the year 1 (datetime.date.toordinal).
    Column("day", BigInteger, primary_key=True),
    Column("account_id", Text, primary_key=True),
    # Exact: a decimal as text. The spans with data, in microseconds since 1970: "from-to" joined by commas.
    Column("kwh", Text, nullable=False),
    Column("covered", Text, nullable=False),
)
Index("use_days_account", use_days.c.account_id, use_days.c.day)

use_stale = Table(
    "use_stale",
    metadata,
    Column("meter", Text, primary_key=True),
    Column("since", UtcInstant, nullable=False),
    Column("until", UtcInstant, nullable=False),
    Column("marks", BigInteger, nullable=False),
)
Index("use_stale_since", use_stale.c.since)
