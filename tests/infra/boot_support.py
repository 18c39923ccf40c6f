"""What the tests of infra/boot share: the template filled for both clouds, its files and units, peers to talk to."""

from __future__ import annotations

import base64
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import yaml

BOOT = Path(__file__).resolve().parents[2] / "infra" / "boot"
TEMPLATE = (BOOT / "cloud-init.yaml").read_text()
README = (BOOT / "README.md").read_text()
SCRIPT = BOOT / "pull_image.py"

PLACEHOLDER = re.compile(r"\$\{([a-z_]+)\}")
DIGEST = "sha256:" + "4f" * 32
CLOUDS = ["azure", "aws"]

SETTINGS = {
    "azure": {
        "WORKER_STORE": "azure://account/fleet",
        "WORKER_AZURE_CREDENTIAL": "managed",
        "WORKER_HOST": "azure",
        "WORKER_HOST_NOTICE": "600",
    },
    "aws": {
        "WORKER_STORE": "s3://bucket/fleet",
        "WORKER_AWS_REGION": "eu-central-1",
        "WORKER_HOST": "aws",
        "WORKER_HOST_NOTICE": "300",
    },
}
"""What infrastructure gives the workers of each cloud."""

AWKWARD = {
    "WORKER_STORE": "azure://account/container/prefix",
    "WORKER_FLEET": "two words and  two blanks",
    "WORKER_APP": "\"double\" 'single' `tick` \\ back",
    "WORKER_INSTANCE": "$HOME ${HOME} $(id) %H %{if true} #no comment",
    "WORKER_QUEUE_PREFIX": "a=b=c ",
    "WORKER_LOG_LEVEL": "",
    "WORKER_IDLE_POLL": "ünïcode ☂",
}
"""Values that a shell, systemd, YAML or a template would each take for something else."""


def environment(values: Mapping[str, str]) -> str:
    """Return a map of settings as the placeholder `environment` has it."""
    return base64.b64encode("".join(f"{name}={value}\n" for name, value in values.items()).encode()).decode()


def values(cloud: str, **other: str) -> dict[str, str]:
    """Return what infrastructure of one cloud fills in."""
    both = {
        "stop_grace": "120",
        "admin_port": "8080",
        "registry_login": cloud,
        "pull_image": base64.b64encode(SCRIPT.read_bytes()).decode(),
    }
    own = {
        "azure": {
            "environment": environment(SETTINGS["azure"]),
            "image": f"myacr.azurecr.io/team/cloud-worker@{DIGEST}",
            "identity_client_id": "7e1f3c1e-58a6-4b7c-9c6f-0d0f5b7d9a11",
            "log_options": "--log-driver=none",
        },
        "aws": {
            "environment": environment(SETTINGS["aws"]),
            "image": f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloud-worker@{DIGEST}",
            "identity_client_id": "",
            "log_options": awslogs("/cloud-worker/orders"),
        },
    }
    return {**both, **own[cloud], **other}


def awslogs(group: str) -> str:
    """Return the log options that the README gives for AWS."""
    (line,) = re.findall(r"(?m)^ +(--log-driver=awslogs .*)$", README)
    return str(line).replace("GROUP", group)


def render(filled: Mapping[str, str], template: str = TEMPLATE) -> str:
    """Fill the template as `templatefile()` does: each placeholder has its value, and each value its placeholder."""
    assert set(PLACEHOLDER.findall(template)) == set(filled)
    return PLACEHOLDER.sub(lambda found: filled[found[1]], template)


@dataclass(frozen=True)
class Written:
    """One file that cloud-init has written."""

    text: str
    mode: int


def written(rendered: str) -> dict[str, Written]:
    """Return the files that cloud-init writes, by path, the later entries appended where they say so."""
    files: dict[str, Written] = {}
    for entry in yaml.safe_load(rendered)["write_files"]:
        assert entry.keys() <= {"path", "content", "encoding", "permissions", "append"}
        assert entry.get("encoding", "b64") == "b64"
        text = entry["content"]
        if "encoding" in entry:
            text = base64.b64decode(text, validate=True).decode()
        if entry.get("append"):
            text = files[entry["path"]].text + text
        else:
            assert entry["path"] not in files
        files[entry["path"]] = Written(text, int(entry.get("permissions", "0644"), 8))
    return files


def units(rendered: str) -> dict[str, str]:
    """Return the text of each systemd unit, by its name."""
    folder = "/etc/systemd/system/"
    return {path.removeprefix(folder): it.text for path, it in written(rendered).items() if path.startswith(folder)}


def settings_of(unit: str, name: str) -> list[str]:
    """Return the values of one setting of a unit, continued lines joined as systemd joins them."""
    lines = re.sub(r"\\\n", " ", unit).splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def command(unit: str, name: str) -> list[str]:
    """Return the words of the one command that a setting such as ExecStart holds."""
    (line,) = settings_of(unit, name)
    return shlex.split(line.lstrip("-"))


# --- peers: a metadata service, a registry, an engine ---


@dataclass
class Request:
    """What a peer was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Peer:
    """An HTTP server on this machine that answers as a test says, and remembers what it was asked."""

    answer: Callable[[Request], Answer]
    url: str = ""
    asked: list[Request] = field(default_factory=list)
    hold: Event = field(default_factory=Event)  # cleared: the connection stays open after the answer

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


@contextmanager
def peer(answer: Callable[[Request], Answer]) -> Iterator[Peer]:
    """Serve until the block ends."""
    served = Peer(answer)
    served.hold.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            self.close_connection = True
            if not self.raw_requestline or not self.parse_request():
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            served.asked.append(request)
            status, headers, content = served.answer(request)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), "Connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
                self.wfile.flush()
            served.hold.wait()

        def log_message(self, *_: Any) -> None:
            """Keep a test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def infra_environment() -> Path:
    """Return the environment of `make infra-check`, or skip what takes it, or takes long."""
    named = os.environ.get("WORKER_TEST_INFRA")
    if not named:
        pytest.skip("make infra-check")
    return Path(named)


def on_this_machine(found: object, reason: str) -> None:
    """Skip without a program of the operating system, in CI too: those who lack it cannot install it with pip."""
    if not found:
        pytest.skip(reason)
