"""The office of the first release: staff, sessions, machines, change sets, answers by key, the audit trail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table("office_life", _text("name"), _text("value"), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "office_staff",
        *map(_text, ("name", "roles", "password", "seed")),
        *map(_number, ("epoch", "code_step", "failures")),
        sa.Column("wait_until", sa.BigInteger),
        sa.Column("disabled_at", sa.BigInteger),
        sa.Column("last_login", sa.BigInteger),
        _number("made_at"),
        _text("made_by"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "office_session",
        *map(_text, ("digest", "name", "kind", "source")),
        *map(_number, ("epoch", "made_at", "expires_at")),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("office_session_name", "office_session", ["name"])
    op.create_index("office_session_expires", "office_session", ["expires_at"])
    op.create_table(
        "office_machine",
        *map(_text, ("name", "kind", "proof", "roles")),
        _number("made_at"),
        _text("made_by"),
        _number("expires_at"),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("last_used", sa.BigInteger),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("office_machine_proof", "office_machine", ["kind", "proof"], unique=True)
    op.create_table(
        "office_change_set",
        *map(_text, ("id", "actor", "source", "state", "fingerprint", "changes")),
        *map(_number, ("count", "asked_at")),
        sa.Column("base", sa.BigInteger),
        sa.Column("note", sa.Text),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("version", sa.BigInteger),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("office_change_set_asked", "office_change_set", ["asked_at", "id"])
    op.create_index("office_change_set_state", "office_change_set", ["state"])
    op.create_table(
        "office_answer",
        *map(_text, ("actor", "key", "digest", "run")),
        _number("begun_at"),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.Text),
        sa.PrimaryKeyConstraint("actor", "key"),
    )
    op.create_index("office_answer_begun", "office_answer", ["begun_at"])
    op.create_table(
        "office_approval",
        *map(_text, ("fingerprint", "by")),
        _number("at"),
        sa.PrimaryKeyConstraint("fingerprint", "by"),
    )
    op.create_table(
        "office_trail",
        _number("number"),
        _number("at"),
        *map(_text, ("actor", "act", "subject", "source", "detail", "hash")),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("office_trail_subject", "office_trail", ["subject", "number"])
    op.create_table(
        "office_inbox",
        _text("system"),
        *map(_number, ("sequence", "at")),
        *map(_text, ("digest", "result")),
        sa.PrimaryKeyConstraint("system", "sequence"),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)
