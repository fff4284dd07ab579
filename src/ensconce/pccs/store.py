# SPDX-License-Identifier: Apache-2.0
"""The database: SQLite in a file, or PostgreSQL by URL; several processes may share it.

Every writer first raises the one number of `change`, which orders writers, so that what it reads
after that stays as it is until it is done. Functions here block; `service` calls them in threads.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from ensconce.dcap.verdict import Reason, Refusal
from ensconce.errors import ConfigError
from ensconce.pccs import schema
from ensconce.pccs.items import (
    Item,
    Key,
    PckCertificate,
    PckList,
    Platform,
    TcbKey,
)

__all__ = ["Known", "Policy", "Registration", "Store", "Transaction"]

_BUSY = 30.0


class Policy(NamedTuple):
    """An appraisal policy, a signed JSON web token, for the platforms of an FMSPC."""

    fmspc: str
    type: int
    is_default: bool
    policy: str

    @property
    def id(self) -> str:
        """SHA-384 of the policy, in hex."""
        return hashlib.sha384(self.policy.encode()).hexdigest()


class Registration(NamedTuple):
    """A platform that waits for somebody to fetch its certificates."""

    platform: Platform
    state: str


@dataclass(frozen=True, slots=True)
class Known:
    """A platform whose certificates are kept.

    `answered` has the TCBs it was asked for when they were fetched, each with the TCB of the
    certificate that answered, which counts only where the list is not complete.
    """

    platform: Platform
    pcks: PckList
    answered: dict[TcbKey, str]


class Transaction:
    """Reads and writes of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def item(self, key: Key) -> Item | None:
        """Return the item kept under a key."""
        table = schema.items
        wanted = select(table).where(table.c.kind == key.kind, table.c.name == key.name)
        row = self._connection.execute(wanted).mappings().one_or_none()
        return None if row is None else _item(row)

    def items(self) -> list[Item]:
        """Return every item."""
        table = schema.items
        wanted = select(table).order_by(table.c.kind, table.c.name)
        return [_item(row) for row in self._connection.execute(wanted).mappings()]

    def put(self, item: Item) -> bool:
        """Keep an item and say whether it is news; Refusal (step 9) if the kept one is newer."""
        kept = self.item(item.key)
        if kept == item:
            return False
        if kept is not None and item.order < kept.order:
            raise Refusal(
                9,
                Reason.COLLATERAL_ROLLED_BACK,
                f"{item.key} has number {item.number} issued at {item.issued}, and the one kept "
                f"has {kept.number} issued at {kept.issued}",
            )
        identity = {"kind": item.key.kind.value, "name": item.key.name}
        self._put(
            schema.items,
            identity,
            {
                "body": item.body,
                "chain": item.chain,
                "number": item.number,
                "issued": item.issued,
                "expires": item.expires,
            },
        )
        return True

    def known(self, qe_id: str, pce_id: str) -> Known | None:
        """Return what is kept of a platform."""
        row = self._rows(schema.platforms, qe_id=qe_id, pce_id=pce_id)
        return self._known(row[0]) if row else None

    def all_known(self, fmspcs: Iterable[str] = ()) -> list[Known]:
        """Return all platforms that are kept, or those of some FMSPCs."""
        table, chosen = schema.platforms, list(fmspcs)
        wanted = select(table).order_by(table.c.qe_id, table.c.pce_id)
        if chosen:
            wanted = wanted.where(table.c.fmspc.in_(chosen))
        rows = self._connection.execute(wanted).mappings().all()
        return [self._known(row) for row in rows]

    def count_platforms(self) -> int:
        """Return how many platforms are kept."""
        return int(self._connection.scalar(select(func.count()).select_from(schema.platforms)) or 0)

    def put_known(self, known: Known) -> None:
        """Keep a platform's certificates: instead of those kept, or beside, as `complete` says."""
        platform, pcks = known.platform, known.pcks
        identity = {"qe_id": platform.qe_id, "pce_id": platform.pce_id}
        kept = self.known(**identity)
        manifest, ppid = platform.platform_manifest, platform.enc_ppid
        if kept is not None:
            manifest = manifest or kept.platform.platform_manifest
            ppid = ppid or kept.platform.enc_ppid
        fields = {
            "enc_ppid": ppid,
            "platform_manifest": manifest,
            "fmspc": pcks.fmspc,
            "ca": pcks.ca,
            "chain": pcks.chain,
            "complete": pcks.complete,
        }
        self._put(schema.platforms, identity, fields)
        if pcks.complete:
            self._delete(schema.pck_certificates, identity)
        for one in pcks.certificates:
            self._put(schema.pck_certificates, identity | {"tcbm": one.tcbm}, {"pem": one.pem})
        for tcb, tcbm in known.answered.items():
            self._put(schema.tcbs, identity | tcb._asdict(), {"tcbm": tcbm})

    def put_registration(self, platform: Platform, state: str) -> None:
        """Queue a platform."""
        self._put(
            schema.registrations,
            _tcb_identity(platform),
            {
                "enc_ppid": platform.enc_ppid,
                "platform_manifest": platform.platform_manifest,
                "state": state,
            },
        )

    def drop_registration(self, platform: Platform) -> None:
        """Take a platform out of the queue."""
        self._delete(schema.registrations, _tcb_identity(platform))

    def registrations(self, state: str) -> list[Platform]:
        """Return the platforms queued in a state."""
        return [_platform(row) for row in self._rows(schema.registrations, state=state)]

    def drop_registrations(self, state: str) -> None:
        """Empty the queue of a state."""
        self._delete(schema.registrations, {"state": state})

    def put_policy(self, policy: Policy) -> None:
        """Keep a policy; of each type an FMSPC has one default."""
        table = schema.policies
        if policy.is_default:
            self._connection.execute(
                update(table)
                .where(table.c.fmspc == policy.fmspc, table.c.type == policy.type)
                .values(is_default=False)
            )
        self._put(table, {"id": policy.id}, policy._asdict())

    def policies(self, fmspc: str | None = None) -> list[Policy]:
        """Return the default policies of an FMSPC, by type, or all policies there are."""
        chosen = {} if fmspc is None else {"fmspc": fmspc, "is_default": True}
        rows = self._rows(schema.policies, **chosen)
        found = [
            Policy(row["fmspc"], row["type"], row["is_default"], row["policy"]) for row in rows
        ]
        return sorted(found, key=lambda one: (one.fmspc, one.type, one.id))

    def _known(self, row: RowMapping) -> Known:
        """Return a platform with its certificates."""
        identity = {"qe_id": row["qe_id"], "pce_id": row["pce_id"]}
        certificates = tuple(
            PckCertificate(each["tcbm"], each["pem"])
            for each in self._rows(schema.pck_certificates, **identity)
        )
        answered = {
            TcbKey(each["cpu_svn"], each["pce_svn"]): each["tcbm"]
            for each in self._rows(schema.tcbs, **identity)
        }
        pcks = PckList(row["fmspc"], row["ca"], row["chain"], certificates, row["complete"])
        return Known(_platform(row), pcks, answered)

    def _rows(self, table: Table, **identity: Any) -> list[RowMapping]:
        """Return a table's rows with certain values, in the primary key's order."""
        wanted = select(table).filter_by(**identity).order_by(*table.primary_key.columns)
        return list(self._connection.execute(wanted).mappings())

    def _put(self, table: Table, identity: dict[str, Any], fields: dict[str, Any]) -> None:
        """Write a row, new or instead of the one there; writers come one after the other."""
        changed = self._connection.execute(update(table).filter_by(**identity).values(**fields))
        if not changed.rowcount:
            self._connection.execute(insert(table).values(**identity | fields))

    def _delete(self, table: Table, identity: dict[str, Any]) -> None:
        """Delete rows."""
        self._connection.execute(delete(table).filter_by(**identity))


