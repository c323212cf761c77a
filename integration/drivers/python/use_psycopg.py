"""psycopg 3: prepares what it runs (prepare_threshold), and has pipelines."""

import threading

import psycopg
from psycopg import errors

from run import check, repeat_until, target


class Client:
    def __init__(self, tag):
        self.tag = tag
        self.conn = None

    def connect(self):
        self.conn = psycopg.connect(**target(), application_name=self.tag, autocommit=True)
        # Above this number statements are closed, which is a task of its own.
        self.conn.prepared_max = 10

    def close(self):
        self.conn.close()

    def reconnect(self):
        self.conn.close()
        self.connect()

    def rows(self, sql, args=None, **how):
        return self.conn.execute(sql, args, **how).fetchall()

    def query(self):
        for n in range(1, 21):
            got = self.rows("select %s::text, n from generate_series(1, %s) n", (self.tag, n), prepare=False)
            check(got, [(self.tag, i + 1) for i in range(n)])
            check(self.rows(f"select '{self.tag}'"), [(self.tag,)])

    def prepared(self):
        for n in range(20):
            check(self.rows("select %s, %s::int * 2", (self.tag, n), prepare=True), [(self.tag, 2 * n)])
            check(self.rows("select %s, %s::int * 2", (self.tag, str(n)), prepare=True), [(self.tag, 2 * n)])
            check(self.rows(f"select '{self.tag}', %s::text", ("own",), prepare=True), [(self.tag, "own")])
            check(self.rows(f"select '{self.tag}', {n}", prepare=True), [(self.tag, n)])

    def transaction(self):
        class Undo(Exception):
            pass

        def work():
            (pid,) = self.conn.execute("select pg_backend_pid()").fetchone()
            with self.conn.cursor() as cursor:
                cursor.executemany("insert into tagged values (%s, %s)", [(self.tag, n) for n in range(3)])
            mine = "select tag, n from tagged where tag = %s order by n"
            check(self.rows(mine, (self.tag,), prepare=True), [(self.tag, n) for n in range(3)])
            try:
                with self.conn.transaction():
                    self.conn.execute("delete from tagged where tag = %s", (self.tag,))
                    raise Undo
            except Undo:
                pass
            check(self.rows(mine, (self.tag,), prepare=True), [(self.tag, n) for n in range(3)])
            check(self.rows("select pg_backend_pid()"), [(pid,)])

        count = "select count(*) from tagged where tag = %s"
        for _ in range(3):
            try:
                with self.conn.transaction():
                    work()
                    raise Undo
            except Undo:
                pass
            check(self.rows(count, (self.tag,)), [(0,)])
        with self.conn.transaction():
            work()
        check(self.rows(count, (self.tag,)), [(3,)])

    def batch(self):
        for _ in range(5):
            with self.conn.pipeline():
                cursors = [
                    self.conn.execute("select %s::text, %s::int", (self.tag, n), prepare=n % 2 == 0) for n in range(10)
                ]
            check([c.fetchall() for c in cursors], [[(self.tag, n)] for n in range(10)])
        with self.conn.pipeline() as pipeline:
            cursors = []
            for n in range(10):
                cursors.append(self.conn.execute(f"select '{self.tag}', %s::int", (n,), prepare=True))
                pipeline.sync()
            check([c.fetchall() for c in cursors], [[(self.tag, n)] for n in range(10)])

    def batch_error(self):
        for n in range(5):
            try:
                with self.conn.pipeline():
                    before = self.conn.execute("select %s::text", (self.tag,), prepare=True)
                    self.conn.execute("select 1 / %s::int", (0,), prepare=n % 2 == 0)
                    self.conn.execute(f"select '{self.tag}', 'never {n}', %s::int", (n,), prepare=True)
            except errors.DivisionByZero:
                pass
            else:
                raise AssertionError("the error was not reported")
            check(before.fetchall(), [(self.tag,)])
            check(self.rows("select %s::text, 'after'", (self.tag,), prepare=True), [(self.tag, "after")])
            check(self.rows(f"select '{self.tag}', 'never {n}', %s::int", (n,), prepare=True), [(self.tag, f"never {n}", n)])

    def error(self):
        def fails(kind, *args, **how):
            try:
                self.rows(*args, **how)
            except kind:
                return
            raise AssertionError(f"{kind.__name__} was not reported")

        for _ in range(5):
            fails(errors.SyntaxError, "selec 1")
            fails(errors.UndefinedTable, "select * from nowhere where n = %s", (1,), prepare=True)
            fails(errors.DivisionByZero, "select %s, 1 / %s::int", (self.tag, 0), prepare=True)
            check(self.rows("select %s, 1 / %s::int", (self.tag, 1), prepare=True), [(self.tag, 1)])
            try:
                with self.conn.transaction():
                    for _ in range(2):
                        self.conn.execute("insert into tagged values (%s, 1)", (self.tag + "-error",), prepare=True)
            except errors.UniqueViolation:
                pass
            check(self.rows("select count(*) from tagged where tag = %s", (self.tag + "-error",)), [(0,)])

    def copy(self):
        tag = self.tag + "-copy"
        with self.conn.cursor() as cursor:
            with cursor.copy("copy tagged from stdin") as copy:
                for n in range(500):
                    copy.write_row((tag, n, "body " + tag))
            with cursor.copy(f"copy (select * from tagged where tag = '{tag}' order by n) to stdout") as copy:
                copy.set_types(["text", "int4", "text"])
                check(list(copy.rows()), [(tag, n, "body " + tag) for n in range(500)])
            try:
                with cursor.copy("copy tagged from stdin") as copy:
                    for n in range(1000):
                        copy.write(b"no\tnumber\n")
            except errors.InvalidTextRepresentation:
                pass
            else:
                raise AssertionError("the error was not reported")
        check(self.rows("select count(*), %s::text from tagged where tag = %s", (self.tag, tag)), [(500, self.tag)])

    def cancel(self):
        done = threading.Event()
        canceller = threading.Thread(target=repeat_until, args=(done, self.conn.cancel_safe))
        canceller.start()
        try:
            self.conn.execute("select pg_sleep(60)")
        except errors.QueryCanceled:
            pass
        else:
            raise AssertionError("the query ended by itself")
        finally:
            done.set()
            canceller.join()
        check(self.rows("select %s::text, 'after'", (self.tag,), prepare=True), [(self.tag, "after")])

    def large(self):
        body = self.tag + "x" * (1 << 20)
        check(self.rows("select %s::text", (body,)), [(body,)])
        check(self.rows("select %s::text", (body,), prepare=True), [(body,)])
        check(self.rows("select %b::bytea", (body.encode(),)), [(body.encode(),)])
        self.conn.execute("insert into tagged values (%s, 1, %s)", (self.tag + "-large", body))
        check(self.rows("select body from tagged where tag = %s", (self.tag + "-large",)), [(body,)])

    def settings(self):
        want = self.tag
        for n in range(10):
            check(self.rows("show application_name"), [(want,)])
            want = f"{self.tag}-{n}"
            self.conn.execute(f"set application_name = '{want}'")
            check(self.rows("select current_setting('application_name'), %s::text", (self.tag,), prepare=True), [(want, self.tag)])
