"""A store that is emulated: for a command, or for a developer's own shells until Ctrl-C.

    python scripts/emulated.py azurite|s3 COMMAND …    run a command on it; its exit code is passed on
    python scripts/emulated.py azurite s3              start them, print what to paste into a shell, and wait

`azurite` is Azure Blob and Queue Storage; `s3` is S3 on SeaweedFS with SQS on moto, and a lease of 5 seconds, which
Azure does not take. Everything they hold is gone when they end. Installed by `make .venv/.test`.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import emulators

CONTAINER = "fleet"


@contextmanager
def azurite() -> Iterator[dict[str, str]]:
    """Run Azurite with a container; return the settings that lead there."""
    with emulators.azurite() as server:
        server.create_container(CONTAINER)
        yield {
            "WORKER_STORE": f"azure://{server.account}/{CONTAINER}",
            "WORKER_AZURE_CONNECTION_STRING": server.connection_string,
        }


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """Run SeaweedFS, with its bucket, and moto; return the settings that lead there."""
    with emulators.seaweedfs() as buckets, emulators.moto() as queues:
        yield {
            "WORKER_STORE": f"s3://{emulators.BUCKET}/fleet",
            "WORKER_ENDPOINT_URL": buckets.url,
            "WORKER_QUEUE_ENDPOINT_URL": queues.url,
            "WORKER_AWS_REGION": buckets.region,
            "WORKER_LEASE": "5",
            "AWS_ACCESS_KEY_ID": buckets.access_key,
            "AWS_SECRET_ACCESS_KEY": buckets.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


STORES: dict[str, Callable[[], AbstractContextManager[dict[str, str]]]] = {"azurite": azurite, "s3": s3}


def run(store: str, command: list[str]) -> int:
    """Run a command on a store that lives as long as it does."""
    with STORES[store]() as settings:
        return subprocess.run(command, env={**os.environ, **settings}, check=False).returncode


def serve(names: list[str]) -> int:
    """Start stores, say how to use them, and wait to be told to stop."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with ExitStack() as stack:
        for name in names:
            settings = stack.enter_context(STORES[name]())
            print(f"\n# {name}: paste this into a shell, then `worker run`, `worker doctor`, …")
            print("\n".join(f"export {variable}={shlex.quote(value)}" for variable, value in settings.items()))
        print("\n# They run until Ctrl-C, and forget everything then.", flush=True)
        over.wait()
    return 0


def main(arguments: list[str]) -> int:
    """Do what the command line says; 2 when it says nothing that can be done."""
    if (absent := emulators.missing()) is not None:
        print(f"error: {absent}", file=sys.stderr)
        return 1
    if not arguments or arguments[0] not in STORES:
        print(f"usage: emulated.py {'|'.join(STORES)} [COMMAND …]", file=sys.stderr)
        return 2
    if all(argument in STORES for argument in arguments):
        return serve(arguments)
    return run(arguments[0], arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