class Store:
    """A database that is open. `writing` is a transaction; `reading` sees what is committed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a database by SQLAlchemy's URL, and make or renew its tables."""
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
                engine = create_engine(parsed, pool_pre_ping=True, pool_size=8)
            elif parsed.get_backend_name() == "sqlite":
                engine = create_engine(parsed, connect_args={"timeout": _BUSY})
                event.listen(engine, "connect", _set_up_sqlite)
            else:
                raise ConfigError(
                    f"the database {parsed.get_backend_name()!r} is not supported; give "
                    "sqlite:///FILE or postgresql://USER@HOST/NAME"
                )
            schema.migrate(engine)
        except (SQLAlchemyError, ImportError) as error:
            raise ConfigError(
                f"the database can't be opened: {str(error).splitlines()[0]}; check its URL, and "
                "that it may be written"
            ) from error
        return cls(engine)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Give a transaction that excludes other writers; an exception undoes it all."""
        with self._engine.begin() as connection:
            number = schema.change.c.number
            connection.execute(update(schema.change).values(number=number + 1))
            yield Transaction(connection)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Give a connection to read with; what it reads belongs to one moment."""
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield Transaction(connection)

    def change_number(self) -> int:
        """Return the number that every change raises."""
        with self._engine.connect() as connection:
            return int(connection.scalar(select(schema.change.c.number)) or 0)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Let readers go on beside a writer, and let writers wait for each other."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _item(row: RowMapping) -> Item:
    """Return the item in a row."""
    return Item(
        Key.parse(row["kind"], row["name"]),
        bytes(row["body"]),
        row["chain"],
        row["number"],
        row["issued"],
        row["expires"],
    )


def _platform(row: RowMapping) -> Platform:
    """Return the platform in a row."""
    return Platform(
        row["qe_id"],
        row["pce_id"],
        row.get("cpu_svn", ""),
        row.get("pce_svn", ""),
        row["enc_ppid"],
        row["platform_manifest"],
    )


def _tcb_identity(platform: Platform) -> dict[str, str]:
    """Return what a platform's registration is known by."""
    return {
        "qe_id": platform.qe_id,
        "pce_id": platform.pce_id,
        "cpu_svn": platform.cpu_svn,
        "pce_svn": platform.pce_svn,
    }
