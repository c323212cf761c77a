"""How gunicorn serves the app. WORKERS is a class and a number: "gevent 2"."""

import os

worker_class, _count = os.environ["WORKERS"].split()
workers = int(_count)
if worker_class == "sync":
    preload_app = True  # one import for all
bind = "127.0.0.1:" + os.environ["PORT"]
worker_connections = 1000
backlog = 2048
keepalive = 75
graceful_timeout = 20
timeout = 60
loglevel = "warning"
