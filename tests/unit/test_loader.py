"""Loading the user's app: each mistake is one line that says what and where."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from worker.errors import ConfigurationError
from worker.loader import load_app

_names = (f"loader_sample_{number}" for number in itertools.count())


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh module name, importable from the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return next(_names)


def write(module: str, text: str) -> None:
    Path(f"{module}.py").write_text(text)


def problem(reference: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_app(reference)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_app_is_found(module: str) -> None:
    """An app in the working directory must be loaded by its reference."""
    write(module, "from worker import App\napp = App()\n")
    assert load_app(f"{module}:app").queues == {}


@pytest.mark.parametrize("reference", ["jobs", "jobs:", ":app", "jobs:app:more", "jobs.py:app()", "a b:app"])
def test_a_badly_written_reference(reference: str) -> None:
    """A reference must read module:attribute."""
    assert "must read module:attribute" in problem(reference)


def test_a_missing_module(module: str) -> None:
    """A module that does not exist must be named, with the place where it was looked for."""
    text = problem(f"{module}:app")
    assert f"no module {module!r}" in text
    assert str(Path.cwd()) in text


def test_a_missing_import_within_the_module(module: str) -> None:
    """A module that imports what is missing is broken, not missing."""
    write(module, "import os\nimport no_such_thing_at_all\n")
    text = problem(f"{module}:app")
    assert f"{module}.py:2" in text
    assert "no_such_thing_at_all" in text


@pytest.mark.parametrize(
    "text, place, error",
    [
        ("x = 1\nraise ValueError('boom\\nmore')\n", ":2", "ValueError: boom"),
        ("def broken(:\n", ":1", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", ":2", "SystemExit: 3"),
        (
            "from worker import App\napp = App()\n@app.queue('UPPER')\ndef f(x): ...\n",
            ":3",
            "BadName: queue name 'UPPER'",
        ),
    ],
)
def test_a_broken_module(module: str, text: str, place: str, error: str) -> None:
    """A module that cannot be imported must be named with its error, file and line."""
    write(module, text)
    found = problem(f"{module}:app")
    assert f"{module}.py{place}" in found
    assert error in found


def test_a_missing_attribute_names_the_app_that_there_is(module: str) -> None:
    """When the attribute is missing, the App that the module does have must be named."""
    write(module, "from worker import App\nmine = App()\n")
    assert f"WORKER_APP={module}:mine" in problem(f"{module}:app")


def test_not_an_app(module: str) -> None:
    """Something that is not an App must be refused by its type."""
    write(module, "app = 3\n")
    assert "is of type int, not App" in problem(f"{module}:app")
