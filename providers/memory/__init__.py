"""A store in this process's memory: for tests and the simulator. It forgets everything when the process ends."""

from __future__ import annotations

from providers.memory.driver import MemoryDriver
from providers.memory.store import MemoryStore

__all__ = ["MemoryDriver", "MemoryStore"]
