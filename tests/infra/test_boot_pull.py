"""pull_image.py as a process: the exchange of tokens over real HTTP, and what becomes of answers that are wrong."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.infra.boot_support import DIGEST, SCRIPT, Answer, Peer, Request, on_this_machine, peer

AZURE_USER = "00000000-0000-0000-0000-000000000000"
ENTRA = "entra.token-of_the.machine"
REGISTRY = "registry.token-of_the.registry"

PROGRAM = """#!{python}
import json, os, sys
record = {{"argv": sys.argv[1:], "input": sys.stdin.read(), "config": os.environ.get("DOCKER_CONFIG")}}
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(record) + "\\n")
{body}
"""


def answered(status: int, body: object = "", **headers: str) -> Answer:
    """Make an answer; what is no text is JSON."""
    return status, headers, (body if isinstance(body, str) else json.dumps(body)).encode()


@dataclass
class Machine:
    """A machine with programs of a test's making on its PATH: they note how they were called, and do as told."""

    folder: Path

    def program(self, name: str, body: str) -> None:
        """Have a program whose body decides on output and exit code."""
        path = self.folder / name
        calls = str(self.folder / f"{name}.calls")
        path.write_text(PROGRAM.format(python=sys.executable, calls=calls, body=body))
        path.chmod(0o755)

    def calls(self, name: str) -> list[dict[str, object]]:
        """Return how a program was called, in order."""
        path = self.folder / f"{name}.calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def pull(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script, with nothing on the PATH but the machine's programs."""
        env = {"PATH": str(self.folder), "TMPDIR": str(self.folder), "AWS_EC2_METADATA_DISABLED": "true", **environment}
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments], env=env, capture_output=True, text=True, check=False
        )


ABSENT = 'sys.exit(1 if sys.argv[1:3] == ["image", "inspect"] else 0)'
"""What `docker` does on a machine that does not have the image yet."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a working engine and without the image."""
    made = Machine(tmp_path)
    made.program("docker", ABSENT)
    return made


def exchange(request: Request) -> Answer:
    """Answer as the metadata service and the registry do."""
    if request.path.startswith("/metadata/identity/oauth2/token?"):
        return answered(200, {"access_token": ENTRA, "expires_in": "86399"})
    assert request.path == "/oauth2/exchange"
    return answered(200, {"refresh_token": REGISTRY})


@pytest.fixture
def cloud() -> Iterator[Peer]:
    """A metadata service and a registry, at one address."""
    with peer(exchange) as served:
        yield served


def azure(served: Peer) -> list[str]:
    """Return the arguments for an image in the peer's registry."""
    return ["--login=azure", f"--metadata={served.url}", f"{served.address}/team/worker@{DIGEST}"]


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """Check that the script failed with one line and no token in it; return that line."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("pull_image: ")
    assert ENTRA not in line
    assert REGISTRY not in line
    return line


def test_azure_signs_in_as_the_machine(machine: Machine, cloud: Peer) -> None:
    """On Azure the identity's token buys one from the registry, which reaches the engine through a pipe."""
    done = machine.pull(*azure(cloud), "--client-id=an-identity")
    assert (done.returncode, done.stderr) == (0, "")
    asked, traded = cloud.asked
    assert asked.headers["metadata"] == "true"
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(asked.path).query))
    assert query["resource"] == "https://containerregistry.azure.net"
    assert query["client_id"] == "an-identity"
    assert traded.method == "POST"
    assert dict(urllib.parse.parse_qsl(traded.body.decode())) == {
        "grant_type": "access_token",
        "service": cloud.address,
        "access_token": ENTRA,
    }
    _, login, pulled = machine.calls("docker")
    assert login["argv"] == ["login", "--username", AZURE_USER, "--password-stdin", cloud.address]
    assert login["input"] == REGISTRY
    assert pulled["argv"] == ["pull", "--quiet", azure(cloud)[-1]]
    assert pulled["config"] == login["config"]


def test_the_sign_in_is_thrown_away(machine: Machine, cloud: Peer) -> None:
    """Nothing of the sign-in is left after the pull, and while it lasts it is in the directory that the unit gives."""
    machine.pull(*azure(cloud))
    config = Path(str(machine.calls("docker")[-1]["config"]))
    assert config.parent == machine.folder
    assert not config.exists()


def test_without_a_client_id_none_is_named(machine: Machine, cloud: Peer) -> None:
    """An empty client id asks for the machine's only identity, as the unit passes it where there is nothing to say."""
    assert machine.pull(*azure(cloud), "--client-id=").returncode == 0
    assert "client_id" not in cloud.asked[0].path


