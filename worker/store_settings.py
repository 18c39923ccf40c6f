"""The settings that say where the store is and how it is reached. Part of `worker.settings`, which reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from providers.options import StoreOptions
from worker.errors import ConfigurationError

PREFIX = "WORKER_"

STORE_FORMS = "sqlite:///PATH (one machine), azure://ACCOUNT/CONTAINER[/PREFIX] or s3://BUCKET[/PREFIX]"

URL = "a URL of http:// or https://, without a password, query or fragment"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def setting(default: Any, description: str, expects: str, example: str) -> Any:
    """Return a field with its meaning, what it must be, and an example."""
    return Field(default, description=description, json_schema_extra={"expects": expects, "example": example})


def seconds(description: str, example: str) -> Any:
    """Return a field of seconds whose default is derived."""
    return setting(None, description, "a positive number of seconds", example)


class StoreSettings(BaseSettings):
    """Where the fleet meets, and how this worker gets there."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    store: str | None = setting(
        None,
        f"Where the fleet meets: {STORE_FORMS}. There is no default: a forgotten variable must not make every "
        "machine its own leader.",
        "a store URL",
        "sqlite:///worker.db",
    )
    endpoint_url: str | None = setting(
        None,
        "Another endpoint of the store's API (Blob or S3): emulators, S3-compatible stores, other Azure clouds.",
        URL,
        "http://127.0.0.1:9000",
    )
    queue_endpoint_url: str | None = setting(
        None,
        "Another endpoint of the queues' API (Queue Storage or SQS), where the queues are not at WORKER_ENDPOINT_URL.",
        URL,
        "http://127.0.0.1:9324",
    )
    queue_prefix: str = setting(
        "",
        "Goes before every queue's name in the cloud, to keep the queues of several fleets in one account apart.",
        "up to 20 lower-case letters, digits and single hyphens, starting with a letter, ending in a hyphen",
        "staging-",
    )
    aws_region: str | None = setting(
        None,
        "Region of bucket and queues. Default: AWS_REGION or AWS_DEFAULT_REGION.",
        "a region: lower-case letters, digits and hyphens",
        "eu-central-1",
    )
    azure_credential: Literal["managed", "default"] = setting(
        "managed",
        "How to sign in to Azure: `managed` is the machine's managed identity; `default` tries what a developer may "
        "have (environment, Azure CLI, …).",
        "'managed' or 'default'",
        "default",
    )
    azure_client_id: str | None = setting(
        None,
        "Client id of a user-assigned managed identity, where the machine has more than one.",
        "a client id",
        "00000000-0000-0000-0000-000000000000",
    )
    azure_connection_string: SecretStr | None = setting(
        None,
        "Signs in with an account key instead: for Azurite. The account must be that of WORKER_STORE.",
        "a connection string of a storage account",
        "",
    )

    @property
    def local(self) -> bool:
        """Say whether the store is on this machine: then leases are short."""
        return self.store is not None and self.store.startswith(("sqlite:", "memory:"))

    @property
    def store_options(self) -> StoreOptions:
        """How the store is reached, beside its URL."""
        secret = self.azure_connection_string
        return StoreOptions(
            endpoint_url=self.endpoint_url,
            queue_endpoint_url=self.queue_endpoint_url,
            queue_prefix=self.queue_prefix,
            aws_region=self.aws_region,
            azure_connection_string=None if secret is None else secret.get_secret_value(),
            azure_credential=self.azure_credential,
            azure_client_id=self.azure_client_id,
        )

    def need_store(self) -> str:
        """Return the store's URL, or raise ConfigurationError listing the forms."""
        if self.store is None:
            raise ConfigurationError(
                f"WORKER_STORE is not set and has no default: set it (or --store) to {STORE_FORMS}"
            )
        return self.store
