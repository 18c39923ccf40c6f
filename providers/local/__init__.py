"""A store in one SQLite file, for many processes on one machine: for a laptop, and for a server of one's own.

driver.py     opens clients; what a URL names
database.py   one connection: transactions, waiting for the lock, errors in one table
creation.py   the file: checked before it is opened, created by exactly one of many starting processes
mounts.py     which folders lie on another machine
documents.py, queue.py   the tables
"""

from __future__ import annotations

from providers.local.driver import SqliteDriver

__all__ = ["SqliteDriver"]
