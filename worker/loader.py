"""Finds the user's app: `jobs:app` is the attribute `app` of the module `jobs`, seen from the working directory.

Whatever goes wrong here is the user's to mend, so it ends with one line that says what and where, not with a
traceback through this package (the traceback is the cause of the error: `-v` shows it).
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from worker.app import App
from worker.errors import ConfigurationError

_HERE = str(Path(__file__).resolve().parent)


def load_app(reference: str) -> App:
    """Import `module:attribute` with the working directory on the path and return the App it names.

    Raises ConfigurationError: badly written, no such module, module broken (with its error and its place), no such
    attribute, not an App.
    """
    module_name, colon, attribute = reference.partition(":")
    if not colon or not attribute or not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        raise ConfigurationError(f"WORKER_APP={reference!r} must read module:attribute, for example jobs:app")
    module = _import(reference, module_name)
    try:
        found = getattr(module, attribute)
    except AttributeError as exc:
        apps = sorted(name for name, value in vars(module).items() if isinstance(value, App))
        hint = f"it has the app {apps[0]!r}: WORKER_APP={module_name}:{apps[0]}" if apps else "it has no App at all"
        raise ConfigurationError(
            f"WORKER_APP={reference!r}: module {module_name!r} has no attribute {attribute!r}; {hint}"
        ) from exc
    if not isinstance(found, App):
        raise ConfigurationError(
            f"WORKER_APP={reference!r} is of type {type(found).__name__}, not App: write `{attribute} = worker.App()`"
        )
    return found


def _import(reference: str, module_name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as exc:
        if exc.name is not None and (module_name == exc.name or module_name.startswith(f"{exc.name}.")):
            raise ConfigurationError(
                f"WORKER_APP={reference!r}: there is no module {exc.name!r} in {folder}, nor is it installed"
            ) from exc
        raise _broken(reference, module_name, exc) from exc
    except BaseException as exc:  # SystemExit too: a module must not end the worker by being imported
        raise _broken(reference, module_name, exc) from exc


def _broken(reference: str, module_name: str, exc: BaseException) -> ConfigurationError:
    text = traceback.format_exception_only(exc)[-1].strip().splitlines()[0]
    return ConfigurationError(f"WORKER_APP={reference!r}: importing {module_name!r} failed at {_place(exc)}: {text}")


def _place(exc: BaseException) -> str:
    """Return file:line of the user's own code where the error arose."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{_short(exc.filename)}:{exc.lineno}"
    frames = traceback.extract_tb(exc.__traceback__)
    ours = [frame for frame in frames if not frame.filename.startswith(("<frozen", _HERE))]
    theirs = [frame for frame in ours if Path(frame.filename).is_relative_to(os.getcwd())]
    for candidates in (theirs, ours, list(frames)):
        own = [
            frame for frame in candidates if "importlib" not in frame.filename and "site-packages" not in frame.filename
        ]
        if own:
            return f"{_short(own[-1].filename)}:{own[-1].lineno}"
    return "an unknown line"


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(os.getcwd())) if path.is_relative_to(os.getcwd()) else filename
