"""Facts about the repository itself that a reader relies on and no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LONGEST = 300
"""Lines of a source file: one subject each."""

LONGER = {
    "providers/interface.py": "all that a driver must offer, on one page",
}

# Patterns that do not match themselves.
REGISTRIES = r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|deb[.]debian[.]org"
MACHINE = r"(?<![A-Za-z0-9_.-])/(?:work|farm)/|(?<![A-Za-z0-9_.-])/tmp/[a-z]|/root/[.a-z]"


def tracked() -> list[Path]:
    """Every file that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text()
        except UnicodeDecodeError:
            continue  # a picture


def sources(*folders: str) -> list[tuple[str, str]]:
    return [(name, text) for name, text in texts() if name.endswith(".py") and name.split("/")[0] in folders]


def places(pattern: str) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def each_test(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def test_no_registry_is_named() -> None:
    """Where packages come from is the business of each machine, so no file names a registry's host."""
    assert places(REGISTRIES) == []


def test_no_path_of_one_machine() -> None:
    """No file holds a path that exists on its author's machine only."""
    assert places(MACHINE) == []


def test_no_unfinished_work() -> None:
    """Nothing is left marked as unfinished, and no check is silenced without its code."""
    words = "TOD[O]|FIXM[E]|XX[X]"
    silenced = r"#\s*type:\s*ignore\s*$|#\s*noqa\s*$"
    assert [place for place in places(rf"\b(?:{words})\b|{silenced}") if not place.startswith("requirements/")] == []


def test_source_files_stay_short() -> None:
    """A source file that grows past 300 lines has more than one subject, unless it is listed here with its reason."""
    long = {name: len(text.splitlines()) for name, text in sources("worker", "providers", "jobs")}
    assert {name: lines for name, lines in long.items() if lines > LONGEST and name not in LONGER} == {}
    assert [name for name in LONGER if long.get(name, 0) <= LONGEST] == [], "no longer long: take it off the list"


def test_every_test_says_in_one_sentence_what_must_hold() -> None:
    """Every test has a docstring of one sentence on one paragraph."""
    bad = []
    for name, text in sources("tests", "providers"):
        for test in each_test(ast.parse(text)):
            said = ast.get_docstring(test) or ""
            if not said.endswith(".") or "\n\n" in said or re.search(r"[a-z0-9)`][.!?]\s+[A-Z]", said):
                bad.append(f"{name}:{test.lineno}: {test.name}: {said[:60]!r}")
    assert bad == []


def test_every_test_is_named_once() -> None:
    """No test is hidden by a later one of the same name."""
    for name, text in sources("tests"):
        for scope in ast.walk(ast.parse(text)):
            if isinstance(scope, ast.Module | ast.ClassDef):
                names = [node.name for node in scope.body if isinstance(node, ast.FunctionDef)]
                assert sorted(names) == sorted(set(names)), name


def test_no_test_sleeps_to_wait_for_an_event() -> None:
    """A test waits for what it expects, with a deadline, and never for time to pass."""
    sleeps = [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, text in sources("tests")
        if "worker.testing" not in text and "tests.unit.fakes" not in text  # there time is virtual: sleeping passes it
        for test in each_test(ast.parse(text))
        for node in ast.walk(test)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep", "sleep")
        and ast.unparse(node.args[0]) != "0"
    ]
    assert sleeps == []


def test_every_make_target_is_described() -> None:
    """`make help` shows every target that a person may call."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    assert set(phony.split()) == {line.split()[1] for line in shown.splitlines()}
    assert {"help", "demo", "test", "check", "fmt", "bench", "simulate", "clean"} <= set(phony.split())


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_hashed(path: Path) -> None:
    """Every locked requirement names one version and the hashes of its files."""
    entries = re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_locked_versions_agree() -> None:
    """Requirement files that share an environment name the same version of a package: all but one do."""
    versions: dict[str, set[str]] = {}
    for path in {*(ROOT / "requirements").glob("*.txt")} - {ROOT / "requirements" / "infra.txt"}:
        for package, version in re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE):
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}
