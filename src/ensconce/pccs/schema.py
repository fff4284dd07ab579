# SPDX-License-Identifier: Apache-2.0
"""The database's tables, and how an older database becomes this one (alembic's migrations)."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "change",
    "items",
    "metadata",
    "migrate",
    "pck_certificates",
    "platforms",
    "policies",
    "registrations",
    "tcbs",
]

_MIGRATION_LOCK = 0x50434353  # PostgreSQL's advisory lock, "PCCS"

metadata = MetaData()

change = Table(
    "change",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
)
"""One row with one number, which every writer raises first: it orders writers, and tells readers
in other processes that what they remember may be old."""

items = Table(
    "items",
    metadata,
    Column("kind", String(40), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("chain", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("issued", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

platforms = Table(
    "platforms",
    metadata,
    Column("qe_id", String(260), primary_key=True),
    Column("pce_id", String(4), primary_key=True),
    Column("enc_ppid", String(768), nullable=False),
    Column("platform_manifest", Text, nullable=False),
    Column("fmspc", String(12), nullable=False, index=True),
    Column("ca", String(16), nullable=False),
    Column("chain", Text, nullable=False),
    Column("complete", Boolean, nullable=False),
)

pck_certificates = Table(
    "pck_certificates",
    metadata,
    Column("qe_id", String(260), primary_key=True),
    Column("pce_id", String(4), primary_key=True),
    Column("tcbm", String(36), primary_key=True),
    Column("pem", Text, nullable=False),
)

tcbs = Table(
    "tcbs",
    metadata,
    Column("qe_id", String(260), primary_key=True),
    Column("pce_id", String(4), primary_key=True),
    Column("cpu_svn", String(32), primary_key=True),
    Column("pce_svn", String(4), primary_key=True),
    Column("tcbm", String(36), nullable=False),
)
"""Which certificate answered a TCB that a platform asked for."""

registrations = Table(
    "registrations",
    metadata,
    Column("qe_id", String(260), primary_key=True),
    Column("pce_id", String(4), primary_key=True),
    Column("cpu_svn", String(32), primary_key=True),
    Column("pce_svn", String(4), primary_key=True),
    Column("enc_ppid", String(768), nullable=False),
    Column("platform_manifest", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
)

policies = Table(
    "policies",
    metadata,
    Column("id", String(96), primary_key=True),
    Column("fmspc", String(12), nullable=False, index=True),
    Column("type", BigInteger, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("policy", Text, nullable=False),
)


def migrate(engine: Engine) -> None:
    """Bring a database to this version's tables; several processes may do so at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
