"""Pull one image by its digest, signed in as the machine itself: what systemd runs before it starts the worker.

    1. The image is here already: done. A digest never names another image, so a restart needs no registry.
    2. Sign in with the machine's identity:
         azure   metadata service → Entra token → the registry's own refresh token (3 hours)
         aws     the AWS CLI asks ECR for a password (12 hours)
         none    a registry that asks nobody who he is
    3. Pull. The sign-in lives in a directory of its own for just so long.

It runs on the machine's own Python (3.9 or newer, as cloud-init does) and needs no package. A failure is one line on
stderr and exit code 1, and systemd tries again. No token is ever an argument, a log line or left on a disk.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

METADATA = "http://169.254.169.254"
AUDIENCE = "https://containerregistry.azure.net"  # for registries, and for nothing else that the identity may do
AZURE_USER = "00000000-0000-0000-0000-000000000000"  # how a registry on Azure knows that the password is its own token
ONE_ANSWER = 10  # seconds that a peer may be silent
SIGNING_IN = 60  # seconds for all of it, however slowly somebody answers
LONGEST = 64 * 1024  # bytes of an answer

HOST = r"localhost|[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+"  # with a dot, or Docker takes it for a name on Docker Hub
IMAGE = re.compile(rf"(?P<registry>(?:{HOST})(?::\d+)?)/(?P<name>[a-z0-9][a-z0-9._/-]*)@sha256:[0-9a-f]{{64}}")
ECR = re.compile(r"\d{12}\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.[a-z0-9.-]+")
TOKEN = re.compile(r"[!-~]{1,32768}")


class Failed(Exception):
    """What went wrong, for the journal: one line, and never a token."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Go nowhere else: what is sent here signs in, and is for nobody but whom it was addressed to."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse: urllib then reports the redirect as the error that it is."""


def main(arguments: list[str]) -> int:
    """Do what the module says; return the exit code."""
    parser = argparse.ArgumentParser(prog="pull_image", description="Pull an image as the machine itself.")
    parser.add_argument("--login", choices=("azure", "aws", "none"), required=True, help="who asks for a password")
    parser.add_argument("--client-id", default="", help="azure: which of the machine's identities")
    parser.add_argument("--metadata", default=METADATA, help="azure: URL of the metadata service")
    parser.add_argument("image", help="REGISTRY/NAME@sha256:DIGEST")
    given = parser.parse_args(arguments)
    try:
        pull(given.image, given.login, given.client_id, given.metadata)
    except Failed as exc:
        print(f"pull_image: {exc}", file=sys.stderr)
        return 1
    return 0


def pull(image: str, login: str, client_id: str, metadata: str) -> None:
    """Have the image on this machine. Raises Failed."""
    found = IMAGE.fullmatch(image)
    if not found:
        raise Failed(f"{image[:200]!r} is not REGISTRY/NAME@sha256:DIGEST, and a tag may name another image tomorrow")
    if succeeds("docker", "image", "inspect", image):
        return
    registry = found["registry"]
    with tempfile.TemporaryDirectory() as folder:
        config = {"DOCKER_CONFIG": folder}
        if login == "azure":
            sign_in(registry, AZURE_USER, azure_password(registry, client_id, metadata), config)
        elif login == "aws":
            sign_in(registry, "AWS", aws_password(registry), config)
        run("docker", "pull", "--quiet", image, env=config)


def sign_in(registry: str, user: str, password: str, config: dict[str, str]) -> None:
    """Give the engine's client a password, through a pipe: arguments are for all to see."""
    run("docker", "login", "--username", user, "--password-stdin", registry, env=config, given=password)


def azure_password(registry: str, client_id: str, metadata: str) -> str:
    """Trade the machine's identity for a token of the registry's own. Raises Failed."""
    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SIGNING_IN)
    asked = {"api-version": "2018-02-01", "resource": AUDIENCE}
    if client_id:
        asked["client_id"] = client_id
    entra = token(
        urllib.request.Request(
            f"{metadata}/metadata/identity/oauth2/token?{urllib.parse.urlencode(asked)}", headers={"Metadata": "true"}
        ),
        "access_token",
        "is the identity assigned to this machine?",
        urllib.request.ProxyHandler({}),  # the metadata service answers this machine only, never a proxy
    )
    # As the engine has it: plain HTTP for this machine, and for nobody else.
    scheme = "http" if registry.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    form = {"grant_type": "access_token", "service": registry, "access_token": entra}
    password = token(
        urllib.request.Request(f"{scheme}://{registry}/oauth2/exchange", urllib.parse.urlencode(form).encode()),
        "refresh_token",
        "may the identity pull from this registry (AcrPull)?",
    )
    signal.alarm(0)
    return password


def aws_password(registry: str) -> str:
    """Ask ECR, as the instance's role. Raises Failed."""
    found = ECR.fullmatch(registry)
    if not found:
        raise Failed(f"{registry} is not ACCOUNT.dkr.ecr.REGION.amazonaws.com: correct the image or `registry_login`")
    password = run("aws", "ecr", "get-login-password", "--region", found["region"]).strip()
    if not TOKEN.fullmatch(password):
        raise Failed("aws ecr get-login-password printed no password")
    return password


def token(request: urllib.request.Request, field: str, question: str, *handlers: urllib.request.BaseHandler) -> str:
    """Send one request and return one field of its JSON answer. Raises Failed, which never holds what was sent."""
    url = request.full_url.partition("?")[0]
    try:
        with urllib.request.build_opener(NoRedirects, *handlers).open(request, timeout=ONE_ANSWER) as answer:
            body = answer.read(LONGEST + 1)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise Failed(f"{url} answered {exc.code}: {question}") from None
    except (OSError, http.client.HTTPException) as exc:
        raise Failed(f"{url}: {one_line(str(getattr(exc, 'reason', exc))) or type(exc).__name__}") from None
    try:
        found = json.loads(body)[field] if len(body) <= LONGEST else None
    except (ValueError, TypeError, LookupError, RecursionError):
        found = None
    if not isinstance(found, str) or not TOKEN.fullmatch(found):
        raise Failed(f"{url} answered without a usable {field}")
    return found


def too_slow(*_: object) -> None:
    """Handle the alarm: whoever answers a byte at a time has had his time."""
    raise TimeoutError(f"no token after {SIGNING_IN} s")


def run(*command: str, env: dict[str, str] | None = None, given: str = "") -> str:
    """Run a program to its end and return what it printed. Raises Failed with the last line of its complaint."""
    name = " ".join(word for word in command[:3] if not word.startswith("-"))
    try:
        done = subprocess.run(
            command, env={**os.environ, **(env or {})}, input=given, capture_output=True, encoding="utf-8", check=False
        )
    except OSError as exc:
        raise Failed(f"{name}: {exc.strerror}: {command[0]}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Failed(f"{name}: {one_line(said[-1])}")
    return done.stdout


def succeeds(*command: str) -> bool:
    """Say whether a program ends with exit code 0."""
    try:
        run(*command)
    except Failed:
        return False
    return True


def one_line(text: str) -> str:
    """Make what a stranger said fit for the journal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:300].strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
