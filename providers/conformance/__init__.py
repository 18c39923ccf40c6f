"""The suite that every driver must pass, for drivers of this project and of anybody else.

A driver's test module gives a harness and takes over the classes (docs/writing-a-provider.md has it in full):

    from providers.conformance import DocumentsSuite, Harness, LeaseSuite, PortableSuite, QueueSuite

    class MyHarness(Harness):
        def driver(self) -> Driver:
            return MyDriver(self.address)

    @pytest.fixture
    def harness(...) -> Iterator[Harness]: ...

    class TestDocuments(DocumentsSuite): ...

The suite needs pytest. It asserts what `providers.interface` promises, and nothing about how a driver does it.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "providers.conformance.answers",
    "providers.conformance.documents",
    "providers.conformance.lease",
    "providers.conformance.order",
    "providers.conformance.portable",
    "providers.conformance.queue",
    "providers.conformance.terms",
)

from providers.conformance.answers import AnswersSuite  # noqa: E402 - after the rewriting is registered
from providers.conformance.documents import DocumentsSuite  # noqa: E402 - as above
from providers.conformance.faults import Fault, Faults, FaultyDriver, Held  # noqa: E402 - as above
from providers.conformance.harness import Harness  # noqa: E402 - as above
from providers.conformance.lease import LeaseSuite  # noqa: E402 - as above
from providers.conformance.order import OrderSuite  # noqa: E402 - as above
from providers.conformance.portable import PortableSuite  # noqa: E402 - as above
from providers.conformance.queue import QueueSuite  # noqa: E402 - as above
from providers.conformance.terms import TermsSuite  # noqa: E402 - as above

__all__ = [
    "AnswersSuite",
    "DocumentsSuite",
    "Fault",
    "Faults",
    "FaultyDriver",
    "Harness",
    "Held",
    "LeaseSuite",
    "OrderSuite",
    "PortableSuite",
    "QueueSuite",
    "TermsSuite",
]
