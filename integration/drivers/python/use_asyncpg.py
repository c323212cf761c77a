"""asyncpg: named prepared statements in the driver's default configuration."""

import ssl
import time

import asyncpg

from run import check, target


class Client:
    batch_error = "asyncpg pipelines executemany only, and that is one statement"

    def __init__(self, tag):
        self.tag = tag
        self.conn = None

    async def connect(self):
        words = target()
        secure = False
        if words["sslmode"] != "disable":
            secure = ssl.create_default_context(cafile=words["sslrootcert"])
        self.conn = await asyncpg.connect(
            host=words["host"],
            port=int(words["port"]),
            user=words["user"],
            password=words["password"],
            database=words["dbname"],
            ssl=secure,
            statement_cache_size=10,
            server_settings={"application_name": self.tag},
        )

    async def close(self):
        await self.conn.close()

    async def reconnect(self):
        self.conn.terminate()
        await self.connect()

    async def rows(self, sql, *args):
        return [tuple(row) for row in await self.conn.fetch(sql, *args)]

    async def query(self):
        for n in range(1, 21):
            got = await self.rows("select $1::text, n from generate_series(1, $2::int) n", self.tag, n)
            check(got, [(self.tag, i + 1) for i in range(n)])
            # More texts than the driver's cache holds: it closes the oldest.
            check(await self.rows(f"select $1::text, {n}", self.tag), [(self.tag, n)])
        await self.conn.execute(f"select '{self.tag}'; select 2")

    async def prepared(self):
        shared = await self.conn.prepare("select $1::text, $2::int * 2")
        again = await self.conn.prepare("select $1::text, $2::int * 2", name=f"again_{self.tag.replace('-', '_')}")
        own = await self.conn.prepare(f"select '{self.tag}', $1::text")
        for n in range(20):
            for statement in (shared, again):
                check([tuple(r) for r in await statement.fetch(self.tag, n)], [(self.tag, 2 * n)])
            check([tuple(r) for r in await own.fetch("own")], [(self.tag, "own")])
        async with self.conn.transaction():
            n = 0
            async for row in self.conn.cursor("select $1::text, n from generate_series(0, 199) n", self.tag):
                check(tuple(row), (self.tag, n))
                n += 1
            check(n, 200)

    async def transaction(self):
        count = "select count(*) from tagged where tag = $1"
        for commit in (False, True):
            transaction = self.conn.transaction()
            await transaction.start()
            pid = await self.conn.fetchval("select pg_backend_pid()")
            await self.conn.executemany("insert into tagged values ($1, $2)", [(self.tag, n) for n in range(3)])
            savepoint = self.conn.transaction()
            await savepoint.start()
            await self.conn.execute("delete from tagged where tag = $1", self.tag)
            await savepoint.rollback()
            got = await self.rows("select tag, n from tagged where tag = $1 order by n", self.tag)
            check(got, [(self.tag, n) for n in range(3)])
            check(await self.conn.fetchval("select pg_backend_pid()"), pid)
            await (transaction.commit() if commit else transaction.rollback())
            check(await self.conn.fetchval(count, self.tag), 3 if commit else 0)

    async def batch(self):
        tag = self.tag + "-batch"
        await self.conn.executemany("insert into tagged values ($1, $2)", [(tag, n) for n in range(1000)])
        got = await self.conn.fetchmany(
            "update tagged set body = $3 where tag = $1 and n = $2 returning tag, n, body",
            [(tag, n, self.tag) for n in range(100)],
        )
        check([tuple(r) for r in got], [(tag, n, self.tag) for n in range(100)])

    async def error(self):
        async def fails(kind, work):
            try:
                await work
            except kind:
                return
            raise AssertionError(f"{kind.__name__} was not reported")

        divide = "select $1::text, 1 / $2::int"
        insert = "insert into tagged values ($1, 1)"
        tag = self.tag + "-error"
        for _ in range(5):
            await fails(asyncpg.PostgresSyntaxError, self.conn.fetch("selec $1", 1))
            await fails(asyncpg.UndefinedTableError, self.conn.fetch("select * from nowhere"))
            await fails(asyncpg.DivisionByZeroError, self.conn.fetch(divide, self.tag, 0))
            check(await self.rows(divide, self.tag, 1), [(self.tag, 1)])

            async def twice():
                async with self.conn.transaction():
                    await self.conn.execute(insert, tag)
                    await self.conn.execute(insert, tag)

            await fails(asyncpg.UniqueViolationError, twice())
            await fails(asyncpg.UniqueViolationError, self.conn.executemany(insert, [(tag,)] * 3))
            check(await self.conn.fetchval("select count(*) from tagged where tag = $1", tag), 0)

    async def copy(self):
        tag = self.tag + "-copy"
        want = [(tag, n, "body " + tag) for n in range(500)]
        await self.conn.copy_records_to_table("tagged", records=want)
        out = bytearray()

        async def keep(data):
            out.extend(data)

        await self.conn.copy_from_query("select * from tagged where tag = $1 order by n", tag, output=keep)
        check(bytes(out).decode(), "".join(f"{t}\t{n}\t{b}\n" for t, n, b in want))

        async def broken():
            for _ in range(1000):
                yield b"no\tnumber\n"

        try:
            await self.conn.copy_to_table("tagged", source=broken())
        except (asyncpg.InvalidTextRepresentationError, asyncpg.BadCopyFileFormatError):
            pass
        else:
            raise AssertionError("the error was not reported")
        check(await self.rows("select count(*), $1::text from tagged where tag = $2", self.tag, tag), [(500, self.tag)])

    async def cancel(self):
        # A time-out makes the driver send a cancel request, on which it waits. It
        # sends only one, and Postgres forgets one that comes before its query has
        # begun: then the query ends by itself, and it is tried again.
        for statement in ("select pg_sleep(10)", "select pg_sleep(10), 1"):
            for _ in range(3):
                start = time.monotonic()
                try:
                    await self.conn.fetch(statement, timeout=0.5)
                except TimeoutError:
                    pass
                else:
                    raise AssertionError("there was no time-out")
                check(await self.rows("select $1::text, 'after'", self.tag), [(self.tag, "after")])
                if time.monotonic() - start < 10:
                    break
            else:
                raise AssertionError("no cancel request ended the query")

    async def large(self):
        body = self.tag + "x" * (1 << 20)
        check(await self.rows("select $1::text", body), [(body,)])
        check(await self.rows("select $1::bytea", body.encode()), [(body.encode(),)])
        await self.conn.execute("insert into tagged values ($1, 1, $2)", self.tag + "-large", body)
        check(await self.rows("select body from tagged where tag = $1", self.tag + "-large"), [(body,)])

    async def settings(self):
        want = self.tag
        for n in range(10):
            check(await self.rows("show application_name"), [(want,)])
            want = f"{self.tag}-{n}"
            await self.conn.execute(f"set application_name = '{want}'")
            got = await self.rows("select current_setting('application_name'), $1::text", self.tag)
            check(got, [(want, self.tag)])
