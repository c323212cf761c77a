"""Does the tasks of the bench with one driver, named by the first argument.

A driver is a module with a class Client: connect() makes its connection, and
it has a method for each task, or a string that says why there is none.
"""

import asyncio
import importlib
import inspect
import os
import sys
import threading
import traceback

TASKS = ["query", "prepared", "transaction", "batch", "batch-error", "error", "copy", "cancel", "large", "settings"]
PATIENCE = 120  # seconds that one task may take


def target():
    """Returns where to connect to, in libpq's words."""
    env = os.environ
    words = {
        "host": env["DRIVERS_HOST"],
        "port": env["DRIVERS_PORT"],
        "user": env["DRIVERS_USER"],
        "password": env["DRIVERS_PASSWORD"],
        "dbname": env["DRIVERS_DATABASE"],
        "sslmode": "disable",
    }
    if env["DRIVERS_CA"]:
        words.update(sslmode="verify-full", sslrootcert=env["DRIVERS_CA"])
    return words


def check(got, want):
    """Fails unless got is want."""
    if got != want:
        raise AssertionError(f"got {str(got)[:300]}, want {str(want)[:300]}")


def repeat_until(done, act, every=0.3):
    """Calls act from time to time until the event done is set.

    A cancel request that arrives before its query does is lost, so one is not
    enough; the first comes after a moment in which the query can begin.
    """
    while not done.wait(every):
        act()


def report(task, errors, clients):
    if errors:
        reason = " / ".join("".join(errors[0]).split("\n"))
        print(task, "fail", f"{len(errors)} of {clients} clients: {reason}", flush=True)
    else:
        print(task, "pass", flush=True)


def describe(client, error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{client.tag}: {type(error).__name__}: {str(error)[:400]} ({os.path.basename(last.filename)}:{last.lineno})"


def methods(clients):
    """Yields each task that the driver has, and reports those it has not."""
    for task in TASKS:
        method = getattr(clients[0], task.replace("-", "_"))
        if isinstance(method, str):
            print(task, "none", method, flush=True)
        else:
            yield task


def run_threads(clients):
    failed = set()
    for task in methods(clients):
        errors = []

        def do(client):
            try:
                if client in failed:
                    client.reconnect()
                    failed.discard(client)
                getattr(client, task.replace("-", "_"))()
            except Exception as error:
                errors.append(describe(client, error))
                failed.add(client)

        threads = [threading.Thread(target=do, args=(client,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        for thread, client in zip(threads, clients):
            thread.join(PATIENCE)
            if thread.is_alive():
                errors.append(f"{client.tag}: not done after {PATIENCE} s")
        report(task, errors, len(clients))
        if any(thread.is_alive() for thread in threads):
            os._exit(1)
    for client in clients:
        client.close()


async def run_tasks(clients):
    failed = set()
    for task in methods(clients):
        errors = []

        async def do(client):
            try:
                async with asyncio.timeout(PATIENCE):
                    if client in failed:
                        await client.reconnect()
                        failed.discard(client)
                    await getattr(client, task.replace("-", "_"))()
            except Exception as error:
                errors.append(describe(client, error))
                failed.add(client)

        await asyncio.gather(*map(do, clients))
        report(task, errors, len(clients))
    for client in clients:
        await client.close()


async def run_async(clients):
    await asyncio.gather(*(client.connect() for client in clients))
    await run_tasks(clients)


def main():
    name = sys.argv[1]
    driver = importlib.import_module("use_" + name)
    clients = [driver.Client(f"{name}-{i}") for i in range(int(os.environ["DRIVERS_CLIENTS"]))]
    if inspect.iscoroutinefunction(driver.Client.connect):
        asyncio.run(run_async(clients))
        return
    threads = [threading.Thread(target=client.connect) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run_threads(clients)


if __name__ == "__main__":
    main()
