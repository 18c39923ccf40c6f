"""The systemd units of a booted machine: what systemd makes of them, and what their shell commands do."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.infra.boot_support import (
    CLOUDS,
    command,
    on_this_machine,
    peer,
    render,
    settings_of,
    units,
    values,
    written,
)

WORKER = "cloud-worker.service"
ENGINE = "cloud-worker-engine.service"
HEALTH = "cloud-worker-health.service"

# What the units build on, as far as ordering goes. cloud-final and cloud-init.target are those of Debian and Ubuntu:
# after multi-user.target. Elsewhere they are not, and less can go wrong.
SYSTEM = {
    "sysinit.target": "",
    "basic.target": "[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\n",
    "shutdown.target": "",
    "timers.target": "",
    "system.slice": "",
    "network-online.target": "",
    "multi-user.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\n",
    "cloud-init.target": "[Unit]\nAfter=multi-user.target\nWants=cloud-final.service\n",
    "cloud-final.service": "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/usr/bin/cloud-init\n",
    "docker.service": "[Service]\nExecStart=/usr/bin/dockerd\n",
}
PROGRAMS = ["bin/sh", *(f"usr/bin/{it}" for it in ("cloud-init", "docker", "dockerd", "python3", "systemctl"))]


def installed(root: Path, cloud: str) -> list[Path]:
    """Write a machine's files below a folder, as cloud-init and the system do; return the paths of our units."""
    rendered = render(values(cloud))
    for name, it in written(rendered).items():
        file = root / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(it.text)
    system = root / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    for name, text in SYSTEM.items():
        (system / name).write_text(text or "[Unit]\n")
    for name in PROGRAMS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("#!\n")
        (root / name).chmod(0o755)
    ours = [root / "etc/systemd/system" / name for name in units(rendered)]
    for path in ours:
        for target in settings_of(path.read_text(), "WantedBy"):
            wants = path.parent / f"{target}.wants"
            wants.mkdir(exist_ok=True)
            (wants / path.name).symlink_to(f"../{path.name}")
    return ours


