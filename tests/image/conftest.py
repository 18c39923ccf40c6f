"""The image to test is the one that WORKER_TEST_IMAGE names. Nobody needs to have one: `make image-test` builds it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image.containers import PODMAN, Container

Start = Callable[[str], Container]


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image. Who names one wants it tested: from there on, whatever is missing is a failure."""
    name = os.environ.get("WORKER_TEST_IMAGE")
    if not name:
        pytest.skip("WORKER_TEST_IMAGE names no image: `make image-test` builds one and runs these tests on it")
    missing = [program for program in ("podman", "runc") if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.fail(f"running an image needs root, podman and runc; missing: {missing or 'root'}", pytrace=False)
    if subprocess.run([*PODMAN, "image", "exists", name], check=False).returncode != 0:
        pytest.fail(f"there is no image {name} here: `make image` builds it", pytrace=False)
    return name


@pytest.fixture
def start(image: str, tmp_path: Path) -> Iterator[Start]:
    """Start containers that run one of the apps, by its module; all share the test's folder and are gone after it."""
    started: list[Container] = []

    def one(module: str) -> Container:
        started.append(Container(image, tmp_path, WORKER_APP=f"{module}:app"))
        return started[-1]

    yield one
    for container in started:
        container.remove()
