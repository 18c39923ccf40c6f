"""A machine that boots: systemd as process 1 of its own namespaces, with the units of infra/boot and little else.

Nothing of it is left when it has ended: its processes end with its process 1, its mounts with its last process, and its
control group is removed. It needs to be root and to be allowed namespaces; nothing on the real machine is changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.infra.boot_support import on_this_machine, render, units, values, written
from tests.infra.engine import Engine, listening
from tests.waiting import until

SYSTEMD = Path("/lib/systemd/systemd")
ISOLATED = ["unshare", "--cgroup", "--mount", "--pid", "--fork", "--uts", "--ipc", "--kill-child", "--mount-proc"]
PATIENCE = 20  # seconds for what systemd does in one or two

# What the units build on; nothing of it is the real machine's. As on Debian and Ubuntu: cloud-final comes after
# multi-user.target.
SYSTEM = {
    "sysinit.target": "[Unit]\n",
    "timers.target": "[Unit]\n",
    "basic.target": "[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\n",
    "network-online.target": "[Unit]\n",
    "multi-user.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\n",
    "cloud-final.service": "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/true\n"
    "RemainAfterExit=yes\n",
    "cloud-init.target": "[Unit]\nAfter=multi-user.target\nWants=multi-user.target cloud-final.service\n",
    "docker.service": "[Service]\nExecStart=/bin/sleep infinity\n",
}

# What runs inside: mounts of its own over all that could be written to, the test's files among them, then process 1.
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/lock
cp -r {folder}/files {folder}/units /run/
touch /run/docker.sock
mount --bind {socket} /run/docker.sock
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
mount -o remount,bind,ro /
exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH=/run/units {systemd} --system --unit=cloud-init.target \
    --log-target=null --show-status=0
"""


@dataclass
class Machine:
    """A machine that runs."""

    engine: Engine
    enter: list[str]

    def systemctl(self, *arguments: str) -> str:
        """Give a command to the machine's systemd and return what it prints."""
        done = subprocess.run(
            [*self.enter, "systemctl", *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        return done.stdout.strip()

    def in_background(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Give a command that takes its time."""
        return subprocess.Popen([*self.enter, "systemctl", *arguments])

    def state(self, unit: str = "cloud-worker.service") -> str:
        """Return a unit's state, such as active or deactivating."""
        return self.systemctl("show", "--property=ActiveState", "--value", unit)


def cgroups() -> Path | None:
    """Return where the unified hierarchy of control groups is mounted, if it is."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    return None


def possible() -> bool:
    """Say whether a machine can boot here."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not all(map(shutil.which, ("unshare", "nsenter", "docker"))):
        return False
    tried = [
        *ISOLATED,
        "sh",
        "-c",
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -o remount,bind,ro /",
    ]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def prepare(folder: Path, cloud: str, metadata: str, **filled: str) -> None:
    """Write what cloud-init writes, where the machine finds it; change but paths, and what would only take long."""
    rendered = render(values(cloud, **filled))
    moved = {
        "/usr/bin/docker": str(shutil.which("docker")),
        "/etc/cloud-worker/": "/run/files/",
        "/usr/local/lib/cloud-worker/": "/run/files/",
        f"--login={cloud}": f"--login={cloud} --metadata={metadata}",
        "RestartSec=5": "RestartSec=500ms",
        "OnCalendar=*:*:0/20": "OnCalendar=*:*:*",
        "--retry 5 --retry-delay 10": "--retry 1 --retry-delay 1",
    }
    (folder / "units").mkdir()
    (folder / "files").mkdir()
    ours = units(rendered)
    assert [old for old in moved if not any(old in text for text in ours.values())] == []
    for name, text in ours.items():
        changed = reduce(lambda so_far, old: so_far.replace(old, moved[old]), moved, text)
        (folder / "units" / name).write_text(changed)
    for name, text in SYSTEM.items():
        (folder / "units" / name).write_text(text)
    wants = folder / "units" / "cloud-init.target.wants"
    wants.mkdir()
    (wants / "cloud-worker.service").symlink_to("../cloud-worker.service")
    for name, it in written(rendered).items():
        if name.endswith((".env", ".py")):
            (folder / "files" / Path(name).name).write_text(it.text)


@contextmanager
def booted(folder: Path, metadata: str, **filled: str) -> Iterator[Machine]:
    """Boot a machine, and end it when the block ends. `metadata` is the URL of a metadata service of the test's own."""
    hierarchy = cgroups()
    on_this_machine(hierarchy and possible(), "needs root, namespaces, cgroup2, systemd and the program docker")
    assert hierarchy is not None
    prepare(folder, "azure", metadata, **filled)
    with TemporaryDirectory() as short:  # the path of a socket may not be long
        socket = Path(short, "docker.sock")
        inside = BOOT.format(folder=folder, socket=socket, systemd=SYSTEMD)
        with listening(socket) as engine, isolated(inside, hierarchy, folder / "boot.log") as enter:
            yield Machine(engine, enter)


@contextmanager
def isolated(script: str, hierarchy: Path, output: Path) -> Iterator[list[str]]:
    """Run a script that becomes systemd, in namespaces and a control group of its own; give the command to go there."""
    group = hierarchy / f"cloud-worker-test-{os.getpid()}"
    group.mkdir()
    joined = f'echo $$ >{group}/cgroup.procs && exec "$@"'
    with output.open("wb") as log:
        outer = subprocess.Popen(["sh", "-c", joined, "sh", *ISOLATED, "sh", "-c", script], stdout=log, stderr=log)
    try:
        first = until(lambda: process_one(outer.pid), PATIENCE, f"systemd is process 1 of the namespaces: see {output}")
        yield ["nsenter", f"--target={first.pid}", "--mount", "--pid", "--cgroup", "--uts", "--ipc"]
    finally:
        for child in psutil.Process(outer.pid).children():
            child.kill()  # process 1: all others of its namespace end with it
        outer.wait(PATIENCE)
        until(lambda: removed(group), PATIENCE, "the control group is empty")


def process_one(outer: int) -> psutil.Process | None:
    """Return the child of `unshare` once it has become systemd."""
    for child in psutil.Process(outer).children():
        if child.name() == "systemd":
            return child
    return None


def removed(group: Path) -> bool:
    """Remove a control group and those below, the lowest first; say whether all is gone."""
    try:
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()
    except FileNotFoundError:
        return not group.exists()
    except OSError:
        return False
    return True