def systemd(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no systemd that runs."""
    program = shutil.which("systemd-analyze")
    on_this_machine(program, "needs systemd-analyze, which comes with systemd: apt-get install systemd")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


def complaints(root: Path, *names: str) -> str:
    """Return what `systemd-analyze verify` has to say of units and all that they pull in."""
    done = systemd(f"--root={root}", "verify", *names)
    assert done.returncode == 0 or done.stderr
    return done.stderr  # of what it ignores, it complains and ends with 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_systemd_accepts_the_units(cloud: str, tmp_path: Path) -> None:
    """Verified as they lie on a machine, the units have no fault, and their boot no circle of waiting."""
    ours = installed(tmp_path, cloud)
    assert complaints(tmp_path, *(path.name for path in ours), "cloud-init.target") == ""


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("WantedBy=cloud-init.target", "WantedBy=multi-user.target", "ordering cycle"),
        ("Type=exec", "Type=container", "Failed to parse"),
        ("RestartSec=5", "RestartSeconds=5", "Unknown key"),
        ("/usr/bin/docker run", "/usr/local/bin/docker run", "not executable"),
    ],
)
def test_systemd_sees_faults(
    old: str, new: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above sees a circle, a wrong value, a misspelt setting and a program that is not there."""
    template = render(values("azure"))
    assert old in template
    monkeypatch.setattr("tests.infra.test_boot_units.render", lambda _: template.replace(old, new))
    ours = installed(tmp_path, "azure")
    found = complaints(tmp_path, *(path.name for path in ours), "cloud-init.target", "multi-user.target")
    assert complaint in found


def test_the_unit_is_confined(tmp_path: Path) -> None:
    """By systemd's own measure, from 0 to 10, the unit that holds the engine's client is exposed by less than 2.5."""
    installed(tmp_path, "azure")
    done = systemd(f"--root={tmp_path}", "--offline=yes", "--threshold=25", "security", WORKER)
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.parametrize("grace", ["1", "120", "7200"])
def test_systemd_waits_longer_than_the_engine(grace: str) -> None:
    """Whatever the stop grace, the engine waits exactly so long for the worker, and systemd half a minute more."""
    unit = units(render(values("azure", stop_grace=grace)))[WORKER]
    assert command(unit, "ExecStop") == ["/usr/bin/docker", "stop", "-t", grace, "cloud-worker"]
    assert f"--stop-timeout={grace}" in command(unit, "ExecStart")
    (limit,) = settings_of(unit, "TimeoutStopSec")
    span = re.search(r"μs: (\d+)", systemd("timespan", limit).stdout)
    assert span is not None
    assert int(span[1]) == (int(grace) + 30) * 1_000_000


def test_it_is_tried_for_ever() -> None:
    """Neither the worker nor the installation of the engine is ever given up."""
    found = units(render(values("aws")))
    assert settings_of(found[WORKER], "Restart") == ["always"]
    assert settings_of(found[ENGINE], "Restart") == ["on-failure"]
    for name in (WORKER, ENGINE):
        assert settings_of(found[name], "StartLimitIntervalSec") == ["0"]
        assert float(settings_of(found[name], "RestartSec")[0]) > 0


def test_the_order_of_boot_and_shutdown() -> None:
    """The worker starts after network, engine and cloud-init, and so ends before engine and network do."""
    unit = units(render(values("aws")))[WORKER]
    after = settings_of(unit, "After")[0].split()
    assert {"network-online.target", "docker.service", ENGINE, "cloud-final.service"} <= set(after)
    wants = settings_of(unit, "Wants")[0].split()
    assert {"network-online.target", "docker.service", ENGINE, "cloud-worker-health.timer"} <= set(wants)


# --- the two units that are a shell's business ---


def shell(unit: str, folder: Path, programs: dict[str, str], changed: dict[str, str]) -> tuple[int, list[str]]:
    """Run a unit's `sh -c` with programs of the test's own; return the exit code and which were called, and how."""
    calls = folder / "calls"
    for name, body in programs.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{calls}\n{body}\n')
        path.chmod(0o755)
    program, options, script = command(unit, "ExecStart")
    for old, new in changed.items():
        assert old in script
        script = script.replace(old, new)
    done = subprocess.run([program, options, script], env={"PATH": f"{folder}:{os.environ['PATH']}"}, check=False)
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


def health(folder: Path, port: int) -> tuple[int, list[str]]:
    """Run the health check against a port, with less patience than it has."""
    on_this_machine(shutil.which("curl"), "needs curl")
    unit = units(render(values("azure", admin_port=str(port))))[HEALTH]
    hasty = {"--retry 5 --retry-delay 10": "--retry 1 --retry-delay 1"}
    return shell(unit, folder, {"systemctl": "exit 0"}, hasty)


def test_a_worker_that_answers_is_left_alone(tmp_path: Path) -> None:
    """A worker whose /livez answers is not restarted."""
    with peer(lambda request: (200 if request.path == "/livez" else 404, {}, b"")) as served:
        assert health(tmp_path, int(served.address.split(":")[1])) == (0, [])


def test_a_worker_that_answers_late_is_left_alone(tmp_path: Path) -> None:
    """One refusal among answers restarts nobody."""
    with peer(lambda _: (503 if len(served.asked) == 1 else 200, {}, b"")) as served:
        assert health(tmp_path, int(served.address.split(":")[1])) == (0, [])
        assert len(served.asked) == 2


@pytest.mark.parametrize("nobody", [True, False], ids=["refused", "failing"])
def test_a_worker_that_stands_still_is_restarted(nobody: bool, tmp_path: Path) -> None:
    """A worker that refuses connections or fails each time is restarted, if by then it still runs."""
    restart = [f"systemctl --no-block try-restart {WORKER}"]
    if nobody:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            assert health(tmp_path, unused.getsockname()[1]) == (0, restart)
    else:
        with peer(lambda _: (500, {}, b"")) as served:
            assert health(tmp_path, int(served.address.split(":")[1])) == (0, restart)


def test_health_is_asked_of_a_running_worker_only() -> None:
    """The check is skipped while the worker's unit starts or stops, so that a drain is not ended by it."""
    found = units(render(values("aws")))
    assert settings_of(found[HEALTH], "ExecCondition") == [f"/usr/bin/systemctl --quiet is-active {WORKER}"]


@pytest.mark.parametrize(
    "has, called",
    [
        ({"docker"}, []),
        ({"dnf"}, ["dnf --assumeyes install docker awscli-2"]),
        (set(), ["apt-get update", "apt-get --yes --option=DPkg::Lock::Timeout=300 install docker.io curl rsyslog"]),
    ],
    ids=["there", "dnf", "apt"],
)
def test_the_engine_is_installed_where_it_is_missing(has: set[str], called: list[str], tmp_path: Path) -> None:
    """Each system's own package manager installs the engine, only where there is none, and it is started."""
    unit = units(render(values("aws")))[ENGINE]
    for name in has:
        (tmp_path / f"has-{name}").write_text("")
        (tmp_path / f"has-{name}").chmod(0o755)
    programs = dict.fromkeys(("dnf", "apt-get", "systemctl"), "exit 0")
    moved = {f"/usr/bin/{name};": f"{tmp_path}/has-{name};" for name in ("docker", "dnf")}
    started = "systemctl enable --now docker.service"
    assert shell(unit, tmp_path, programs, moved) == (0, [*called, started])


def test_an_engine_that_cannot_be_installed_is_a_failure(tmp_path: Path) -> None:
    """A mirror that does not answer fails the unit, so that systemd tries again."""
    unit = units(render(values("azure")))[ENGINE]
    programs = {"apt-get": '[ "$1" = update ]', "systemctl": "exit 0"}
    moved = {f"/usr/bin/{name};": f"{tmp_path}/no-{name};" for name in ("docker", "dnf")}
    code, called = shell(unit, tmp_path, programs, moved)
    assert code != 0
    assert not [call for call in called if call.startswith("systemctl")]
