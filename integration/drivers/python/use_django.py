"""Django's ORM over psycopg 3, one connection for each thread, as its handlers
have it."""

import threading

import django
import psycopg
from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, ProgrammingError, connections, models, transaction

from run import check, repeat_until, target

words = target()


def database(tag, **more):
    options = {"sslmode": words["sslmode"], "application_name": tag, **more}
    if "sslrootcert" in words:
        options["sslrootcert"] = words["sslrootcert"]
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": words["host"],
        "PORT": words["port"],
        "USER": words["user"],
        "PASSWORD": words["password"],
        "NAME": words["dbname"],
        "OPTIONS": options,
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        # As Django's manual asks for behind a pooler in transaction mode.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


settings.configure(DATABASES={"default": database("django")}, USE_TZ=True)
django.setup()


class Tagged(models.Model):
    pk = models.CompositePrimaryKey("tag", "n")
    tag = models.TextField()
    n = models.IntegerField()
    body = models.TextField(null=True)

    class Meta:
        app_label = "drivers"
        db_table = "tagged"
        managed = False


class Client:
    batch_error = "Django has no pipelines"
    copy = "Django leaves COPY to the driver below"

    def __init__(self, tag):
        self.tag = tag
        # Each client is a database of Django's: its threads come and go.
        connections.settings[tag] = connections.configure_settings({"default": database(tag)})["default"]
        self.conn = connections.create_connection(tag)
        self.conn.inc_thread_sharing()
        self.objects = Tagged.objects.using(tag)

    def use(self):
        """Makes the connection this thread's."""
        connections[self.tag] = self.conn

    def connect(self):
        self.conn.ensure_connection()

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
        self.use()
        for n in range(1, 21):
            got = self.rows("select %s, n from generate_series(1, %s) n", (self.tag, n))
            check(got, [(self.tag, i + 1) for i in range(n)])
            check(self.objects.filter(tag="nobody").count(), 0)

    def prepared(self):
        # Prepares if it is asked to, in its configuration.
        how = database(self.tag, server_side_binding=True, prepare_threshold=0)
        conn = type(self.conn)({**self.conn.settings_dict, **how}, self.tag)
        try:
            for n in range(20):
                for sql, args, want in (
                    ("select %s::text, %s::int * 2", (self.tag, n), (self.tag, 2 * n)),
                    (f"select '{self.tag}', %s::text", ("own",), (self.tag, "own")),
                    (f"select %s::text, {n % 7}", (self.tag,), (self.tag, n % 7)),
                ):
                    with conn.cursor() as cursor:
                        cursor.execute(sql, args)
                        check(cursor.fetchall(), [want])
        finally:
            conn.close()

    def transaction(self):
        self.use()
        for commit in (False, True):
            with transaction.atomic(using=self.tag):
                pid = self.rows("select pg_backend_pid()")
                for n in range(3):
                    self.objects.create(tag=self.tag, n=n)
                with transaction.atomic(using=self.tag):
                    self.objects.filter(tag=self.tag).delete()
                    transaction.set_rollback(True, using=self.tag)
                got = list(self.objects.filter(tag=self.tag).order_by("n").values_list("tag", "n"))
                check(got, [(self.tag, n) for n in range(3)])
                check(self.rows("select pg_backend_pid()"), pid)
                transaction.set_rollback(not commit, using=self.tag)
            check(self.objects.filter(tag=self.tag).count(), 3 if commit else 0)

    def batch(self):
        self.use()
        tag = self.tag + "-batch"
        self.objects.bulk_create([Tagged(tag=tag, n=n) for n in range(500)], batch_size=200)
        check(self.objects.filter(tag=tag, n__lt=100).update(body=self.tag), 100)
        check(sum(1 for row in self.objects.filter(tag=tag).iterator(50) if row.tag == tag), 500)

    def error(self):
        self.use()

        def fails(kind, work):
            try:
                work()
            except kind:
                return
            raise AssertionError(f"{kind.__name__} was not reported")

        tag = self.tag + "-error"

        def twice():
            with transaction.atomic(using=self.tag):
                for _ in range(2):
                    self.objects.create(tag=tag, n=1)

        for _ in range(5):
            fails(ProgrammingError, lambda: self.rows("selec 1"))
            fails(DataError, lambda: self.rows("select %s, 1 / %s::int", (self.tag, 0)))
            check(self.rows("select %s, 1 / %s::int", (self.tag, 1)), [(self.tag, 1)])
            fails(IntegrityError, twice)
            check(self.objects.filter(tag=tag).count(), 0)

    def cancel(self):
        done = threading.Event()
        canceller = threading.Thread(target=repeat_until, args=(done, self.conn.connection.cancel_safe))
        canceller.start()
        try:
            self.rows("select pg_sleep(60)")
        except OperationalError as error:
            check(type(error.__cause__), psycopg.errors.QueryCanceled)
        else:
            raise AssertionError("the query ended by itself")
        finally:
            done.set()
            canceller.join()
        check(self.rows("select %s", (self.tag,)), [(self.tag,)])

    def large(self):
        self.use()
        body = self.tag + "x" * (1 << 20)
        check(self.rows("select %s", (body,)), [(body,)])
        self.objects.create(tag=self.tag + "-large", n=1, body=body)
        check(self.objects.get(tag=self.tag + "-large").body, body)

    def settings(self):
        want = self.tag
        for n in range(10):
            check(self.rows("show application_name"), [(want,)])
            want = f"{self.tag}-{n}"
            with self.conn.cursor() as cursor:
                cursor.execute("set application_name = %s", (want,))
            check(self.rows("select current_setting('application_name'), %s", (self.tag,)), [(want, self.tag)])