def test_the_metadata_service_is_asked_without_a_proxy(machine: Machine, cloud: Peer) -> None:
    """A proxy that the machine is told to use never hears of the identity."""
    with peer(exchange) as registry:
        proxied = {"http_proxy": "http://127.0.0.1:1", "no_proxy": registry.address}
        arguments = ["--login=azure", f"--metadata={cloud.url}", f"{registry.address}/worker@{DIGEST}"]
        assert machine.pull(*arguments, **proxied).returncode == 0
        assert len(registry.asked) == 1


def test_an_image_that_is_here_needs_nobody(machine: Machine) -> None:
    """A restart with the image on the machine asks neither the metadata service nor the registry."""
    machine.program("docker", "sys.exit(0)")
    nobody = ["--login=azure", "--metadata=http://127.0.0.1:1", f"127.0.0.1:1/worker@{DIGEST}"]
    done = machine.pull(*nobody)
    assert (done.returncode, done.stderr) == (0, "")
    assert [call["argv"] for call in machine.calls("docker")] == [["image", "inspect", nobody[-1]]]


def test_aws_asks_the_cli(machine: Machine) -> None:
    """On AWS the password comes from the AWS CLI, in the registry's own region."""
    machine.program("aws", 'print("a-password-of-ecr")')
    registry = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    done = machine.pull("--login=aws", f"{registry}/worker@{DIGEST}")
    assert (done.returncode, done.stderr) == (0, "")
    assert [call["argv"] for call in machine.calls("aws")] == [
        ["ecr", "get-login-password", "--region", "eu-central-1"]
    ]
    _, login, _ = machine.calls("docker")
    assert login["argv"] == ["login", "--username", "AWS", "--password-stdin", registry]
    assert login["input"] == "a-password-of-ecr"


def test_a_public_registry_gets_no_password(machine: Machine) -> None:
    """Without a login the image is pulled, and nobody signs in."""
    assert machine.pull("--login=none", f"ghcr.io/team/worker@{DIGEST}").returncode == 0
    assert [call["argv"] for call in machine.calls("docker")][1:] == [
        ["pull", "--quiet", f"ghcr.io/team/worker@{DIGEST}"]
    ]


@pytest.mark.parametrize(
    "image",
    [
        "myacr.azurecr.io/worker:latest",
        f"myacr.azurecr.io/worker:1@{DIGEST}",
        "myacr.azurecr.io/worker@sha256:abc",
        f"worker@{DIGEST}",
        f"team/worker@{DIGEST}",
        f"--privileged/worker@{DIGEST}",
        f"my acr/worker@{DIGEST}",
        f"myacr.azurecr.io/worker@{DIGEST}\n",
        "",
    ],
)
def test_only_a_digest_is_pulled(machine: Machine, image: str) -> None:
    """What is no image by its digest, with its registry, is refused before any program is run."""
    assert "REGISTRY/NAME@sha256:DIGEST" in failed(machine.pull("--login=none", "--", image))
    assert machine.calls("docker") == []


HOSTILE = {
    "refused": (answered(401, {"error": "nope"}), "401"),
    "forbidden": (answered(403), "403"),
    "gone": (answered(404), "404"),
    "throttled": (answered(429), "429"),
    "broken": (answered(500, "<html>\n" * 50), "500"),
    "empty": (answered(200), "without a usable"),
    "no JSON": (answered(200, "<html>\nhello\n"), "without a usable"),
    "another type": (answered(200, ["a", "b"]), "without a usable"),
    "null": (answered(200, "null"), "without a usable"),
    "no token": (answered(200, {"token": "x"}), "without a usable"),
    "a number": (answered(200, {"access_token": 7, "refresh_token": 7}), "without a usable"),
    "an empty token": (answered(200, {"access_token": "", "refresh_token": ""}), "without a usable"),
    "two lines": (answered(200, {"access_token": "a\nb", "refresh_token": "a\nb"}), "without a usable"),
    "deep": (answered(200, "[" * 60_000), "without a usable"),
    "endless": (answered(200, {"access_token": "x" * 10**6, "refresh_token": "x" * 10**6}), "without a usable"),
    "no text": ((200, {}, b"\xff\xfe{"), "without a usable"),
    "less than promised": (answered(200, "{}", **{"Content-Length": "100"}), "without a usable"),
    "elsewhere": (answered(302, Location="http://127.0.0.1:1/"), "302"),
    "elsewhere, again with the body": (answered(307, Location="http://127.0.0.1:1/"), "307"),
}


@pytest.mark.parametrize(
    "at, answer",
    [
        *(("/oauth2/", answer) for answer in HOSTILE),
        *(("/metadata/", it) for it in ("refused", "no JSON", "elsewhere")),
    ],
)
def test_a_wrong_answer_ends_it(machine: Machine, at: str, answer: str) -> None:
    """Whatever the metadata service or the registry answers instead of a token: one line that names it, and no pull."""
    wrong, said = HOSTILE[answer]
    with peer(lambda request: wrong if request.path.startswith(at) else exchange(request)) as served:
        line = failed(machine.pull(*azure(served)))
    assert served.url + at in line
    assert said in line
    assert [call["argv"] for call in machine.calls("docker")] == [["image", "inspect", azure(served)[-1]]]


