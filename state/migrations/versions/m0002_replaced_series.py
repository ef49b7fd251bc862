"""From which hour on the live values of a series that was started over belong to it."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table replaced_series (
            subject text not null,
            metric text not null,
            -- Live values of earlier hours were learned before the series was started over.
            live_from timestamptz not null,
            primary key (subject, metric)
        )
        """
    )


def downgrade() -> None:
    op.execute("drop table replaced_series")
