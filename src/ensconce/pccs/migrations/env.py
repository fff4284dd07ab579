# SPDX-License-Identifier: Apache-2.0
"""Run migrations on the connection that `ensconce.pccs.schema.migrate` has opened and locked."""

from alembic import context

from ensconce.pccs.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