def test_nobody_there(machine: Machine) -> None:
    """A metadata service that accepts no connection is named, with the reason."""
    line = failed(machine.pull("--login=azure", "--metadata=http://127.0.0.1:1", f"127.0.0.1:1/worker@{DIGEST}"))
    assert re.search(r"http://127\.0\.0\.1:1/metadata/.*refused", line)


def test_an_endless_answer_is_given_up(machine: Machine) -> None:
    """A peer that begins an answer and never ends it costs a bounded time."""
    module = SCRIPT.read_text()
    hasty = machine.folder / "hasty.py"
    hasty.write_text(module.replace("SIGNING_IN = 60", "SIGNING_IN = 1"))
    assert hasty.read_text() != module

    with peer(lambda _: answered(200, "{", **{"Content-Length": "1000"})) as served:
        served.hold.clear()
        done = subprocess.run(
            [sys.executable, str(hasty), *azure(served)],
            env={"PATH": str(machine.folder), "TMPDIR": str(machine.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        served.hold.set()
    assert "no token after 1 s" in failed(done)


def test_an_identity_cannot_go_to_ecr_by_another_name(machine: Machine) -> None:
    """A registry that is not ECR's is refused for `aws`, before its CLI is asked for a password."""
    machine.program("aws", 'print("x")')
    line = failed(machine.pull("--login=aws", f"myacr.azurecr.io/worker@{DIGEST}"))
    assert "registry_login" in line
    assert machine.calls("aws") == []


@pytest.mark.parametrize("body", ["pass", 'print("two\\nlines")', 'print("x" * 100000)'])
def test_no_password_from_the_cli(machine: Machine, body: str) -> None:
    """What the AWS CLI prints instead of a password goes to no registry."""
    machine.program("aws", body)
    failed(machine.pull("--login=aws", f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/worker@{DIGEST}"))
    assert len(machine.calls("docker")) == 1


def test_a_program_that_fails_is_quoted_in_one_line(machine: Machine) -> None:
    """The last line of a program's complaint is what the journal gets, without what a terminal would obey."""
    machine.program("aws", r'sys.stderr.write("\nfirst\nUnable to \x1b[31mlocate credentials\n"); sys.exit(255)')
    line = failed(machine.pull("--login=aws", f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/worker@{DIGEST}"))
    assert line == "pull_image: aws ecr get-login-password: Unable to  [31mlocate credentials"


@pytest.mark.parametrize("missing", ["docker", "aws"])
def test_a_missing_program_is_named(machine: Machine, missing: str) -> None:
    """On a machine without the engine or without the AWS CLI, that is what the line says."""
    machine.program("aws", 'print("a-password")')
    (machine.folder / missing).unlink()
    line = failed(machine.pull("--login=aws", f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/worker@{DIGEST}"))
    assert f"No such file or directory: {missing}" in line


@pytest.mark.parametrize("step", ["login", "pull"])
def test_a_refusal_by_the_engine_ends_it(machine: Machine, cloud: Peer, step: str) -> None:
    """A failing login or pull is a failure of the script, so that systemd tries again."""
    refuses = f'sys.argv[1] == "{step}" and "denied: no"'
    machine.program("docker", ABSENT.replace("else 0", f"else {refuses}"))
    assert "denied: no" in failed(machine.pull(*azure(cloud)))


def test_the_engines_own_client_gets_through(tmp_path: Path, cloud: Peer) -> None:
    """Docker's own client takes the password as given, and shows it to the engine for this image and digest."""
    program = shutil.which("docker")
    on_this_machine(program, "needs the program docker, but no engine: https://docs.docker.com/engine/install/binaries")

    def engine(request: Request) -> Answer:
        path = re.sub(r"^/v[0-9.]+", "", request.path)
        if path == "/_ping":
            return answered(200, "OK", **{"API-Version": "1.43", "Ostype": "linux"})
        if path == "/auth":
            return answered(200, {"Status": "Login Succeeded"})
        if path.startswith("/images/create?"):
            return answered(200, {"status": "Downloaded"})
        return answered(404, {"message": "No such image"})

    with peer(engine) as served:
        machine = Machine(tmp_path)
        (tmp_path / "docker").symlink_to(str(program))
        done = machine.pull(*azure(cloud), DOCKER_HOST=f"tcp://{served.address}", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    (created,) = [it for it in served.asked if "/images/create?" in it.path]
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(created.path).query))
    assert query == {"fromImage": f"{cloud.address}/team/worker", "tag": DIGEST}
    shown = json.loads(base64.urlsafe_b64decode(created.headers["x-registry-auth"]))
    assert (shown["username"], shown["password"]) == (AZURE_USER, REGISTRY)
    assert [name for name in os.listdir(tmp_path) if name != "docker"] == []
