# SPDX-License-Identifier: Apache-2.0
"""The database: what is true of it whoever shares it, on SQLite and on PostgreSQL."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from tests.dcap.corpus import needs_corpus, time_of
from tests.pccs.postgres import needs_postgres, postgres
from tests.pccs.serving import CASE, FMSPC, SGX, Clock, application, asking, platform_bundle

from ensconce.dcap import INTEL_ROOT
from ensconce.errors import ConfigError, VerificationError
from ensconce.pccs import Item, Key, Kind, Mode, Platform, Service, Store
from ensconce.pccs.schema import metadata

KEY = Key(Kind.PCK_CRL, "platform")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of an empty database."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite:///{tmp_path}/pccs.db"
        else:
            yield stack.enter_context(postgres())


def item(number: int, issued: int = 0) -> Item:
    """Return a version of an item; the database doesn't look into it."""
    return Item(KEY, b"\x00\xff", "chain", number, issued, 2)


def register_and_put(store: Store, older: Item) -> None:
    """Do two things in one transaction."""
    with store.writing() as rows:
        rows.put_registration(Platform("A", "0000"), "new")
        rows.put(older)


def test_nothing_older_replaces_what_is_kept(url: str) -> None:
    store = Store.open(url)
    with store.writing() as rows:
        assert rows.put(item(7, 5))
        assert not rows.put(item(7, 5))
    for older in (item(6, 9), item(7, 4)):
        with pytest.raises(VerificationError, match="collateral_rolled_back"):
            register_and_put(store, older)
    with store.reading() as rows:
        assert rows.item(KEY) == item(7, 5)
        assert rows.registrations("new") == []  # undone with the rest
    store.close()


WRITER = """
import sys
from ensconce.pccs import Platform, Store
store = Store.open(sys.argv[1])
for number in range(40):
    with store.writing() as rows:
        rows.put_registration(Platform(f"{sys.argv[2]}-{number}", "0000"), "new")
"""


def test_several_processes_make_and_fill_one_database(url: str) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(name)]) for name in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    store = Store.open(url)
    with store.reading() as rows:
        assert len(rows.registrations("new")) == 120
    assert store.change_number() == 120
    store.close()


def test_migrations_make_the_tables_that_the_code_has(url: str) -> None:
    Store.open(url).close()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


@needs_corpus
def test_a_replica_serves_what_another_one_keeps(url: str) -> None:
    async def run() -> None:
        clock = Clock(time_of(CASE))
        one, two = [
            Service(Store.open(url), INTEL_ROOT, Mode.OFFLINE, None, clock=clock) for _ in range(2)
        ]
        bundle = platform_bundle(CASE)
        async with asking(application(two)) as client:
            assert (await client.get(f"{SGX}/tcb?fmspc={FMSPC}")).status_code == 404
            await one.keep(bundle.items, bundle.platforms)
            assert (await client.get(f"{SGX}/tcb?fmspc={FMSPC}")).status_code == 200
        one.store.close()
        two.store.close()

    asyncio.run(run())


@needs_corpus
def test_a_remembered_answer_is_dropped_once_another_replica_has_changed_it(url: str) -> None:
    async def run() -> None:
        clock = Clock(time_of(CASE))
        one, two = [
            Service(Store.open(url), INTEL_ROOT, Mode.OFFLINE, None, clock=clock) for _ in range(2)
        ]
        far = int(clock.time.timestamp()) + 3600
        first, second = (Item(KEY, bytes([number]), "", number, 0, far) for number in (1, 2))
        await one.write(lambda rows: rows.put(first))
        async with asking(application(two)) as client:
            path = f"{SGX}/pckcrl?ca=platform&encoding=der"
            for _ in range(2):
                assert (await client.get(path)).content == b"\x01"
            await one.write(lambda rows: rows.put(second))
            await asyncio.sleep(1.1)
            assert (await client.get(path)).content == b"\x02"
        one.store.close()
        two.store.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "wrong", ["", "nonsense", "mysql://root@localhost/x", "sqlite:////no/such/folder/x.db"]
)
def test_a_database_that_can_not_be_had_is_told_in_a_sentence(wrong: str) -> None:
    with pytest.raises(ConfigError, match="database"):
        Store.open(wrong)
