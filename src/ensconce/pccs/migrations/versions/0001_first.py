# SPDX-License-Identifier: Apache-2.0
"""Make the first version's tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_QE_ID, _PCE_ID = sa.String(260), sa.String(4)


def _of_platform() -> list[sa.Column[str]]:
    """Return the columns that name a platform."""
    return [
        sa.Column("qe_id", _QE_ID, primary_key=True),
        sa.Column("pce_id", _PCE_ID, primary_key=True),
    ]


def _of_tcb() -> list[sa.Column[str]]:
    """Return the columns that name a platform's TCB."""
    return [
        sa.Column("cpu_svn", sa.String(32), primary_key=True),
        sa.Column("pce_svn", sa.String(4), primary_key=True),
    ]


def upgrade() -> None:
    """Make the tables."""
    number = sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False)
    op.bulk_insert(op.create_table("change", number), [{"number": 0}])
    op.create_table(
        "items",
        sa.Column("kind", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("issued", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "platforms",
        *_of_platform(),
        sa.Column("enc_ppid", sa.String(768), nullable=False),
        sa.Column("platform_manifest", sa.Text, nullable=False),
        sa.Column("fmspc", sa.String(12), nullable=False, index=True),
        sa.Column("ca", sa.String(16), nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
    )
    op.create_table(
        "pck_certificates",
        *_of_platform(),
        sa.Column("tcbm", sa.String(36), primary_key=True),
        sa.Column("pem", sa.Text, nullable=False),
    )
    op.create_table(
        "tcbs", *_of_platform(), *_of_tcb(), sa.Column("tcbm", sa.String(36), nullable=False)
    )
    op.create_table(
        "registrations",
        *_of_platform(),
        *_of_tcb(),
        sa.Column("enc_ppid", sa.String(768), nullable=False),
        sa.Column("platform_manifest", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
    )
    op.create_table(
        "policies",
        sa.Column("id", sa.String(96), primary_key=True),
        sa.Column("fmspc", sa.String(12), nullable=False, index=True),
        sa.Column("type", sa.BigInteger, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Remove the tables."""
    for table in (
        "policies", "registrations", "tcbs", "pck_certificates", "platforms", "items", "change",
    ):  # fmt: skip
        op.drop_table(table)
