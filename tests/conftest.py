"""How the tests run: time limits per level, hypothesis profiles, and one seed that a failure prints and a rerun takes.

A run that decides (CI) draws the same examples every time, so that nobody's change fails by another's bad luck. A
run on a laptop draws new ones and says how to draw them again: `make test ARGS="--seed 1234"`.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import emulators
from tests.support import in_ci, require

ROOT = Path(__file__).parent
LIMITS = {"unit": 60, "conformance": 60, "simulation": 300, "acceptance": 240, "image": 240}
"""Seconds after which a test has failed, by level: far above what each takes, for a laptop under load."""

SEED = "CLOUD_WORKER_TEST_SEED"
"""Carries the seed to the processes of pytest-xdist."""

settings.register_profile(
    "laptop", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)  # no deadline: a busy machine is not a bug
settings.register_profile("ci", parent=settings.get_profile("laptop"), derandomize=True)
settings.load_profile("ci" if in_ci() else "laptop")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="repeat the draws of an earlier run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "acceptance: real processes, real clocks; set for all of tests/acceptance")
    config.addinivalue_line("markers", "slow: takes more than ten seconds; leave out with -m 'not slow'")
    given = config.getoption("--seed")
    if given is not None:
        os.environ[SEED] = str(given)
    os.environ.setdefault(SEED, "2008" if in_ci() else str(secrets.randbelow(10**6)))


def pytest_report_header() -> str:
    return f"seed: {os.environ[SEED]} (repeat with --seed {os.environ[SEED]})"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(ROOT):
            continue
        level = item.path.relative_to(ROOT).parts[0]
        if level in LIMITS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMITS[level]))
        if level == "acceptance":
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number to seed this test's draws with: the same for the same `--seed`, another for every test."""
    return zlib.crc32(f"{os.environ[SEED]} {request.node.nodeid}".encode())


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own settings or credentials may change what a test shows, and no test may ask a cloud for any."""
    for name in list(os.environ):
        if name.startswith(("WORKER_", "AWS_", "AZURE_")) and not name.startswith("WORKER_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def azurite() -> Iterator[emulators.AzureEmulator]:
    """Azure Blob and Queue Storage, one for this process."""
    require((absent := emulators.missing()) is None, str(absent))
    with emulators.azurite() as running:
        yield running


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[emulators.AwsEmulator]:
    """S3 with conditional writes that are atomic, one for this process."""
    require((absent := emulators.missing()) is None, str(absent))
    with emulators.seaweedfs() as running:
        yield running


@pytest.fixture(scope="session")
def moto_server() -> Iterator[emulators.AwsEmulator]:
    """SQS, and the shape of S3, one for this process."""
    require((absent := emulators.missing()) is None, str(absent))
    with emulators.moto() as running:
        yield running


@pytest.fixture(scope="session")
def minio() -> Iterator[emulators.AwsEmulator]:
    """The MinIO that WORKER_TEST_MINIO names; nobody needs to have one."""
    with emulators.minio() as running:
        if running is None:
            pytest.skip("WORKER_TEST_MINIO names no binary and no URL")
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        report.sections.append(("seed", f"repeat with --seed {os.environ[SEED]}"))
    return report
