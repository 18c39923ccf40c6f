"""From a URL to a `Provider`. Before anybody relies on it, `probe` shows that the store compares (`providers.probe`).

Only this module knows which drivers there are, and it imports one only when its URL is given: nobody pays for an
SDK that is not used.
"""

from __future__ import annotations

import re
import time  # noqa: TID251 - the wall clock of the store `memory:`, which lives in this process
from collections.abc import Callable
from typing import Literal

from providers.host import Host
from providers.http_url import without_secrets
from providers.interface import Call, Driver, Misconfigured
from providers.options import PLAIN, StoreOptions
from providers.portable_host import PortableHost
from providers.probe import IgnoresConditions, probe
from providers.provider import Provider

FORMS = (
    "sqlite:///relative/file.db, sqlite:////absolute/file.db, azure://ACCOUNT/CONTAINER[/PREFIX], s3://BUCKET[/PREFIX]"
)
"""What a store's URL may look like, for people."""

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(?:-[a-z0-9]+)*")
_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PART = re.compile(r"[A-Za-z0-9._-]+")

LONGEST_PREFIX = 256
"""Characters of a fleet's prefix: every store takes this much, with the longest key of a document below it."""


def connect(
    url: str,
    *,
    total: float = 2.0,
    options: StoreOptions = PLAIN,
    on_call: Callable[[Call], None] | None = None,
) -> Provider:
    """Return a provider of the store that `url` names. Nothing is sent before the first request.

    `total` is the most time one request may take, in seconds. Raises Misconfigured for a URL that names no store, and
    for an endpoint where the store has none.
    """
    return Provider(driver_for(url, options), total=total, on_call=on_call)


def connect_host(
    kind: Literal["aws", "azure"], url: str | None = None, *, options: StoreOptions = PLAIN
) -> PortableHost:
    """Return the machine's platform. `url` is where its metadata service is, if not where it always is.

    Nothing is asked before the first request. Raises Misconfigured where the SDK is missing.
    """
    return PortableHost(_HostDriver(kind, url, options))


class _HostDriver:
    def __init__(self, kind: Literal["aws", "azure"], url: str | None, options: StoreOptions) -> None:
        try:
            from providers.metadata import DEFAULT_URL, MetadataServer

            if kind == "aws":
                from providers.aws.host import AwsHost

                self._make: Callable[[MetadataServer], Host] = lambda server: AwsHost(server, options)
            else:
                from providers.azure.credentials import Identity
                from providers.azure.host import AzureHost

                who = Identity("Azure Monitor", options)
                self._make = lambda server: AzureHost(server, credential=who)
        except ImportError as exc:
            raise _not_installed(kind, exc) from exc
        self.url, self._server = url or DEFAULT_URL, MetadataServer

    def open(self, total: float) -> Host:
        return self._make(self._server(self.url))


def driver_for(url: str, options: StoreOptions = PLAIN) -> Driver:
    """Return the driver of the store that `url` names. Raises Misconfigured, listing the forms of a URL."""
    scheme, _, rest = url.partition(":")
    if scheme not in ("sqlite", "memory", "azure", "s3") or (scheme in ("azure", "s3") and not rest.startswith("//")):
        raise Misconfigured(f"{without_secrets(url)!r} names no store. Use one of: {FORMS}")
    if scheme == "azure":
        return _azure(url, rest.removeprefix("//"), options)
    if scheme == "s3":
        return _s3(url, rest.removeprefix("//"), options)
    for endpoint in (options.endpoint_url, options.queue_endpoint_url):
        if endpoint is not None:
            raise Misconfigured(
                f"an endpoint URL was given ({without_secrets(endpoint)!r}), and {scheme} stores have none: remove it"
            )
    if scheme == "memory":
        return _memory(url, rest)
    return _sqlite(url, rest)


def _azure(url: str, rest: str, options: StoreOptions) -> Driver:
    account, _, place = rest.partition("/")
    container, _, prefix = place.partition("/")
    if not _ACCOUNT.fullmatch(account) or not _CONTAINER.fullmatch(container):
        raise Misconfigured(
            f"{without_secrets(url)!r}: write azure://ACCOUNT/CONTAINER[/PREFIX]; an account has 3 to 24 lower-case "
            "letters and digits, a container 3 to 63 lower-case letters, digits and single hyphens"
        )
    try:
        from providers.azure import AzureDriver
    except ImportError as exc:
        raise _not_installed("azure", exc) from exc

    return AzureDriver(account, container, _prefix(url, prefix), options)


def _s3(url: str, rest: str, options: StoreOptions) -> Driver:
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise Misconfigured(
            f"{without_secrets(url)!r}: write s3://BUCKET[/PREFIX]; a bucket's name has 3 to 63 lower-case letters, "
            "digits, hyphens and single dots"
        )
    try:
        from providers.aws import AwsDriver
    except ImportError as exc:
        raise _not_installed("aws", exc) from exc

    return AwsDriver(bucket, _prefix(url, prefix), options)


def _prefix(url: str, prefix: str) -> str:
    """Return the prefix of a fleet's keys: "" or ending in a slash."""
    parts = prefix.removesuffix("/").split("/")
    if not prefix:
        return ""
    if any(part in ("", ".", "..") for part in parts) or not all(_PART.fullmatch(part) for part in parts):
        raise Misconfigured(
            f"{without_secrets(url)!r}: a prefix has letters, digits, '.', '_' and '-' between single slashes"
        )
    if len(prefix) > LONGEST_PREFIX:
        raise Misconfigured(
            f"{without_secrets(url)!r}: a prefix of {len(prefix)} characters, and {LONGEST_PREFIX} is the limit"
        )
    return "/".join(parts) + "/"


def _not_installed(extra: str, error: ImportError) -> Misconfigured:
    return Misconfigured(f"this store needs packages that are not here ({error}): pip install 'cloud-worker[{extra}]'")


def _memory(url: str, rest: str) -> Driver:
    from providers.memory import MemoryDriver, MemoryStore

    if rest:
        raise Misconfigured(f"{without_secrets(url)!r}: a store in memory has no name, write 'memory:'")
    return MemoryDriver(MemoryStore(now=time.time))


def _sqlite(url: str, rest: str) -> Driver:
    path = rest.removeprefix("///")
    if path == rest or path.endswith("/") or not path:
        raise Misconfigured(
            f"{without_secrets(url)!r} names no file: write sqlite:///relative/file.db or sqlite:////absolute/file.db"
        )
    if path.startswith(":memory:"):
        raise Misconfigured(f"{without_secrets(url)!r}: every process would have a store of its own: name a file")
    if "?" in path or "#" in path or not path.isprintable():
        raise Misconfigured(
            f"{without_secrets(url)!r}: options are not supported, and a file name may not hold '?' or '#'"
        )
    from providers.local import SqliteDriver

    return SqliteDriver(path)


__all__ = ["FORMS", "IgnoresConditions", "connect", "driver_for", "probe"]
