"""A Django app as apps are: it opens a connection for each request, reads a few
rows, and writes others in a transaction.

DATABASE_URL is all that it knows of its database. An answer with status 200
means that the request was served; another one says why not.
"""

import os
import random
import time
from urllib.parse import parse_qsl, unquote, urlsplit

import django
from django.conf import settings

url = urlsplit(os.environ["DATABASE_URL"])

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    LOGGING_CONFIG=None,
    MIDDLEWARE=["app.TellErrors"],
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": url.hostname,
            "PORT": url.port,
            "USER": unquote(url.username),
            "PASSWORD": unquote(url.password),
            "NAME": unquote(url.path[1:]),
            "OPTIONS": dict(parse_qsl(url.query)),
            "CONN_MAX_AGE": 0,
            "DISABLE_SERVER_SIDE_CURSORS": True,  # as Django asks for with transaction pooling
        }
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.db.models import F  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import get_resolver, path  # noqa: E402

ACCOUNTS = 10_000

# How long another service takes, which the app asks while it has a connection.
ELSEWHERE = 0.2


class Account(models.Model):
    name = models.TextField()
    balance = models.BigIntegerField()

    class Meta:
        app_label = "shop"
        db_table = "account"


class Entry(models.Model):
    account = models.ForeignKey(Account, models.CASCADE)
    amount = models.IntegerField()
    note = models.TextField()

    class Meta:
        app_label = "shop"
        db_table = "entry"


class TellErrors:
    """Answers an exception with its text."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        return HttpResponse(f"{type(exception).__name__}: {exception}", status=500)


def up(request):
    """Tells that the app runs. It asks no database."""
    return HttpResponse("up")


def page(request):
    """An account and its latest entries; another service decides upon one more."""
    account = Account.objects.get(pk=random.randint(1, ACCOUNTS))
    latest = list(Entry.objects.filter(account=account).order_by("-pk")[:10])
    time.sleep(ELSEWHERE)
    amount = random.randint(1, 1000)
    with transaction.atomic():
        entry = Entry.objects.create(account=account, amount=amount, note=f"entry of {account.name}")
        Account.objects.filter(pk=account.pk).update(balance=F("balance") + amount)
    entry.refresh_from_db()
    if entry.amount != amount or entry.account_id != account.pk:
        raise AssertionError(f"entry {entry.pk} is somebody else's")
    return JsonResponse({"account": account.name, "entry": entry.pk, "latest": [e.amount for e in latest]})


def session(request):
    """The same behind the SETs that Rails sends on each new connection, here with
    values that are different for each. They must be the connection's own all
    along."""
    tenant = random.randint(1, 999)  # milliseconds that Postgres does not write as seconds
    wanted = {
        "client_min_messages": random.choice(["warning", "error", "notice"]),
        "standard_conforming_strings": "on",
        "intervalstyle": "iso_8601",
        "timezone": random.choice(["UTC", "Europe/Vienna", "Asia/Tokyo"]),
        "statement_timeout": f"{10_000 + tenant}ms",
        "lock_timeout": f"{20_000 + tenant}ms",
        "search_path": f'tenant_{tenant}, public',
    }
    with connection.cursor() as cursor:
        cursor.execute(f"SET client_min_messages TO '{wanted['client_min_messages']}'")
        cursor.execute("SET standard_conforming_strings = on")
        cursor.execute("SET intervalstyle = iso_8601")
        cursor.execute(f"SET SESSION timezone TO '{wanted['timezone']}'")
        cursor.execute(f"SET SESSION statement_timeout TO '{wanted['statement_timeout']}'")
        cursor.execute(f"SET SESSION lock_timeout = '{wanted['lock_timeout']}'")
        cursor.execute(f"SET search_path TO {wanted['search_path']}")
    compare(wanted)
    answer = page(request)
    compare(wanted)
    return answer


def options(request):
    """The same for an app that says what it wants when it connects, in the options
    of its URL."""
    tenant = random.randint(1, 999)
    wanted = {
        "client_min_messages": random.choice(["warning", "error", "notice"]),
        "statement_timeout": f"{10_000 + tenant}ms",
        "lock_timeout": f"{20_000 + tenant}ms",
        "search_path": f"tenant_{tenant}, public",
    }
    told = {"options": " ".join("-c " + f"{name}={value}".replace(" ", r"\ ") for name, value in wanted.items())}
    ours = connection.settings_dict
    connection.settings_dict = {**ours, "OPTIONS": {**ours["OPTIONS"], **told}}
    try:
        compare(wanted)
        answer = page(request)
        compare(wanted)
    finally:
        connection.settings_dict = ours
    return answer


def compare(wanted):
    with connection.cursor() as cursor:
        for name, value in wanted.items():
            cursor.execute("select current_setting(%s)", [name])
            (got,) = cursor.fetchone()
            if got != value:
                raise AssertionError(f"{name} is {got!r}, not {value!r}")


urlpatterns = [path("up", up), path("page", page), path("session", session), path("options", options)]
application = get_wsgi_application()

# Django loads these when they are first used; here it is before gunicorn forks,
# where it does, and not once in each worker.
assert connection.vendor == "postgresql"
assert get_resolver().resolve("/page").func is page
