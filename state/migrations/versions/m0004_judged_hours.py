"""Beside the value of an hour, what had been published of it and how the value compared; and sums of that by cohort.

Columns without a default: only the catalogue is changed, no row is written again. Rows that were there stay without.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS = {
    "estimate": "double precision",
    "lower": "double precision",
    "upper": "double precision",
    "threshold": "double precision",
    "score": "double precision",
    "is_exceeded": "boolean",
    "is_credible": "boolean",
    # The share of normal hours that the threshold claimed to hold, and the calls that were expected of the hour.
    "coverage": "double precision",
    "expected_calls": "double precision",
}


def upgrade() -> None:
    op.execute("alter table observations " + ", ".join(f"add column {name} {kind}" for name, kind in _COLUMNS.items()))
    # The judged hours of each cohort, summed up now and then; `detection.coverage.Tally` says what the sums are.
    op.execute(
        """
        create table cohort_coverage (
            span text not null,
            until timestamptz not null,
            -- 1: the sums are over all subjects, 2: over every other one.
            every_nth bigint not null,
            metric text collate "C" not null,
            size text collate "C" not null,
            series bigint not null,
            judged bigint not null,
            exceeded bigint not null,
            claimed double precision not null,
            compared bigint not null,
            loss double precision not null,
            naive_loss double precision not null,
            clusters bigint not null,
            judged2 bigint not null,
            exceeded2 bigint not null,
            product bigint not null,
            primary key (span, metric, size)
        )
        """
    )
    # One row: when the sums are next to be made.
    op.execute("create table coverage_refresh (due timestamptz not null)")


def downgrade() -> None:
    op.execute("drop table coverage_refresh")
    op.execute("drop table cohort_coverage")
    op.execute("alter table observations " + ", ".join(f"drop column {name}" for name in _COLUMNS))
