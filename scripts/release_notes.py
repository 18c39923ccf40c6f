"""Print the release notes of a tag, or refuse it: `python3 scripts/release_notes.py v1.2.3`.

A tag, worker/__init__.py, .template-version and CHANGELOG.md must name one version, and the changelog its date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def notes(tag: str, root: Path) -> str:
    """Return the changelog's section on a tag; ValueError says what does not fit together."""
    version = tag.removeprefix("v")
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        raise ValueError(f"a tag is v and three numbers, not {tag}")
    found = re.search(r'^__version__ = "(.*)"$', (root / "worker" / "__init__.py").read_text(), re.MULTILINE)
    for where, said in {
        "worker/__init__.py": found and found.group(1),
        ".template-version": (root / ".template-version").read_text().strip(),
    }.items():
        if said != version:
            raise ValueError(f"{where} says {said}, the tag {version}")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)"
    section = re.search(heading, (root / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    if not section or not section.group(1).strip():
        raise ValueError(f"CHANGELOG.md has no section `## [{version}] - DATE`, or nothing in it")
    return section.group(1).strip()


if __name__ == "__main__":
    try:
        print(notes(sys.argv[1], ROOT))
    except ValueError as exc:
        sys.exit(f"not to be released: {exc}")
