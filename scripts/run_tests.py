"""Run all tests in three phases and close with one line: `N passed, N failed, N skipped`.

What runs on values or virtual time runs in parallel. The acceptance tests start real processes that live by real
clocks. Those that measure, or freeze, or hold up a processor run alone and one at a time: a busy neighbour would be a
fault that no test has asked for. Those that only wait for what must come in the end run two files at a time, the
longest first.
Arguments go to pytest, and a path among them replaces the phases.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PATIENT = [
    f"tests/acceptance/test_{name}.py"
    for name in (
        "cloud_outage",
        "admin_port",
        "bad_input",
        "cloud_garbage",
        "cloud_mistakes",
        "doctor",
        "exec",
        "garbage",
        "host",
        "poison",
        "startup",
        "upgrade",
    )
]
PHASES = {
    "fast": ["-n", "2", "--dist", "worksteal", "tests/unit", "tests/conformance", "tests/simulation", "tests/infra"],
    "side by side": ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", *PATIENT],
    "alone": ["tests/acceptance", "tests/image", *(f"--ignore={path}" for path in PATIENT)],
}
NO_TESTS = 5  # pytest's exit code when its arguments select nothing


def run(arguments: list[str], tally: Counter[str]) -> int:
    """Run pytest once, add its results to `tally`, and return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *arguments]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if report.exists():
            for suite in ElementTree.parse(report).getroot().iter("testsuite"):
                for outcome in ("tests", "failures", "errors", "skipped"):
                    tally[outcome] += int(suite.get(outcome, "0"))
        return code


def main(arguments: list[str]) -> int:
    """Run the phases, all of them even when one fails, and return 0 only if tests ran and none failed."""
    named = any(not argument.startswith("-") and Path(argument.split("::")[0]).exists() for argument in arguments)
    phases = {"named": []} if named else PHASES
    tally: Counter[str] = Counter()
    codes = []
    for title, paths in phases.items():
        print(f"\n== tests: {title}", flush=True)
        codes.append(run([*paths, *arguments], tally))
    failed = tally["failures"] + tally["errors"]
    passed = tally["tests"] - failed - tally["skipped"]
    print(f"\n{passed} passed, {failed} failed, {tally['skipped']} skipped", flush=True)
    green = all(code in (0, NO_TESTS) for code in codes) and passed > 0 and failed == 0
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
