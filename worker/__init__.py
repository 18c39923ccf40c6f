"""Cloud Worker: identical workers, one leader, no coordinator but the storage you already have.

The names below are imported when they are first used: `worker --help` should not pay for what it does not show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.app import App, BadApp
    from worker.context import Leadership, Message, NotLeader
    from worker.errors import Fenced
else:
    _WHERE = {
        "App": "worker.app",
        "BadApp": "worker.app",
        "Fenced": "worker.errors",
        "Leadership": "worker.context",
        "Message": "worker.context",
        "NotLeader": "worker.context",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_WHERE[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *_WHERE})


__version__ = "0.1.0"
__all__ = ["App", "BadApp", "Fenced", "Leadership", "Message", "NotLeader", "__version__"]
