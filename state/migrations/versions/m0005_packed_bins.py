"""The bins of hours once more in six bytes each, in place of fourteen in two columns.

Statistics add up thousands of hours, and most of that is to read these bytes, to put them together and to send them.
The partitions of hours are written again, which takes some twenty seconds for a million rows.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A bin is within ±2560, and no hour has two thousand million events of one bin. Big-endian, as they are sent.
    op.execute(
        """
        create function packed_bins(bins bigint[]) returns bytea
        language sql immutable strict parallel safe
        return (
            select string_agg(int2send(bin::smallint) || int4send(events::integer), ''::bytea)
            from unnest(bins[1:1], bins[2:2]) as one (bin, events)
        )
        """
    )
    op.execute(
        """
        alter table gauge_hours
            add column packed_bins bytea not null generated always as (packed_bins(bins)) stored,
            drop column sent_bins,
            drop column sent_events
        """
    )
    op.execute("drop function sent_bins(bigint[])")
    op.execute("drop function sent_events(bigint[])")


def downgrade() -> None:
    for name, row, kind in (("sent_bins", 1, "smallint"), ("sent_events", 2, "integer")):
        op.execute(
            f"""
            create function {name}(bins bigint[]) returns bytea
            language sql immutable strict parallel safe
            return substring(array_send(bins[{row}:{row}]::{kind}[]) from 29)
            """
        )
        op.execute(
            f"alter table gauge_hours add column {name} bytea not null generated always as ({name}(bins)) stored"
        )
    op.execute("alter table gauge_hours drop column packed_bins")
    op.execute("drop function packed_bins(bigint[])")
