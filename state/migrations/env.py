"""What alembic runs: the migrations, in the transaction that `state.migrate` opened and locked."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
context.run_migrations()
