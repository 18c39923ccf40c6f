"""Where the tests of whole fleets on emulated clouds meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.clouds import Venue, azure_venue, s3_venue
from tests.emulators import AwsEmulator, AzureEmulator


@pytest.fixture(params=["azurite", "s3"])
def venue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Venue]:
    """One emulated cloud after the other. Only what a test asks for is started."""
    if request.param == "azurite":
        server: AzureEmulator = request.getfixturevalue("azurite")
        with azure_venue(server) as found:
            yield found
        return
    buckets: AwsEmulator = request.getfixturevalue("seaweedfs")
    messages: AwsEmulator = request.getfixturevalue("moto_server")
    for name, value in buckets.env.items():
        monkeypatch.setenv(name, value)
    with s3_venue(buckets, messages) as found:
        yield found
