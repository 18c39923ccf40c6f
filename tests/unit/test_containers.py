"""The Dockerfile and compose.yaml, as far as they can be checked without Docker: what they say fits together."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure.storage.blob import ContainerClient

from providers.azure.driver import API_VERSION
from tests import emulators
from tests.emulators import AwsEmulator, AzureEmulator
from worker.core.bounds import bounds
from worker.settings import Settings, load_settings, variable
from worker.web.server import DEFAULT_PORT

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ["worker-1", "worker-2", "worker-3"]
OURS = "cloud-worker"

COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """Return what follows a Dockerfile's instruction, wherever it stands, on one line each."""
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.split(maxsplit=1)[:1] == [name]]


def base_images() -> list[str]:
    """Return what the Dockerfile's stages build on, unless told otherwise, but for one another."""
    given = dict(line.split("=", 1) for line in instructions("ARG") if "=" in line)
    stages = [line.split(" AS ") for line in instructions("FROM")]
    images = [re.sub(r"\$\{(\w+)\}", lambda found: given[found[1]], image) for image, *_ in stages]
    return [image for image in images if image not in {name for _, *names in stages for name in names}]


def copied() -> list[str]:
    """Return what the Dockerfile copies out of the repository."""
    return [source for line in instructions("COPY") if "--from=" not in line for source in line.split()[:-1]]


def in_the_context(path: str) -> bool:
    """Say whether .dockerignore lets a path of the repository through; its last line for it or its folder counts."""
    through, levels = True, [path, *map(str, Path(path).parents[:-1])]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removesuffix("/")
        if not pattern.startswith("#") and any(fnmatch.fnmatch(level.removesuffix("/"), pattern) for level in levels):
            through = line.startswith("!")
    return through


def run_program(service: str, environment: dict[str, str]) -> None:
    """Run what a one-shot service runs, with this Python, in its environment but for what the test says."""
    found = SERVICES[service]
    assert found["entrypoint"] == ["python", "-c"]
    env = {**os.environ, **found["environment"], **environment}
    done = subprocess.run(
        [sys.executable, "-c", *found["command"]], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_image_is_pinned() -> None:
    """Every image has a tag that names a version, and an emulator's is the version that the tests run on."""
    azurite = json.loads((ROOT / "tests" / "azurite" / "package.json").read_text())["dependencies"]["azurite"]
    images = {service["image"] for service in SERVICES.values()} - {OURS}
    assert f"mcr.microsoft.com/azure-storage/azurite:{azurite}" in images
    assert f"motoserver/moto:{version('moto')}" in images
    assert [image for image in [*images, *base_images()] if not re.search(r":[^:/]*\d+[.-]\d+", image)] == []


def test_ports_are_this_machines_only() -> None:
    """Nothing that compose starts can be reached from another machine, and no two services want one port."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_setting_exists() -> None:
    """Every WORKER_ variable in compose.yaml, those in its comments too, is a setting."""
    named = set(re.findall(r"\bWORKER_[A-Z_]+", COMPOSE + DOCKERFILE))
    assert "WORKER_STORE" in named
    assert named - {variable(name) for name in Settings.model_fields} == set()


def test_three_workers_are_one_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three workers' settings are accepted, lead to the service `azurite`, and differ in their names only."""
    found = []
    for worker in WORKERS:
        for name, value in SERVICES[worker]["environment"].items():
            monkeypatch.setenv(name, value)
        found.append(load_settings())
        assert "build" in SERVICES[worker]
    assert [settings.instance for settings in found] == WORKERS
    assert len({settings.model_copy(update={"instance": None}).model_dump_json() for settings in found}) == 1
    secret = found[0].azure_connection_string
    assert secret is not None
    endpoints = dict(part.split("=", 1) for part in secret.get_secret_value().rstrip(";").split(";"))
    assert endpoints["AccountKey"] == emulators.KEY
    assert found[0].store == f"azure://{endpoints['AccountName']}/fleet"
    published = {port.rsplit(":", 1)[1] for port in SERVICES["azurite"]["ports"]}
    assert {endpoints[f"{kind}Endpoint"] for kind in ("Blob", "Queue")} == {
        f"http://azurite:{port}/{emulators.ACCOUNT}" for port in published
    }


def test_a_worker_has_the_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker waits longer for a worker that drains than `worker bounds` says that it may take."""
    for worker in WORKERS:
        for name, value in SERVICES[worker]["environment"].items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        found = {it.name: it for it in bounds(settings.leader, settings.member, drain_timeout=settings.drain_seconds)}
        assert float(SERVICES[worker]["stop_grace_period"].removesuffix("s")) > found["drain"].worst


def test_the_page_gives_it_the_time_to_drain() -> None:
    """Who runs the image as docs/container.md says waits longer than a drain may take in a cloud."""
    (given,) = re.findall(r"--stop-timeout (\d+)", (ROOT / "docs" / "container.md").read_text())
    settings = load_settings(store="s3://bucket/fleet")
    found = {it.name: it for it in bounds(settings.leader, settings.member, drain_timeout=settings.drain_seconds)}
    assert int(given) > found["drain"].worst


def test_the_container_is_created(azurite: AzureEmulator) -> None:
    """The service `container` makes the container that the workers need, and does nothing when it is there."""
    (name,) = {SERVICES[worker]["environment"]["WORKER_STORE"].rpartition("/")[2] for worker in WORKERS}
    with ContainerClient.from_connection_string(azurite.connection_string, name, api_version=API_VERSION) as container:
        assert not container.exists()
        for _ in range(2):
            run_program("container", {"WORKER_AZURE_CONNECTION_STRING": azurite.connection_string})
            assert container.exists()
        container.delete_container()


def test_the_bucket_is_created(moto_server: AwsEmulator) -> None:
    """The service `bucket` makes the bucket that compose.yaml's lines for a shell name, and may run again."""
    import boto3

    s3 = boto3.client(
        "s3",
        endpoint_url=moto_server.url,
        region_name=moto_server.region,
        aws_access_key_id=moto_server.access_key,
        aws_secret_access_key=moto_server.secret_key,
    )
    before = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for _ in range(2):
        run_program("bucket", {"WORKER_ENDPOINT_URL": moto_server.url})
    made = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} - before
    assert [f"export WORKER_STORE=s3://{name}/fleet" in COMPOSE for name in made] == [True]
    s3.delete_bucket(Bucket=made.pop())
    s3.close()


