"""The machines' roles on Azure, derived from the requests that the drivers make: none is missing, none is too much."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import combinations

import pytest
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobServiceClient, ContainerClient
from azure.storage.queue import QueueClient, QueueServiceClient

from providers.azure import documents, monitor, queue
from tests.infra.azure_terraform import ROOT, STACK

DRIVERS = ROOT / "providers" / "azure"

BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
QUEUES = "Microsoft.Storage/storageAccounts/queueServices/queues/"
MESSAGES = QUEUES + "messages/"
METRICS = "Microsoft.Insights/Metrics/"

NEEDS: Mapping[str, tuple[set[str], ...]] = {
    "Get Blob": ({BLOBS + "read"},),
    "Get Blob Properties": ({BLOBS + "read"},),
    "List Blobs": ({BLOBS + "read"},),
    "Put Blob": ({BLOBS + "write"},),
    "Set Blob Metadata": ({BLOBS + "write"},),
    "Delete Blob": ({BLOBS + "delete"},),
    "Acquire Lease": ({BLOBS + "write"},),
    "Renew Lease": ({BLOBS + "write"},),
    "Change Lease": ({BLOBS + "write"},),
    "Release Lease": ({BLOBS + "write"},),
    "Create Queue": ({QUEUES + "write"},),
    "Get Queue Metadata": ({QUEUES + "read"},),
    "Put Message": ({MESSAGES + "add/action"}, {MESSAGES + "write"}),
    "Get Messages": ({MESSAGES + "process/action"}, {MESSAGES + "read", MESSAGES + "delete"}),
    "Peek Messages": ({MESSAGES + "read"},),
    "Update Message": ({MESSAGES + "write"},),
    "Delete Message": ({MESSAGES + "process/action"}, {MESSAGES + "delete"}),
    "metric": ({METRICS + "write"},),
}
"""Azure's table of permissions: what each request needs, and the alternatives where there are some."""

METHODS: Mapping[str, str] = {
    "download_blob": "Get Blob",
    "get_blob_properties": "Get Blob Properties",
    "list_blobs": "List Blobs",
    "upload_blob": "Put Blob",
    "set_blob_metadata": "Set Blob Metadata",
    "delete_blob": "Delete Blob",
    "acquire": "Acquire Lease",
    "renew": "Renew Lease",
    "change": "Change Lease",
    "release": "Release Lease",
    "create_queue": "Create Queue",
    "get_queue_properties": "Get Queue Metadata",
    "send_message": "Put Message",
    "receive_messages": "Get Messages",
    "peek_messages": "Peek Messages",
    "update_message": "Update Message",
    "delete_message": "Delete Message",
}
"""Which request the SDK's method makes, of those that the drivers call. The metric is sent without the SDK."""

CLIENTS = (BlobServiceClient, ContainerClient, BlobClient, BlobLeaseClient, QueueServiceClient, QueueClient)
PLAIN = {"close", "get_blob_client", "get_container_client", "get_queue_client"}
"""What a client has besides requests, and asks nothing of Azure."""

METHODS_OF_ALL = {
    name for client in CLIENTS for name in dir(client) if not name.startswith("_") and callable(getattr(client, name))
} - PLAIN

ROLES: Mapping[str, set[str]] = {
    "Storage Blob Data Reader": {BLOBS + "read"},
    "Storage Blob Data Contributor": {BLOBS + it for it in ("read", "write", "delete", "move/action", "add/action")},
    "Storage Queue Data Reader": {QUEUES + "read", MESSAGES + "read"},
    "Storage Queue Data Message Sender": {MESSAGES + "add/action"},
    "Storage Queue Data Message Processor": {MESSAGES + "read", MESSAGES + "process/action"},
    "Storage Queue Data Contributor": {
        *(QUEUES + it for it in ("read", "write", "delete")),
        *(MESSAGES + it for it in ("read", "write", "delete", "process/action")),
    },
    "Monitoring Metrics Publisher": {METRICS + "write"},
}
"""Azure's built-in roles for data, as far as they are about this; those that are also Owner of it are left out."""


def requests() -> set[str]:
    """Return the names of all requests that the drivers make, by the SDK's methods that they call."""
    trees = [ast.parse(path.read_text()) for path in DRIVERS.rglob("*.py")]
    return {METHODS[name] for tree in trees for name in called(tree)} | {"metric"}


def named() -> set[str]:
    """Return the names of all requests that the drivers make, as their errors name them."""
    return {name for path in DRIVERS.rglob("*.py") for name in _named(ast.parse(path.read_text()))}


def called(tree: ast.AST) -> set[str]:
    """Return the SDK's methods that ask something of Azure and are mentioned in this code."""
    return METHODS_OF_ALL & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        first = node.args[0]
        if called in ("request", "_request") and isinstance(first, ast.Constant):
            yield str(first.value)
        elif called == "Request" and isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
            yield str(first.values[0].value).split()[0]


def granted() -> set[str]:
    """Return the roles that the stack gives to the machines, but for that of the registry."""
    text = (STACK / "main.identity.tf").read_text()
    return set(re.findall(r'\brole(?:_definition_name)? += "([^"]+)"', text)) - {"AcrPull"}


def lacking(roles: set[str]) -> set[str]:
    """Return the requests that these roles do not allow."""
    allowed = {action for role in roles for action in ROLES[role]}
    return {name for name in requests() if not any(need <= allowed for need in NEEDS[name])}


def test_every_request_is_known() -> None:
    """The table holds exactly the requests that the drivers make, and the errors call them by the same names."""
    assert requests() == named() == set(NEEDS)


@pytest.mark.parametrize("call", ["start_copy_from_url", "get_blob_tags", "break_lease", "clear_messages"])
def test_another_call_would_be_seen(call: str) -> None:
    """A method of the SDK that the table does not know stands out, whatever the errors around it say."""
    assert called(ast.parse(f"client.{call}(x)")) == {call}
    assert call not in METHODS


def test_the_roles_allow_every_request() -> None:
    """The machines may do all that the drivers do."""
    assert lacking(granted()) == set()


def test_no_fewer_or_smaller_roles_would_do() -> None:
    """Each set of roles that grants less than the machines have lacks something that the drivers do."""
    mine = {action for role in granted() for action in ROLES[role]}
    smaller = [
        set(chosen)
        for count in range(len(ROLES))
        for chosen in combinations(ROLES, count)
        if {action for role in chosen for action in ROLES[role]} < mine
    ]
    assert smaller
    assert [roles for roles in smaller if not lacking(roles)] == []


def test_the_roles_are_those_that_the_errors_name() -> None:
    """A worker that lacks a role asks for the one that the stack gives."""
    assert granted() == {documents.ROLE, queue.ROLE, monitor.ROLE}


def test_the_machines_are_given_nothing_elsewhere() -> None:
    """No other file gives the machines' identity a role."""
    elsewhere = [path.name for path in STACK.glob("*.tf") if path.name != "main.identity.tf"]
    assert elsewhere
    for name in elsewhere:
        assert "azurerm_user_assigned_identity.this.principal_id" not in (STACK / name).read_text()
