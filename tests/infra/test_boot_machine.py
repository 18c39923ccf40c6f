"""A machine's life under a real systemd, which also confines the real pull and Docker's own client while they work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.infra.boot_support import DIGEST, Answer, Peer, Request, peer
from tests.infra.engine import NAME, Container
from tests.infra.machine import PATIENCE, Machine, booted
from tests.waiting import until

STOP = f"POST /containers/{NAME}/stop?t=120"


class Cloud:
    """A metadata service, a registry and a worker's health, as a test wants them."""

    def __init__(self) -> None:
        self.refusals = 0
        self.alive = True

    def __call__(self, request: Request) -> Answer:
        if request.path == "/livez":
            return (200 if self.alive else 503), {}, b""
        if self.refusals:
            self.refusals -= 1
            return 429, {}, b""
        return 200, {}, b'{"access_token": "entra", "refresh_token": "registry"}'


@dataclass
class Setting:
    """A machine and the cloud that it is in."""

    machine: Machine
    cloud: Cloud
    served: Peer

    def life(self, number: int) -> Container:
        """Wait for the container to be started for the so manyth time, from 1; return that life of it."""
        lives = self.machine.engine.lives
        within = PATIENCE
        until(lambda: len(lives) >= number and lives[number - 1].started.is_set(), within, f"start number {number}")
        until(lambda: self.machine.state() == "active", within, "the unit is active")
        return lives[number - 1]


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    """A machine that boots in a cloud whose metadata service refuses twice first."""
    cloud = Cloud()
    cloud.refusals = 2
    with peer(cloud) as served:
        port = served.address.partition(":")[2]
        filled = {"image": f"{served.address}/worker@{DIGEST}", "admin_port": port}
        with booted(tmp_path, served.url, **filled) as machine:
            yield Setting(machine, cloud, served)


def test_a_machine_becomes_a_worker(setting: Setting) -> None:
    """A boot ends in a running container though the pull is refused twice, and a restart asks no registry again."""
    life = setting.life(1)
    engine = setting.machine.engine
    assert setting.cloud.refusals == 0
    assert len(engine.of("POST /images/create")) == 1
    assert setting.machine.state("cloud-worker-engine.service") == "active"
    life.end(1)
    setting.life(2)
    assert len(engine.of("POST /images/create")) == 1
    assert engine.of(STOP) == [STOP] * len(engine.of(f"DELETE /containers/{NAME}"))  # each time there was nothing left


def test_a_stop_lasts_as_long_as_the_drain(setting: Setting) -> None:
    """A stop asks the engine once, waits while the worker drains, and then does not start it again."""
    setting.life(1)
    engine = setting.machine.engine
    engine.asked.clear()
    engine.drained.clear()
    stopping = setting.machine.in_background("stop", "cloud-worker.service")
    until(lambda: engine.of(STOP), PATIENCE, "the engine is asked to stop the worker")
    assert setting.machine.state() == "deactivating"
    assert stopping.poll() is None
    assert engine.asked == [STOP]
    engine.drained.set()
    assert stopping.wait(PATIENCE) == 0
    assert setting.machine.state() == "inactive"
    assert len(engine.lives) == 1


def test_a_worker_drains_when_only_the_client_has_ended(setting: Setting) -> None:
    """A client that is killed, as by a restart of the engine, leaves a worker that is drained and then started anew."""
    life = setting.life(1)
    engine = setting.machine.engine
    engine.asked.clear()
    setting.machine.systemctl("kill", "--signal=KILL", "--kill-whom=main", "cloud-worker.service")
    setting.life(2)
    assert life.ended.is_set()
    assert engine.asked[:2] == [STOP, f"DELETE /containers/{NAME}?force=1"]


def test_a_worker_that_stands_still_is_started_anew(setting: Setting) -> None:
    """A worker whose /livez stops answering is stopped with its grace, and started again."""
    life = setting.life(1)
    assert not life.ended.is_set()
    setting.cloud.alive = False
    until(life.ended.is_set, PATIENCE, "the worker is stopped")
    setting.cloud.alive = True
    assert setting.machine.engine.of(STOP)
    setting.life(2)


def test_a_drain_is_not_ended_by_its_health(setting: Setting) -> None:
    """While a worker drains, its /livez may fail as it likes: nothing asks, and nobody starts it again."""
    setting.life(1)
    engine = setting.machine.engine
    engine.drained.clear()
    stopping = setting.machine.in_background("stop", "cloud-worker.service")
    until(lambda: engine.of(STOP), PATIENCE, "the engine is asked to stop the worker")
    setting.cloud.alive = False
    health = "cloud-worker-health.service"
    before = setting.machine.systemctl("show", "--property=InvocationID", "--value", health)
    until(
        lambda: setting.machine.systemctl("show", "--property=InvocationID", "--value", health) != before,
        PATIENCE,
        "the timer has come round again",
    )
    assert setting.machine.state() == "deactivating"
    engine.drained.set()
    assert stopping.wait(PATIENCE) == 0
    assert len(engine.lives) == 1
