"""SQLAlchemy over psycopg 3: an engine with its pool, the ORM, and inserts of
many rows at once."""

import threading

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc, orm

from run import check, repeat_until, target


class Base(orm.DeclarativeBase):
    pass


class Tagged(Base):
    __tablename__ = "tagged"
    tag: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    n: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    body: orm.Mapped[str | None]


class Client:
    batch_error = "SQLAlchemy has no pipelines"
    copy = "SQLAlchemy leaves COPY to the driver below"

    def __init__(self, tag):
        self.tag = tag
        self.engine = None

    def connect(self):
        words = target()
        self.engine = sa.create_engine(
            sa.URL.create("postgresql+psycopg", words.pop("user"), words.pop("password"), words.pop("host"), words.pop("port"), words.pop("dbname")),
            connect_args={**words, "application_name": self.tag, "prepare_threshold": 1},
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
        )
        with self.engine.connect() as conn:
            check(conn.scalar(sa.text("select 1")), 1)

    def close(self):
        self.engine.dispose()

    def reconnect(self):
        self.engine.dispose()
        self.connect()

    def rows(self, sql, **args):
        # After a rollback the driver forgets what it has prepared, so this commits.
        with self.engine.begin() as conn:
            return [tuple(row) for row in conn.execute(sa.text(sql), args)]

    def query(self):
        for n in range(1, 21):
            got = self.rows("select cast(:tag as text), n from generate_series(1, :n) n", tag=self.tag, n=n)
            check(got, [(self.tag, i + 1) for i in range(n)])

    def prepared(self):
        # After its first use the driver prepares a statement by itself.
        for n in range(20):
            check(self.rows("select cast(:tag as text), cast(:n as int) * 2", tag=self.tag, n=n), [(self.tag, 2 * n)])
            check(self.rows(f"select '{self.tag}', cast(:own as text)", own="own"), [(self.tag, "own")])
            check(self.rows("select count(*) from tagged where tag = :tag", tag="nobody"), [(0,)])

    def transaction(self):
        for end in ("rollback", "commit"):
            with orm.Session(self.engine) as session:
                pid = session.scalar(sa.text("select pg_backend_pid()"))
                session.add_all([Tagged(tag=self.tag, n=n) for n in range(3)])
                session.flush()
                with session.begin_nested() as savepoint:
                    session.execute(sa.delete(Tagged).where(Tagged.tag == self.tag).execution_options(synchronize_session=False))
                    savepoint.rollback()
                found = session.scalars(sa.select(Tagged).where(Tagged.tag == self.tag).order_by(Tagged.n)).all()
                check([(row.tag, row.n) for row in found], [(self.tag, n) for n in range(3)])
                check(session.scalar(sa.text("select pg_backend_pid()")), pid)
                getattr(session, end)()
                count = sa.select(sa.func.count()).select_from(Tagged).where(Tagged.tag == self.tag)
                check(session.scalar(count), 3 if end == "commit" else 0)

    def batch(self):
        # One statement with as many values as fit, and an executemany.
        tag = self.tag + "-batch"
        with self.engine.begin() as conn:
            got = conn.execute(
                sa.insert(Tagged).returning(Tagged.tag, Tagged.n, sort_by_parameter_order=True),
                [{"tag": tag, "n": n} for n in range(500)],
            )
            check([tuple(row) for row in got], [(tag, n) for n in range(500)])
            conn.execute(
                sa.text("update tagged set body = :body where tag = :tag and n = :n"),
                [{"tag": tag, "n": n, "body": self.tag} for n in range(100)],
            )
        check(self.rows("select count(*) from tagged where tag = :tag and body = :body", tag=tag, body=self.tag), [(100,)])

    def error(self):
        def fails(kind, work):
            try:
                work()
            except kind:
                return
            raise AssertionError(f"{kind.__name__} was not reported")

        tag = self.tag + "-error"

        def twice():
            with self.engine.begin() as conn:
                for _ in range(2):
                    conn.execute(sa.insert(Tagged).values(tag=tag, n=1))

        for _ in range(5):
            fails(exc.ProgrammingError, lambda: self.rows("selec 1"))
            fails(exc.DataError, lambda: self.rows("select cast(:tag as text), 1 / cast(:n as int)", tag=self.tag, n=0))
            check(self.rows("select cast(:tag as text), 1 / cast(:n as int)", tag=self.tag, n=1), [(self.tag, 1)])
            fails(exc.IntegrityError, twice)
            check(self.rows("select count(*) from tagged where tag = :tag", tag=tag), [(0,)])

    def cancel(self):
        with self.engine.connect() as conn:
            done = threading.Event()
            canceller = threading.Thread(target=repeat_until, args=(done, conn.connection.driver_connection.cancel_safe))
            canceller.start()
            try:
                conn.execute(sa.text("select pg_sleep(60)"))
            except exc.OperationalError as error:
                check(type(error.orig), psycopg.errors.QueryCanceled)
            else:
                raise AssertionError("the query ended by itself")
            finally:
                done.set()
                canceller.join()
            conn.rollback()
            check(conn.scalar(sa.text("select cast(:tag as text)"), {"tag": self.tag}), self.tag)

    def large(self):
        body = self.tag + "x" * (1 << 20)
        check(self.rows("select cast(:body as text)", body=body), [(body,)])
        with orm.Session(self.engine) as session:
            session.add(Tagged(tag=self.tag + "-large", n=1, body=body))
            session.commit()
            check(session.scalar(sa.select(Tagged.body).where(Tagged.tag == self.tag + "-large")), body)

    def settings(self):
        want = self.tag
        for n in range(10):
            check(self.rows("show application_name"), [(want,)])
            want = f"{self.tag}-{n}"
            with self.engine.begin() as conn:
                conn.execute(sa.text(f"set application_name = '{want}'"))
            check(self.rows("select current_setting('application_name'), cast(:tag as text)", tag=self.tag), [(want, self.tag)])
