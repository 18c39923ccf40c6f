"""The settings that say whose machine this is, and how long it gives a worker to end. Part of `worker.settings`."""

from __future__ import annotations

from typing import Literal

from worker.store_settings import URL, Seconds, StoreSettings, seconds, setting


class MachineSettings(StoreSettings):
    """The machine under the worker. All off unless set: on a laptop nobody answers for it."""

    host: Literal["none", "azure", "aws"] = setting(
        "none",
        "Whose machine this is: its platform is then asked for notices of its end, told what waits, and kept from "
        "scaling in what is busy.",
        "one of none, azure, aws",
        "aws",
    )
    host_url: str | None = setting(
        None,
        "Where the machine's metadata service is, if not at its usual link-local address.",
        URL,
        "http://127.0.0.1:8081",
    )
    stop_grace: Seconds | None = seconds(
        "What the container's platform gives it from SIGTERM to SIGKILL (TimeoutStopSec, --stop-timeout). When it is "
        "set, a drain that needs more is refused at the start.",
        "90",
    )
    host_notice: Seconds | None = seconds(
        "How long ahead the machine's end is announced: Azure's terminate notification, the heartbeat timeout of AWS's "
        "lifecycle hook. When it is set, a drain or a stop grace that needs more is refused at the start.",
        "300",
    )
