"""How each meter stands is one row, kept as it comes; numbers of open gaps and of quarantine are kept, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_WELL = ("ok", "new")


def upgrade() -> None:
    """Make the table from what was heard, told and allocated; central notes the places from the directory."""
    op.create_table(
        "meter_states",
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("heard_at", sa.BigInteger),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("unwell", sa.BigInteger, nullable=False),
        sa.Column("told_since", sa.BigInteger),
        sa.Column("detail", sa.Text),
        sa.Column("role", sa.Text),
        sa.Column("role_until", sa.BigInteger),
        sa.PrimaryKeyConstraint("meter"),
    )
    _fill()
    op.drop_table("meters_heard")
    op.create_index("meter_states_heard", "meter_states", ["heard_at"])
    op.create_index("meter_states_unwell", "meter_states", ["unwell"])
    op.create_index("meter_states_until", "meter_states", ["role_until"])
    op.create_index("meter_states_role", "meter_states", ["role"])
    op.create_index("line_health_state", "line_health", ["state", "gateway", "line"])
    op.create_index("allocations_origin", "allocations", ["origin", "until", "gateway", "since"])
    op.execute(
        "INSERT INTO tallies (name, share, value) SELECT 'open_gaps', '', count(*) FROM gaps WHERE state = 'open'"
    )
    op.execute(
        "INSERT INTO tallies (name, share, value)"
        " SELECT 'quarantined', gateway, count(*) FROM quarantine GROUP BY gateway"
    )


def _fill() -> None:
    connection = op.get_bind()
    rows: dict[str, dict[str, object]] = {}

    def row(meter: str) -> dict[str, object]:
        plain: dict[str, object] = {
            "meter": meter,
            "heard_at": None,
            "gateway": "",
            "told": 0,
            "line": "",
            "code": "ok",
        }
        return rows.setdefault(meter, plain | {"unwell": 0, "told_since": None, "detail": None})

    for meter, heard_at in connection.execute(sa.text("SELECT meter, heard_at FROM meters_heard")):
        row(meter)["heard_at"] = heard_at
    for meter, gateway in connection.execute(
        sa.text("SELECT meter, gateway FROM allocations WHERE until IS NULL")
    ):
        row(meter)["gateway"] = gateway
    told = sa.text(
        "SELECT meter, gateway, line, health, since, detail FROM meter_health ORDER BY meter, gateway"
    )
    for meter, gateway, line, health, since, detail in connection.execute(told):
        one = row(meter)
        if one["told"] and one["gateway"] != gateway:
            continue  # the word of the gateway that it is allocated to counts, else the first
        if one["gateway"] in ("", gateway):
            said = {"told": 1, "line": line or "", "code": health, "told_since": since, "detail": detail}
            one.update(said, gateway=gateway, unwell=int(health not in _WELL))
    if rows:
        names = list(next(iter(rows.values())))
        into = sa.table("meter_states", *map(sa.column, names))
        op.bulk_insert(into, list(rows.values()))
