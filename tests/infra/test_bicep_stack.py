"""What a deployment of the Bicep stack makes: who may do what, how machines live and end, and what they run."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from providers.azure import documents, monitor, queue
from tests.infra.azure_terraform import only
from tests.infra.bicep_deployment import HERE, Deployment, Resource, deploy
from tests.infra.bicep_schema import EVERYTHING, PLAIN
from tests.infra.boot_support import environment as encoded
from tests.infra.boot_support import render, values
from worker.settings import load_settings

ROLES = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": documents.ROLE,
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": queue.ROLE,
    "3913510d-42f4-4e42-8a64-420c390055eb": monitor.ROLE,
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "AcrPull",
    "92aaf0da-9dab-42b6-94a3-d43ce8d16293": "Log Analytics Contributor",
    "749f88d5-cbae-40b8-bcfc-e573ddc772fa": "Monitoring Contributor",
}
"""Azure's built-in roles, by the ids that a template has; the first three as the drivers' errors call them."""

SCALE_SET = "Microsoft.Compute/virtualMachineScaleSets"
WORKERS = "<orders.properties.principalId>"


@pytest.fixture(scope="module")
def plain() -> Deployment:
    """Return the deployment with nothing but what has no default."""
    return deploy(**PLAIN)


@pytest.fixture(scope="module")
def everything() -> Deployment:
    """Return the deployment with what the defaults leave out."""
    return deploy(**EVERYTHING)


def profile(made: Deployment) -> dict[str, Any]:
    """Return what machines are made from."""
    found: dict[str, Any] = made.only(SCALE_SET).body["properties"]["virtualMachineProfile"]
    return found


def extension(made: Deployment, name: str) -> dict[str, Any]:
    """Return an extension of the machines."""
    (found,) = [one["properties"] for one in profile(made)["extensionProfile"]["extensions"] if one["name"] == name]
    return dict(found)


def granted(made: Deployment, principal: str) -> dict[str, Resource]:
    """Return the roles that somebody gets, by name, and where."""
    mine = [
        one
        for one in made.of("Microsoft.Authorization/roleAssignments")
        if one.body["properties"]["principalId"] == principal
    ]
    return {ROLES[one.body["properties"]["roleDefinitionId"].rpartition("/")[2]]: one for one in mine}


def test_the_roles_are_those_that_the_errors_name(plain: Deployment) -> None:
    """The machines get exactly the roles that a worker asks for when it lacks them, each on the fleet's own."""
    account = plain.only("Microsoft.Storage/storageAccounts")
    scopes = {role: one.scope for role, one in granted(plain, WORKERS).items()}
    assert scopes == {
        documents.ROLE: f"{account.id}/blobServices/default/containers/fleet",
        queue.ROLE: account.id,
        monitor.ROLE: plain.only(SCALE_SET).id,
    }


def test_the_registry_gives_leave_to_pull(everything: Deployment) -> None:
    """With a registry the machines may pull from it, and nothing else there, in whichever group it is."""
    roles = granted(everything, WORKERS)
    assert roles.keys() - {documents.ROLE, queue.ROLE, monitor.ROLE} == {"AcrPull"}
    assert roles["AcrPull"].scope == EVERYTHING["registryId"]


def test_every_role_is_given_to_a_service(everything: Deployment) -> None:
    """Every assignment says that it is for a service, which Azure need not look up, and has a name of its own."""
    made = everything.of("Microsoft.Authorization/roleAssignments")
    assert {one.body["properties"]["principalType"] for one in made} == {"ServicePrincipal"}
    assert len({one.name for one in made}) == len(made) == 6
    assert granted(everything, "<orders-logs.identity.principalId>").keys() == {
        "Log Analytics Contributor",
        "Monitoring Contributor",
    }


