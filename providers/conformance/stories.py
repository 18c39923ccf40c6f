"""What the suites over a portable provider share: a provider over the harness's driver, with or without faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from providers.conformance.faults import Faults, FaultyDriver
from providers.conformance.harness import Harness
from providers.interface import Call
from providers.provider import Provider

T = TypeVar("T")


def tell(
    harness: Harness,
    story: Callable[[Provider], Awaitable[T]],
    faults: Faults | None = None,
    *,
    total: float | None = None,
    on_call: Callable[[Call], None] | None = None,
) -> T:
    """Run a story on an event loop of its own, with a provider that is closed afterwards."""

    async def main() -> T:
        driver = harness.driver()
        provider = Provider(
            driver if faults is None else FaultyDriver(driver, faults),
            total=harness.total if total is None else total,
            on_call=on_call,
        )
        try:
            await provider.prepare()  # as every program does: what an SDK must build costs no request its time
            return await story(provider)
        finally:
            if faults is not None:
                faults.release()
            await provider.close()

    return asyncio.run(main())
