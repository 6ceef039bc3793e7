"""Run by Alembic; the connection comes from `reftune.server.database.upgrading`.

A migration is a file in ``versions``; a test holds the tables they make against the models, on both
databases. Tables that exist at some user's are changed by a further file, never by editing one.
"""

from alembic import context

from reftune.server.database.models import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    # SQLite can take back changes of tables, though Alembic does not expect it of its driver; our
    # connection begins its transactions itself.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
