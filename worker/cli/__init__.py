"""The command line. `worker.cli:main` is the console script."""

from __future__ import annotations

from worker.cli.root import cli, main

__all__ = ["cli", "main"]