@pytest.mark.parametrize("knobs", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_the_store_is_closed(knobs: dict[str, Any]) -> None:
    """The account takes no keys, no old TLS and no anonymous reader, and answers machines and operators only."""
    made = deploy(**knobs)
    properties = made.only("Microsoft.Storage/storageAccounts").body["properties"]
    assert properties["minimumTlsVersion"] == "TLS1_2"
    for name in ("supportsHttpsTrafficOnly", "defaultToOAuthAuthentication"):
        assert properties[name] is True
    for name in ("allowSharedKeyAccess", "allowBlobPublicAccess", "allowCrossTenantReplication", "isLocalUserEnabled"):
        assert properties[name] is False
    rules = properties["networkAcls"]
    assert rules["defaultAction"] == "Deny"
    assert [one["id"] for one in rules["virtualNetworkRules"]] == [
        f"{HERE}/providers/Microsoft.Network/virtualNetworks/orders/subnets/workers"
    ]
    assert [one["value"] for one in rules["ipRules"]] == knobs.get("operatorIps", [])


def test_documents_have_no_past(plain: Deployment) -> None:
    """The container keeps no versions and nothing deleted, and its account has no folders."""
    blobs = plain.only("Microsoft.Storage/storageAccounts/blobServices").body["properties"]
    assert blobs["isVersioningEnabled"] is False
    assert not any(blobs[name]["enabled"] for name in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"))
    assert plain.only("Microsoft.Storage/storageAccounts").body["properties"]["isHnsEnabled"] is False
    assert plain.only("Microsoft.Storage/storageAccounts/blobServices/containers").body["properties"] == {
        "publicAccess": "None"
    }


def test_the_network_lets_nobody_in(plain: Deployment, everything: Deployment) -> None:
    """Nobody gets in, but operators with their key from inside the network; out goes everything through the gateway."""
    for made, opened in ((plain, []), (everything, ["22"])):
        rules = made.only("Microsoft.Network/networkSecurityGroups").body["properties"]["securityRules"]
        found = [one["properties"] for one in rules]
        assert [one["destinationPortRange"] for one in found if one["access"] == "Allow"] == opened
        assert max(found, key=lambda one: one["priority"])["access"] == "Deny"
    (subnet,) = plain.only("Microsoft.Network/virtualNetworks").body["properties"]["subnets"]
    assert subnet["properties"]["defaultOutboundAccess"] is False
    assert subnet["properties"]["natGateway"]["id"] == plain.only("Microsoft.Network/natGateways").id
    assert subnet["properties"]["serviceEndpoints"] == [{"service": "Microsoft.Storage"}]


def test_a_subnet_of_ones_own() -> None:
    """In a given subnet no network is made, and the store knows the machines by that subnet."""
    subnet = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
    made = deploy(**PLAIN, subnetIds=[subnet])
    for kind in ("virtualNetworks", "natGateways", "publicIPAddresses"):
        assert made.of(f"Microsoft.Network/{kind}") == []
    (interface,) = profile(made)["networkProfile"]["networkInterfaceConfigurations"]
    (address,) = interface["properties"]["ipConfigurations"]
    assert address["properties"]["subnet"] == {"id": subnet}
    assert interface["properties"]["networkSecurityGroup"]["id"].endswith("/networkSecurityGroups/orders")
    rules = made.only("Microsoft.Storage/storageAccounts").body["properties"]["networkAcls"]
    assert rules["virtualNetworkRules"] == [{"action": "Allow", "id": subnet}]


def test_machines_are_asked_and_replaced(plain: Deployment) -> None:
    """The health extension 2.0 asks the worker's own path and port, and repair and upgrade go by its answer."""
    health, properties = extension(plain, "health"), plain.only(SCALE_SET).body["properties"]
    assert (health["type"], health["typeHandlerVersion"]) == ("ApplicationHealthLinux", "2.0")
    settings = health["settings"]
    assert (settings["protocol"], settings["port"], settings["requestPath"]) == ("http", 8080, "/healthz/azure")
    assert properties["orchestrationMode"] == "Flexible"
    assert properties["automaticRepairsPolicy"] == {"enabled": True, "gracePeriod": "PT30M", "repairAction": "Replace"}
    policy = properties["upgradePolicy"]
    assert policy["mode"] == "Rolling"
    assert policy["rollingUpgradePolicy"]["maxSurge"] is True


def test_another_user_data_is_another_model() -> None:
    """What machines get at their first boot is part of the model that a rolling upgrade compares."""
    tags = [extension(deploy(**PLAIN, **more), "health")["forceUpdateTag"] for more in ({}, {}, {"app": "jobs:other"})]
    assert tags[0] == tags[1] != tags[2]


def test_the_end_is_announced(plain: Deployment, everything: Deployment) -> None:
    """Regular machines get their notice; Spot machines, which get none, go when Azure wants them back."""
    notice = {"terminateNotificationProfile": {"enable": True, "notBeforeTimeout": "PT5M"}}
    told = [(profile(made)["priority"], profile(made)["scheduledEventsProfile"]) for made in (plain, everything)]
    assert told == [("Regular", notice), ("Spot", None)]
    assert profile(plain)["evictionPolicy"] is None
    assert profile(everything)["evictionPolicy"] == "Delete"
    assert profile(everything)["billingProfile"] == {"maxPrice": -1}
    assert "WORKER_HOST_NOTICE" not in everything.outputs["workerEnvironment"]


def test_machines_get_what_infra_boot_renders() -> None:
    """The user data is the template of infra/boot, filled byte for byte as its own tests fill it."""
    knobs = {**PLAIN, "stopGraceSeconds": 120, "adminPort": 9090, "environment": {"WORKER_FOO": '${image} "$x" #y'}}
    made = deploy(**knobs)
    filled = values(
        "azure",
        stop_grace="120",
        admin_port="9090",
        image=PLAIN["image"],
        identity_client_id=made.outputs["identity"],
        environment=encoded(dict(sorted(made.outputs["workerEnvironment"].items()))),
    )
    assert base64.b64decode(profile(made)["userData"]).decode() == render(filled)


def test_the_runtime_starts_with_the_settings(plain: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own rules accept the settings that a machine gets, which name the fleet, its store and its host."""
    told = plain.outputs["workerEnvironment"]
    only(monkeypatch, {**told, "WORKER_STOP_GRACE": "90", "WORKER_ADMIN_PORT": "8080"})
    settings = load_settings()
    assert (settings.store, settings.fleet, settings.host) == (plain.outputs["store"], "orders", "azure")
    assert settings.azure_client_id == plain.outputs["identity"] == "<orders.properties.clientId>"
    assert (settings.lease, settings.drain_timeout, settings.host_notice) == (15, 60, 300)
    account = plain.only("Microsoft.Storage/storageAccounts").name
    assert plain.outputs["store"] == f"azure://{account}/fleet"


def test_nobody_has_the_key_of_the_machines(plain: Deployment, everything: Deployment) -> None:
    """Without an operator's key the machines have one whose point is a sentence's hash, so that nobody signs in."""
    point = hashlib.sha256(b"Nobody signs in to a worker.").digest()
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + point
    keys = [
        profile(made)["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"]
        for made in (plain, everything)
    ]
    assert keys == [f"ssh-ed25519 {base64.b64encode(blob).decode()}", EVERYTHING["sshPublicKey"]]
    assert profile(plain)["osProfile"]["linuxConfiguration"]["disablePasswordAuthentication"] is True


def test_the_fleet_is_scaled_by_what_it_publishes() -> None:
    """It grows by the leader's figure or an intake's, shrinks by the leader's alone, and keeps to Azure's ten rules."""
    made = deploy(**PLAIN, queues={f"queue-q{number:02}x": {"partitions": 1} for number in range(12)})
    (scaled,) = made.only("Microsoft.Insights/autoscalesettings").body["properties"]["profiles"]
    triggers = [(one["scaleAction"]["direction"], one["metricTrigger"]) for one in scaled["rules"]]
    assert len(triggers) == 10
    account = made.only("Microsoft.Storage/storageAccounts").id
    for direction, trigger in triggers:
        if trigger["metricName"] == monitor.METRIC:
            assert trigger["metricNamespace"] == monitor.NAMESPACE
            assert trigger["metricResourceUri"] == made.outputs["group"]
            assert trigger["dimensions"] == [
                {"DimensionName": monitor.DIMENSION, "Operator": "Equals", "Values": ["orders"]}
            ]
        else:
            assert direction == "Increase"
            assert trigger["metricResourceUri"].startswith(f"{account}/services/queue/queues/queue-q")
    by_figure = {direction: one for direction, one in triggers if one["metricName"] == monitor.METRIC}
    assert (by_figure["Increase"]["operator"], by_figure["Increase"]["threshold"]) == ("GreaterThan", 100)
    assert (by_figure["Decrease"]["operator"], by_figure["Decrease"]["threshold"]) == ("LessThan", 25)
    assert scaled["capacity"] == {"minimum": "2", "maximum": "10", "default": "2"}


def test_a_stopped_fleet_stays_stopped() -> None:
    """With no machines at the most there is no rule that could ask for one."""
    made = deploy(**PLAIN, instances={"min": 0, "max": 0})
    (scaled,) = made.only("Microsoft.Insights/autoscalesettings").body["properties"]["profiles"]
    assert scaled["rules"] == []
    assert made.only(SCALE_SET).body["sku"]["capacity"] == 0


def test_the_logs_find_their_way(plain: Deployment) -> None:
    """The facility that the boot unit writes as goes to the workspace, from an agent that signs in as the machines."""
    rule = plain.only("Microsoft.Insights/dataCollectionRules").body["properties"]
    assert rule["dataSources"]["syslog"][0]["facilityNames"] == ["local0"]
    (workspace,) = rule["destinations"]["logAnalytics"]
    assert workspace["workspaceResourceId"] == plain.outputs["logDestination"]
    assert rule["dataFlows"][0]["destinations"] == [workspace["name"]]
    identity = plain.only("Microsoft.ManagedIdentity/userAssignedIdentities").id
    assert extension(plain, "logs")["settings"]["authentication"]["managedIdentity"]["identifier-value"] == identity
    assert list(plain.only(SCALE_SET).body["identity"]["userAssignedIdentities"]) == [identity]


def test_names_that_azure_takes() -> None:
    """Azure takes the account's name, however long the fleet's is, and every resource has the fleet's tag."""
    for name in ("abc", "a-b-c-d-e-f-g-h", "abcdefghijklmnop"):
        made = deploy(**{**PLAIN, "name": name}, tags={"team": "x"})
        account = made.only("Microsoft.Storage/storageAccounts").name
        assert account.isalnum()
        assert account.islower()
        assert len(account) <= 24
        tags = [one.body["tags"] for one in made.resources if "tags" in one.body]
        assert len(tags) == 10
        assert all(one == {"cloud-worker-fleet": name, "team": "x"} for one in tags)
