"""The image as a machine runs it: read-only, without a name, a right or a network, and the worker as its PID 1."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.acceptance.support import BOUNDS, SLACK, acted, acts
from tests.image.containers import USER, Container, once, podman
from tests.waiting import until
from worker import __version__

Start = Callable[[str], Container]

APPS = "tests.acceptance.apps"

LOOK = """\
import json, os, sys
def writable():
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys", "/dev")]
        for path in [folder, *(os.path.join(folder, name) for name in files)]:
            if os.access(path, os.W_OK): yield path
capabilities = [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")]
print(json.dumps({"ids": [os.getuid(), os.getgid(), os.getgroups()], "capabilities": capabilities,
                  "new": [line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNewPrivs")],
                  "interfaces": os.listdir("/sys/class/net"), "writable": list(writable())}))
"""

BYTECODE = """\
import importlib, importlib.util, json, os, sys
for name in ("worker.cli.run", "worker.serving", "worker.standby", "providers.azure", "providers.aws", "boto3",
             "azure.identity", "azure.storage.blob"):
    importlib.import_module(name)
missing, files = [], 0
for module in list(sys.modules.values()):
    source = getattr(getattr(module, "__spec__", None), "origin", None) or ""
    if source.endswith(".py"):
        files += 1
        path = importlib.util.cache_from_source(source)
        flags = open(path, "rb").read(8)[4:] if os.path.exists(path) else None
        if flags != (0b11).to_bytes(4, "little"): missing.append([source, str(flags)])
print(json.dumps({"files": files, "missing": missing}))
"""


def python(image: str, program: str, *options: str) -> str:
    """Run a program with the image's Python, without any rights; return what it printed."""
    done = once(image, "-c", program, options=["--entrypoint=python", *options])
    assert done.returncode == 0, done.stderr
    return done.stdout


def seconds_to(container: Container, event: str) -> float:
    """Return how long after the container's start an event came."""
    started = podman("inspect", "--format={{.State.StartedAt.Unix}}.{{.State.StartedAt.Nanosecond}}", container.name)
    whole, _, part = started.strip().partition(".")
    at = datetime.fromisoformat(container.events(event)[0]["timestamp"]).timestamp()
    return at - int(whole) - int(part) / 1e9


def test_it_says_what_it_is(image: str) -> None:
    """The image's labels name its version and commit, and it asks to be run as nobody and stopped by TERM."""
    found = json.loads(podman("inspect", "--type=image", image))[0]
    labels = found["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", labels["org.opencontainers.image.revision"])
    config = found["Config"]
    assert (config["User"], config["StopSignal"]) == (f"{USER}:{USER}", "SIGTERM")
    assert (config["Entrypoint"], config["Cmd"], config["WorkingDir"]) == (["worker"], ["run"], "/app")
    print(f"\nimage: {found['Size'] / 1e6:.0f} MB unpacked, of {image}")


def test_it_may_do_nothing(image: str) -> None:
    """In the container the worker is no user of this machine, has no capability, no network and no file to write."""
    found = json.loads(python(image, LOOK))
    assert found["ids"][:2] == [USER, USER]
    assert {int(mask, 16) for mask in found["capabilities"]} == {0}
    assert found["new"] == ["1"]
    assert found["interfaces"] == ["lo"]
    assert found["writable"] == []


def test_it_answers_without_any_rights(image: str) -> None:
    """`worker --version` needs nothing, not even a shell."""
    no_shell = "--volume=/dev/null:/bin/sh:ro"
    assert once(image, "-c", "true", options=["--entrypoint=sh"]).returncode == 0
    assert once(image, "-c", "true", options=["--entrypoint=sh", no_shell]).returncode != 0
    times = {"worker --version": 0.0, "an idle Python": 0.0}
    for _ in range(3):
        began = time.monotonic()
        done = once(image, "--version", options=[no_shell])
        between = time.monotonic()
        assert (done.returncode, done.stdout) == (0, f"{__version__}\n"), done.stderr
        python(image, "pass")
        took = {"worker --version": between - began, "an idle Python": time.monotonic() - between}
        times = {what: min(times[what] or seconds, seconds) for what, seconds in took.items()}
    print("\nwith podman's own time, best of three:", *(f"{what} {took:.2f} s;" for what, took in times.items()))


def test_nothing_is_compiled_at_a_start(image: str) -> None:
    """All Python that a worker imports is there as bytecode that holds by its source's hash, not by a date."""
    found = json.loads(python(image, BYTECODE))
    assert found["files"] > 500
    assert found["missing"] == []


def test_stop_under_load(start: Start, tmp_path: Path) -> None:
    """A worker with hundreds of messages before it ends within the drain's bound, with 0, and loses none of them."""
    data, total = tmp_path / "data", 600
    container = start(f"{APPS}.plain")
    container.hear("partition.granted", times=8)
    print(f"\nstart of the container to leader: {seconds_to(container, 'leader.elected'):.2f} s, to a member:", end=" ")
    print(f"{seconds_to(container, 'member.joined'):.2f} s")
    assert container.healthy()
    lines = "".join(json.dumps({"number": number}) + "\n" for number in range(total))
    container.worker("send", "items", "--file", "-", "--format", "jsonl", stdin=lines)
    acted(data, "done", times=50)
    container.stop()
    assert container.code(BOUNDS["drain"].worst + SLACK) == 0
    took = time.monotonic() - container.stopping
    begun, done = ({one["number"] for one in acts(data, what)} for what in ("begun", "done"))
    print(f"TERM to exit code 0: {took:.2f} s, {len(done)} of {total} messages done, {len(begun - done)} cut off")
    assert took <= BOUNDS["drain"].worst
    assert len(done) < total, "no load was left at the stop"
    again = start(f"{APPS}.plain")
    until(lambda: {one["number"] for one in acts(data, "done")} == set(range(total)), 120, "all messages done")
    again.stop()
    assert again.code() == 0


def test_dead_mans_switch(start: Start, tmp_path: Path) -> None:
    """A leader job that holds the GIL, and its child, are ended under PID 1, which stays and starts the worker anew."""
    data = tmp_path / "data"
    container = start(f"{APPS}.stuck")
    term = container.hear("leader.elected")["term"]
    first = container.first
    (data / "hold-as-leader-solo").touch()
    stuck = acted(data, "stuck")
    killed = container.hear("instance.killed", within=BOUNDS["failover"].worst + SLACK)
    assert (killed["why"], killed["pid"]) == (f"trust ran out: leader term {term}", stuck["pid"])
    assert container.hear("leader.elected", times=2)["term"] > term
    left = container.processes(first)
    assert not {stuck["pid"], stuck["child"]} & left.keys()
    assert left[1].outside == first
    assert [one for one in left.values() if one.status == "Z"] == []
    last = acts(data, "child", pid=stuck["child"])[-1]["at"]
    print(f"\nGIL held to the child's last act: {last - stuck['at']:.2f} s; PID 1 stayed {left[1].command.split()[2]}")
    container.stop()
    assert container.code() == 0


def test_orphans_are_reaped(start: Start, tmp_path: Path) -> None:
    """A process whose parent has ended becomes a child of the worker's PID 1, and leaves no zombie when it ends."""
    data = tmp_path / "data"
    container = start("tests.image.orphans")
    container.hear("partition.granted")
    first = container.first
    container.worker("send", "orphans", "1")
    orphan = acted(data, "orphaned")["pid"]
    assert container.processes(first)[orphan].parent == 1
    (data / "end").touch()
    until(lambda: orphan not in container.processes(first), 10, "the orphan reaped")
    assert [one for one in container.processes(first).values() if one.status == "Z"] == []
    container.stop()
    assert container.code() == 0


def test_what_is_left_behind_ends_with_it(start: Start, tmp_path: Path) -> None:
    """An orphan that would never end does not hold up the container's orderly end."""
    container = start("tests.image.orphans")
    container.hear("partition.granted")
    container.worker("send", "orphans", "1")
    orphan = acted(tmp_path / "data", "orphaned")["pid"]
    outside = container.processes(container.first)[orphan].outside
    container.stop()
    assert container.code(BOUNDS["drain"].worst) == 0
    assert not Path(f"/proc/{outside}").exists()


@pytest.mark.slow
def test_demo_on_loopback(image: str) -> None:
    """The whole demo, three instances killed, stopped and woken, runs in one container on a temporary file system."""
    done = once(image, "-m", "jobs.demo", options=["--entrypoint=python", "--tmpfs=/tmp:mode=1777"])
    assert done.returncode == 0, done.stdout + done.stderr
    print("\n" + "\n".join(done.stdout.splitlines()[-4:]))


def test_an_app_is_one_layer_more(image: str, tmp_path: Path) -> None:
    """The Dockerfile that docs/container.md gives for an app of one's own makes an image that runs it."""
    root = Path(__file__).resolve().parents[2]
    (recipe,) = re.findall(r"```dockerfile\n(.*?)```", (root / "docs" / "container.md").read_text(), re.DOTALL)
    (shop,) = re.findall(r"```python\n(# shop\.py\n.*?)```", (root / "README.md").read_text(), re.DOTALL)
    (tmp_path / "Dockerfile").write_text(recipe.replace("FROM cloud-worker", f"FROM {image}"))
    (tmp_path / "shop.py").write_text(shop)
    tag = f"{image}-shop"
    build = ["buildah", "bud", "--format=docker", "--pull-never", f"--tag={tag}", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    container = Container(tag, tmp_path)
    try:
        container.hear("partition.granted", times=16)
        container.stop()
        assert container.code() == 0
    finally:
        container.remove()
        podman("image", "rm", tag)