def test_lines_to_paste_lead_to_the_published_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compose.yaml tells a developer to export is accepted, and names the ports and the keys of its services."""
    exported = dict(re.findall(r"\b([A-Z0-9_]+)=(\S+)", "\n".join(re.findall(r"(?m)^#\s+export (.*)$", COMPOSE))))
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    assert load_settings().store == exported["WORKER_STORE"]
    for setting, service in (("WORKER_ENDPOINT_URL", "minio"), ("WORKER_QUEUE_ENDPOINT_URL", "moto")):
        assert SERVICES[service]["ports"][0].startswith(exported[setting].removeprefix("http://") + ":")
    root = SERVICES["minio"]["environment"]
    assert exported["AWS_ACCESS_KEY_ID"] == root["MINIO_ROOT_USER"]
    assert exported["AWS_SECRET_ACCESS_KEY"] == root["MINIO_ROOT_PASSWORD"]
    same = {name: value for name, value in SERVICES["bucket"]["environment"].items() if name != "WORKER_ENDPOINT_URL"}
    assert same.items() <= exported.items()


def test_azurite_is_healthy_when_both_ports_answer(azurite: AzureEmulator) -> None:
    """The health check of compose's Azurite passes while blobs and queues accept connections, and fails otherwise."""
    _, _, *arguments = SERVICES["azurite"]["healthcheck"]["test"]
    ports = [re.search(r":(\d+)/", url) for url in (azurite.blob_url, azurite.queue_url)]
    blob, queue = (found.group(1) for found in ports if found)

    def code(first: str, second: str) -> int:
        changed = [one.replace("10000", first).replace("10001", second) for one in arguments]
        return subprocess.run([emulators._tool("node"), *changed], capture_output=True, check=False).returncode

    nobody = str(emulators._free_ports(1)[0])
    assert code(blob, queue) == 0
    assert code(blob, nobody) != 0
    assert code(nobody, queue) != 0


def test_services_wait_for_services_that_exist() -> None:
    """Whom a service waits for exists, can become what is waited for, and is started whenever the service is."""
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            awaited = SERVICES[name]
            assert awaited.get("profiles") in (None, service.get("profiles"))
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in awaited
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert "restart" not in awaited


def test_the_image_starts_the_worker_itself() -> None:
    """The image starts `worker run` without a shell that would keep its signals, and not as root."""
    assert [json.loads(one) for one in instructions("ENTRYPOINT")] == [["worker"]]
    assert [json.loads(one) for one in instructions("CMD")] == [["run"]]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    (user,) = instructions("USER")
    assert all(int(number) > 0 for number in user.split(":"))


@pytest.mark.parametrize("status, code", [(200, 0), (503, 1), (None, 1)], ids=["alive", "stuck", "nobody"])
def test_the_image_is_healthy_while_the_worker_is_alive(status: int | None, code: int) -> None:
    """The image's health check passes exactly while /livez says 200, on the port in use, whatever proxy is named."""
    (line,) = instructions("HEALTHCHECK")
    command = json.loads(line.partition(" CMD ")[2])
    assert command[0] == "python"
    assert f"or {DEFAULT_PORT})" in command[2]

    class Livez(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path != "/livez" or status is None else status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Livez) as server:
        port = str(server.server_port if status else emulators._free_ports(1)[0])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {**os.environ, "WORKER_ADMIN_PORT": port, "http_proxy": "http://127.0.0.1:1"}
        done = subprocess.run([sys.executable, *command[1:]], env=env, capture_output=True, check=False)
        server.shutdown()
    assert done.returncode == code


def test_the_image_has_what_it_copies_and_nothing_else() -> None:
    """What the Dockerfile copies exists and passes .dockerignore, and nothing passes that it does not copy."""
    assert [source for source in copied() if not (ROOT / source).exists() or not in_the_context(source)] == []
    through = {path.name for path in ROOT.iterdir() if in_the_context(path.name)}
    assert through == {source.split("/")[0] for source in copied()}


def test_the_image_installs_by_hash() -> None:
    """Every package of the image comes from a file of hashes, those of both clouds among them."""
    installs = [part for line in instructions("RUN") for part in line.split("&&") if "pip install" in part]
    files = {name for line in installs for name in re.findall(r"-r requirements/(\S+)", line)}
    assert files == {"lock.txt", "build.txt", "runtime.txt", "azure.txt", "aws.txt"}
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []


def test_the_image_runs_no_command_of_its_base() -> None:
    """The last stage only copies: nothing in the image depends on when, or by which shell, it was built."""
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.findall(r"(?m)^(RUN|ADD)\b", last) == []
    assert re.findall(r"(?m)^COPY (?!--from=build )", last) == []
