"""Windows of calls, and the values that models learn."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table call_windows (
            subject text not null,
            hour timestamptz not null,
            calls bigint not null,
            errors bigint not null,
            timeouts bigint not null,
            -- Whole numbers; the squares of an hour's microseconds do not fit into 64 bits.
            latency_us numeric not null,
            latency_us2 numeric not null,
            bins jsonb not null,
            primary key (subject, hour)
        )
        """
    )
    op.execute(
        """
        create table observations (
            subject text not null,
            metric text not null,
            hour timestamptz not null,
            value double precision not null,
            count bigint not null,
            origin text not null check (origin in ('live', 'train')),
            primary key (subject, metric, hour)
        )
        """
    )


def downgrade() -> None:
    op.execute("drop table observations")
    op.execute("drop table call_windows")
