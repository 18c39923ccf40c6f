"""The app that the benchmarks run: one queue whose handler does nothing."""

from __future__ import annotations

from worker import App

app = App()


@app.queue("noop", partitions=16, key="n")
async def nothing(body: dict[str, int]) -> None:
    """Do nothing: what is left is the runtime's own work."""
