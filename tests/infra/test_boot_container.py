"""The container that a booted machine runs, as Docker's own client understands the unit's command lines."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from tests.infra.boot_support import (
    AWKWARD,
    CLOUDS,
    Answer,
    Request,
    awslogs,
    command,
    environment,
    on_this_machine,
    peer,
    render,
    settings_of,
    units,
    values,
    written,
)

WORKER = "cloud-worker.service"


def engine(request: Request) -> Answer:
    """Answer as an engine that refuses to make a container, so that nothing needs to be run."""
    if request.path.endswith("/_ping"):
        return 200, {"API-Version": "1.43", "Ostype": "linux"}, b"OK"
    return 409, {"Content-Type": "application/json"}, b'{"message": "seen enough"}'


def sent(words: list[str], folder: Path, rendered: str) -> Request:
    """Run one of the unit's commands with Docker's client against an engine that only listens; return its request."""
    program = shutil.which("docker")
    on_this_machine(program, "needs the program docker, but no engine: https://docs.docker.com/engine/install/binaries")
    copy = folder / "worker.env"
    copy.write_text(written(rendered)["/etc/cloud-worker/worker.env"].text)
    words = [str(program), *(word.replace("/etc/cloud-worker/worker.env", str(copy)) for word in words[1:])]
    with peer(engine) as served:
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_HOST": f"tcp://{served.address}"}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert "seen enough" in done.stderr, done.stderr
        (request,) = [it for it in served.asked if not it.path.endswith("/_ping")]
    return request


def container(folder: Path, cloud: str, **other: str) -> dict[str, Any]:
    """Return the container that the unit has Docker's client ask for."""
    rendered = render(values(cloud, **other))
    request = sent(command(units(rendered)[WORKER], "ExecStart"), folder, rendered)
    assert request.method == "POST"
    assert "/containers/create?" in request.path
    asked: dict[str, Any] = json.loads(request.body)
    assert request.path.endswith("?name=cloud-worker")
    return asked


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_container_is_confined(cloud: str, tmp_path: Path) -> None:
    """The container can write to a small /tmp only, holds no capability and gains none, and has its limits."""
    asked = container(tmp_path, cloud)
    host = asked["HostConfig"]
    assert asked["Image"] == values(cloud)["image"]
    assert asked["Cmd"] in (None, [])
    assert asked["User"] == ""  # the image's own
    assert not host["Privileged"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host["Binds"]
    assert host["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,nodev,size=64m"}
    assert host["PidsLimit"] == 4096
    assert host["CgroupParent"] == "cloudworker.slice"
    assert host["NetworkMode"] == "host"
    assert host["AutoRemove"] is True
    assert host["RestartPolicy"]["Name"] in ("", "no")  # systemd's business
    assert asked["StopTimeout"] == 120
    assert asked["Healthcheck"]["Test"] == ["NONE"]  # the machine asks itself


def test_the_memory_is_limited() -> None:
    """The slice that the container is in may have a part of the machine's memory, and no swap."""
    found = units(render(values("aws")))
    assert settings_of(found["cloudworker.slice"], "MemoryMax") == ["80%"]
    assert settings_of(found["cloudworker.slice"], "MemorySwapMax") == ["0"]


def test_settings_reach_the_container_to_the_letter(tmp_path: Path) -> None:
    """Quotes, blanks, dollar signs, hashes and equals signs arrive as given, and the grace and the port last."""
    asked = container(tmp_path, "azure", environment=environment(AWKWARD))
    given = [f"{name}={value}" for name, value in AWKWARD.items()]
    assert asked["Env"] == [*given, "WORKER_STOP_GRACE=120", "WORKER_ADMIN_PORT=8080"]


def test_a_newline_cannot_be_a_value(tmp_path: Path) -> None:
    """What follows a newline in a value becomes another line, which is why the map's rule refuses one."""
    broken = base64.b64encode(b"WORKER_FLEET=one\nWORKER_LEASE=60\n").decode()
    assert "WORKER_LEASE=60" in container(tmp_path, "azure", environment=broken)["Env"]


def test_logs_on_aws_wait_for_nobody(tmp_path: Path) -> None:
    """On AWS the engine passes lines on to the log group, without blocking and with a copy in no other place."""
    log = container(tmp_path, "aws", log_options=awslogs("/a/group"))["HostConfig"]["LogConfig"]
    assert log["Type"] == "awslogs"
    assert log["Config"] == {
        "awslogs-group": "/a/group",
        "awslogs-stream": "%H",  # systemd puts the machine's name here
        "mode": "non-blocking",
        "max-buffer-size": "4m",
        "cache-disabled": "true",
    }


def test_logs_on_azure_are_the_journals(tmp_path: Path) -> None:
    """On Azure the engine keeps no copy, and the unit writes under the facility that the README's rule collects."""
    assert container(tmp_path, "azure")["HostConfig"]["LogConfig"]["Type"] == "none"
    assert settings_of(units(render(values("azure")))[WORKER], "SyslogFacility") == ["local0"]


def test_the_end_is_asked_for_with_its_time(tmp_path: Path) -> None:
    """Docker's client asks the engine to stop this container, and to wait the whole grace before it kills."""
    rendered = render(values("azure"))
    request = sent(command(units(rendered)[WORKER], "ExecStop"), tmp_path, rendered)
    path = urllib.parse.urlsplit(request.path)
    assert path.path.endswith("/containers/cloud-worker/stop")
    assert urllib.parse.parse_qs(path.query) == {"t": ["120"]}
