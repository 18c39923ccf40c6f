"""For tests: fakes of what handlers receive (`fakes`), and a whole fleet in virtual time (`fleet`).

from worker.testing import fake_message

async def test_charge() -> None:
    documents: dict[str, dict[str, Any]] = {}
    await charge(Order(customer="c-1", amount=3), fake_message({}, key="c-1", documents=documents))
    assert documents["c-1"] == {"paid": 3}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.testing.fakes import fake_leadership, fake_message
    from worker.testing.fleet import FleetSim
else:
    _WHERE = {
        "FleetSim": "worker.testing.fleet",
        "fake_leadership": "worker.testing.fakes",
        "fake_message": "worker.testing.fakes",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_WHERE[name]), name)


__all__ = ["FleetSim", "fake_leadership", "fake_message"]
