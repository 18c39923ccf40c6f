"""One container of the image, with no rights at all, seen from the machine that runs it: podman, no daemon."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
USER = 10001

RIGHTS = (
    "--read-only",
    "--read-only-tmpfs=false",  # not even the folders that podman would make writable
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--pull=never",
)
"""What the container may do: nothing. There is a loopback interface, and nobody at its other end."""

HERE = (
    "--no-healthcheck",  # podman would have systemd ask; the tests ask themselves
    "--ulimit=nofile=1024:1024",  # podman's own defaults are more than it may set inside another sandbox
    "--ulimit=nproc=1024:1024",
)
"""What makes podman run on more machines, and is of no importance to the worker."""

PODMAN = ("podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=none")
"""Without systemd, and with the runtime that copes with either generation of control groups."""


def podman(*arguments: str, stdin: str | None = None) -> str:
    """Run a podman command that must succeed; return what it printed."""
    done = subprocess.run([*PODMAN, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def once(image: str, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a container to its end, without any rights; return how it ended."""
    command = [*PODMAN, "run", "--rm", *RIGHTS, *HERE, *options, image, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@dataclass(frozen=True)
class Process:
    """One process of a container."""

    inside: int  # its pid, as the container has it
    parent: int  # likewise; 0 for PID 1
    outside: int
    status: str
    command: str


class Container:
    """A running `worker run`, its store in a folder of the machine that is the only thing it can write to."""

    def __init__(self, image: str, folder: Path, **env: str) -> None:
        self.name = f"cloud-worker-test-{secrets.token_hex(4)}"
        self.log = folder / f"{self.name}.log"
        self.stopping = 0.0  # when it was asked to stop
        data = folder / "data"
        if not data.exists():
            data.mkdir()
            os.chown(data, USER, USER)
        settings = {
            "ACTS_FOLDER": "/data",
            "WORKER_INSTANCE": "solo",
            "WORKER_STORE": "sqlite:////data/store.db",
            **env,
        }
        options = [f"--env={name}={value}" for name, value in settings.items()]
        options += [f"--volume={data}:/data", f"--volume={ROOT / 'tests'}:/app/tests:ro"]
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self._podman = subprocess.Popen(
                [*PODMAN, "run", "--name", self.name, *RIGHTS, *HERE, *options, image],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    # --- what it says ---

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return its events of one name."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{") and f'"{name}"' in line]
        return [fields for fields in map(json.loads, lines) if fields["event"] == name]

    def hear(self, name: str, *, times: int = 1, within: float = 30.0) -> dict[str, Any]:
        """Wait until an event has come so often; return the latest."""
        until(lambda: len(self.events(name)) >= times or self._ended(), within, f"{name} {times} times: {self.log}")
        return self.events(name)[times - 1]

    def _ended(self) -> bool:
        assert self._podman.poll() is None, f"ended with {self._podman.returncode}: {self.log.read_text()[-2000:]}"
        return False

    # --- what is done to it ---

    def worker(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a `worker` command in the container, as an operator would; return what it printed."""
        return podman("exec", "--interactive", self.name, "worker", *arguments, stdin=stdin)

    def healthy(self) -> bool:
        """Say whether the image's own health check passes."""
        kind, *command = json.loads(podman("inspect", "--type=image", self._image))[0]["Healthcheck"]["Test"]
        assert kind == "CMD"
        return subprocess.run([*PODMAN, "exec", self.name, *command], capture_output=True, check=False).returncode == 0

    @property
    def _image(self) -> str:
        return podman("inspect", "--format={{.Image}}", self.name).strip()

    def stop(self) -> None:
        """Send what every orchestrator sends first."""
        self.stopping = time.monotonic()
        podman("kill", "--signal=TERM", self.name)

    def code(self, within: float = 60.0) -> int:
        """Wait for the end; return the exit code."""
        return self._podman.wait(within)

    def remove(self) -> None:
        """Leave nothing behind."""
        subprocess.run([*PODMAN, "rm", "--force", "--time=0", self.name], capture_output=True, check=False)
        self._podman.wait(30)

    # --- what is in it ---

    @property
    def first(self) -> int:
        """The pid of its PID 1, as this machine has it."""
        return int(podman("inspect", "--format={{.State.Pid}}", self.name))

    def processes(self, first: int) -> dict[int, Process]:
        """Return all its processes, those that have ended and were not reaped too, by their pid inside."""
        found = {}
        space = os.readlink(f"/proc/{first}/ns/pid")
        for process in psutil.process_iter():
            one = _look(process, space)
            if one is not None:
                found[one.inside] = one
        return found


def _look(process: psutil.Process, space: str) -> Process | None:
    """Return a process if it lives, or has just ended, in a space of pids."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        pids = status["NSpid"].split()
        if len(pids) < 2 or os.readlink(f"/proc/{process.pid}/ns/pid") != space:
            return None
        parent = Path(f"/proc/{status['PPid']}/status").read_text()
        above = next(line.split()[1:] for line in parent.splitlines() if line.startswith("NSpid:"))
        return Process(
            inside=int(pids[-1]),
            parent=int(above[-1]) if len(above) == len(pids) else 0,
            outside=process.pid,
            status=status["State"].split()[0],
            command=Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " "),
        )
    except (OSError, psutil.NoSuchProcess):
        return None  # gone while being looked at


__all__ = ["HERE", "PODMAN", "RIGHTS", "ROOT", "USER", "Container", "Process", "once", "podman"]
