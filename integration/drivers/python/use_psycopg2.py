"""psycopg2: simple queries only."""

import io
import threading

import psycopg2
from psycopg2 import errors
from psycopg2.extras import execute_values

from run import check, repeat_until, target


class Client:
    batch_error = "psycopg2 has no pipelines"

    def __init__(self, tag):
        self.tag = tag
        self.conn = None

    def connect(self):
        self.conn = psycopg2.connect(**target(), application_name=self.tag)
        self.conn.autocommit = True

    def close(self):
        self.conn.close()

    def reconnect(self):
        self.conn.close()
        self.connect()

    def rows(self, sql, args=None):
        with self.conn.cursor() as cursor:
            cursor.execute(sql, args)
            return cursor.fetchall()

    def query(self):
        for n in range(1, 21):
            got = self.rows("select %s, n from generate_series(1, %s) n", (self.tag, n))
            check(got, [(self.tag, i + 1) for i in range(n)])

    def prepared(self):
        # The driver has no prepared statements of its own; SQL's are used.
        with self.conn.cursor() as cursor:
            cursor.execute("prepare shared (text, int) as select $1, $2 * 2")
            cursor.execute("prepare own as select %s, 'own'", (self.tag,))
            for n in range(20):
                check(self.rows("execute shared (%s, %s)", (self.tag, n)), [(self.tag, 2 * n)])
                check(self.rows("execute own"), [(self.tag, "own")])
            cursor.execute("deallocate own")
            cursor.execute("deallocate shared")

    def transaction(self):
        count = "select count(*) from tagged where tag = %s"
        self.conn.autocommit = False
        try:
            for end in (self.conn.rollback, self.conn.commit):
                ((pid,),) = self.rows("select pg_backend_pid()")
                with self.conn.cursor() as cursor:
                    execute_values(cursor, "insert into tagged (tag, n) values %s", [(self.tag, n) for n in range(3)])
                    cursor.execute("savepoint s")
                    cursor.execute("delete from tagged where tag = %s", (self.tag,))
                    cursor.execute("rollback to savepoint s")
                got = self.rows("select tag, n from tagged where tag = %s order by n", (self.tag,))
                check(got, [(self.tag, n) for n in range(3)])
                check(self.rows("select pg_backend_pid()"), [(pid,)])
                end()
                check(self.rows(count, (self.tag,)), [(3 if end == self.conn.commit else 0,)])
                self.conn.rollback()
        finally:
            self.conn.autocommit = True

    def batch(self):
        for n in range(5):
            # Of several statements in one Query, the last one's rows are had.
            got = self.rows("; ".join(f"select '{self.tag}', {n}, {i}" for i in range(10)))
            check(got, [(self.tag, n, 9)])

    def error(self):
        def fails(kind, *args):
            try:
                self.rows(*args)
            except kind:
                return
            raise AssertionError(f"{kind.__name__} was not reported")

        for _ in range(5):
            fails(errors.SyntaxError, "selec 1")
            fails(errors.DivisionByZero, "select 1; select 1 / 0; select 2")
            check(self.rows("select %s", (self.tag,)), [(self.tag,)])
            self.conn.autocommit = False
            insert = "insert into tagged values (%s, 1) returning n"
            check(self.rows(insert, (self.tag + "-error",)), [(1,)])
            fails(errors.UniqueViolation, insert, (self.tag + "-error",))
            fails(errors.InFailedSqlTransaction, "select 1")
            self.conn.rollback()
            self.conn.autocommit = True
            check(self.rows("select count(*) from tagged where tag = %s", (self.tag + "-error",)), [(0,)])

    def copy(self):
        tag = self.tag + "-copy"
        lines = "".join(f"{tag}\t{n}\tbody {tag}\n" for n in range(500))
        with self.conn.cursor() as cursor:
            cursor.copy_expert("copy tagged from stdin", io.StringIO(lines))
            out = io.StringIO()
            cursor.copy_expert(f"copy (select * from tagged where tag = '{tag}' order by n) to stdout", out)
            check(out.getvalue(), lines)
            try:
                cursor.copy_expert("copy tagged from stdin", io.StringIO("no\tnumber\n" * 1000))
            except (errors.InvalidTextRepresentation, errors.BadCopyFileFormat):
                pass
            else:
                raise AssertionError("the error was not reported")
        check(self.rows("select count(*), %s from tagged where tag = %s", (self.tag, tag)), [(500, self.tag)])

    def cancel(self):
        done = threading.Event()
        canceller = threading.Thread(target=repeat_until, args=(done, self.conn.cancel))
        canceller.start()
        try:
            self.rows("select pg_sleep(60)")
        except errors.QueryCanceled:
            pass
        else:
            raise AssertionError("the query ended by itself")
        finally:
            done.set()
            canceller.join()
        check(self.rows("select %s, 'after'", (self.tag,)), [(self.tag, "after")])

    def large(self):
        body = self.tag + "x" * (1 << 20)
        check(self.rows("select %s", (body,)), [(body,)])
        check(self.rows("insert into tagged values (%s, 1, %s) returning n", (self.tag + "-large", body)), [(1,)])
        check(self.rows("select body from tagged where tag = %s", (self.tag + "-large",)), [(body,)])

    def settings(self):
        want = self.tag
        for n in range(10):
            check(self.rows("show application_name"), [(want,)])
            want = f"{self.tag}-{n}"
            with self.conn.cursor() as cursor:
                cursor.execute("set application_name = %s", (want,))
            check(self.rows("select current_setting('application_name'), %s", (self.tag,)), [(want, self.tag)])
