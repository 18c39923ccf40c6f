"""Stores that cannot be trusted, and `worker doctor` on real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.acceptance.support import worker
from tests.naive_s3 import naive_s3

CREDENTIALS: dict[str, Any] = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_REGION": "us-east-1",
}


def test_run_refuses_a_store_that_ignores_conditions(tmp_path: Path) -> None:
    """`worker run` ends with 3 and one line on a server that accepts conditions and ignores them."""
    with naive_s3() as url:
        done = worker(
            tmp_path,
            "run",
            app="three",
            WORKER_STORE="s3://bucket/fleet",
            WORKER_ENDPOINT_URL=url,
            **CREDENTIALS,
        )
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: WORKER_STORE: s3://bucket/fleet ignores conditions: it allowed creating a document")
