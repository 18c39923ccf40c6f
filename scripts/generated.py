"""Write the files that are generated from the code, or with `--check` say which of them are stale.

    .env.example      every setting, as `worker config env` prints it
    docs/settings.md  every setting with its meaning, as `worker config docs` prints it
    docs/design.md    the election's state machine, drawn from its transition table, between two markers

`make generate` writes them, `make check` refuses a stale one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- generated: election -->", "<!-- end generated -->"


def command(*arguments: str) -> str:
    """Return what `worker ARGUMENTS` prints, whatever settings the caller's environment holds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    script = "import sys; from worker.cli import main; sys.argv[0] = 'worker'; sys.exit(main())"
    full = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(full, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def env_example(_: str) -> str:
    return command("config", "env")


def settings_page(_: str) -> str:
    return command("config", "docs")


def design_page(page: str) -> str:
    """Replace what stands between the markers. Raises ValueError when the page has lost one."""
    from worker.core.election import diagram

    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/design.md needs the lines {BEGIN!r} and {END!r} around the election's drawing")
    return f"{before}{BEGIN}\n```mermaid\n{diagram().strip()}\n```\n{END}{after}"


FILES: dict[str, Callable[[str], str]] = {
    ".env.example": env_example,
    "docs/settings.md": settings_page,
    "docs/design.md": design_page,
}


def main(check: bool) -> int:
    """Return 0 if every file is as generated, or has been written."""
    stale = []
    for name, generate in FILES.items():
        path = ROOT / name
        present = path.read_text() if path.exists() else ""
        wanted = generate(present)
        if wanted == present:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted)
    if check and stale:
        print(f"not as the code would generate them: {', '.join(stale)}. Run `make generate`.", file=sys.stderr)
        return 1
    print(f"generated files: {'all up to date' if not stale else 'wrote ' + ', '.join(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
