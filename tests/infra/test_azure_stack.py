"""The stack on Azure as Terraform plans it: by the provider's schema, on mocks, and against what the runtime has."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from providers.azure import monitor
from tests.infra.azure_terraform import STACK, State, Terraform, only, states, terraform, types, whole
from tests.infra.azurerm_schema import NoSuchType, read_schema
from tests.infra.boot_support import DIGEST, environment, render, values, written
from worker.settings import load_settings
from worker.supervisor import Supervisor
from worker.web.health import azure_health

REGISTRY = "/subscriptions/s/resourceGroups/shared/providers/Microsoft.ContainerRegistry/registries/myacr"
"""What the run `everything` names."""

LIMIT = 64 * 1024
"""Characters of user data, in base64, that Azure takes."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Return Terraform for a copy of the whole stack, initialized."""
    made = whole(tmp_path_factory.mktemp("azure"))
    made.done("init", "-input=false")
    return made


@pytest.fixture(scope="module")
def tested(stack: Terraform) -> dict[str, State]:
    """Return what each run of the stack's own tests has made, all of them passed."""
    return dict(states(stack.done("test", "-json", "-verbose")))


@pytest.fixture(scope="module")
def made(tested: dict[str, State]) -> State:
    """Return what the defaults make."""
    return tested["defaults"]


def machines(state: State) -> dict[str, Any]:
    return state.resources["azurerm_orchestrated_virtual_machine_scale_set.this"]


def user_data(state: State) -> str:
    return base64.b64decode(machines(state)["user_data_base64"]).decode()


# --- the files ---


def test_it_is_formatted(tmp_path: Path) -> None:
    """All files are as `terraform fmt` has them."""
    copy = tmp_path / "stack"
    shutil.copytree(STACK, copy, ignore=shutil.ignore_patterns(".terraform*"))
    assert terraform(copy).run("fmt", "-check", "-recursive", "-diff").stdout == ""


def test_files_have_one_subject_each() -> None:
    """No file is longer than 300 lines, and each of the stack's parts is in its own."""
    names = {path.name: len(path.read_text().splitlines()) for path in STACK.rglob("*.tf")}
    assert {"terraform.tf", "variables.tf", "locals.tf", "outputs.tf"} <= set(names)
    assert {name: lines for name, lines in names.items() if lines > 300} == {}


def test_the_outputs_are_those_of_the_other_stacks() -> None:
    """The outputs are the six that every stack has."""
    outputs = re.findall(r'(?m)^output "(\w+)"', (STACK / "outputs.tf").read_text())
    assert outputs == ["worker_environment", "store", "queue_names", "group", "identity", "log_destination"]


# --- the schema ---


def test_it_fits_the_provider(stack: Terraform) -> None:
    """The provider's schema accepts the stack and its example."""
    assert json.loads(stack.done("validate", "-json"))["valid"]
    example = Terraform(stack.folder / "examples" / "default", stack.settings)
    example.done("init", "-input=false")
    assert json.loads(example.done("validate", "-json"))["valid"]


@pytest.mark.parametrize(
    "file, right, wrong, words",
    [
        ("main.fleet.tf", "automatic_instance_repair {", "automatic_repairs {", "not expected here"),
        ("main.fleet.tf", "platform_fault_domain_count = 1", "", '"platform_fault_domain_count" is required'),
        ("main.store.tf", "storage_account_id   ", "storage_account_name", "not expected here"),
        ("main.fleet.tf", "max_batch_instance_percent              = 20", "max_batch_instance_percent = []", "number"),
        ("main.logs.tf", "identity[0].principal_id", "identity[0].object_id", "no argument, nested block, or exported"),
    ],
)
def test_the_schema_refuses(file: str, right: str, wrong: str, words: str, stack: Terraform, tmp_path: Path) -> None:
    """A block, an argument, a type or an answer that the provider does not have is found."""
    root = tmp_path / "root"
    shutil.copytree(stack.folder.parents[2], root, symlinks=True, ignore=shutil.ignore_patterns("mirror"))
    broken = root / "infra" / "azure" / "terraform"
    text = (broken / file).read_text()
    assert right in text
    (broken / file).write_text(text.replace(right, wrong, 1))
    told = json.loads(Terraform(broken, stack.settings).run("validate", "-json").stdout)
    assert [it for it in told["diagnostics"] if words in it["detail"]], told


def test_the_schema_knows_no_other_type(stack: Terraform) -> None:
    """A type that the provider does not have has no schema to be served."""
    bindings = Path(re.findall(r'exec "(.*)/bin/python"', _plugin(stack))[0])
    (site_packages,) = bindings.glob("lib/python*/site-packages")
    with pytest.raises(NoSuchType, match="azurerm_virtual_machine_fleet_of_mine"):
        read_schema(site_packages, [*types("resource"), "azurerm_virtual_machine_fleet_of_mine"], [])


def _plugin(stack: Terraform) -> str:
    (plugin,) = stack.folder.parents[2].glob("mirror/**/terraform-provider-*")
    return plugin.read_text()


# --- what it makes ---


def test_the_machines_get_what_infra_boot_renders(made: State) -> None:
    """The user data is the template, filled with the worker's settings, the image and the identity."""
    settings = made.outputs["worker_environment"]
    filled = values(
        "azure",
        environment=environment(dict(sorted(settings.items()))),
        stop_grace="90",
        image=f"myacr.azurecr.io/team/cloud-worker@{DIGEST}",
        identity_client_id=made.outputs["identity"],
    )
    assert user_data(made) == render(filled)
    assert len(machines(made)["user_data_base64"]) < LIMIT


def test_another_model_is_another_upgrade(tested: dict[str, State]) -> None:
    """The health extension names the user data, so that Azure sees another model when that is another."""
    for state in tested.values():
        (health,) = [it for it in machines(state)["extension"] if it["type"] == "ApplicationHealthLinux"]
        told = health["force_extension_execution_on_change"]
        assert told == hashlib.sha256(user_data(state).encode()).hexdigest()


def test_the_runtime_starts_with_the_settings(tested: dict[str, State], monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime accepts the settings that every machine gets, and they say what the resources are."""
    for state in tested.values():
        with monkeypatch.context() as patched:
            file = written(user_data(state))["/etc/cloud-worker/worker.env"].text
            told = dict(line.split("=", 1) for line in file.splitlines() if line)
            only(patched, told)
            settings = load_settings()
        account = state.resources["azurerm_storage_account.this"]["name"]
        assert re.fullmatch(r"[a-z0-9]{3,24}", account)
        assert settings.store == state.outputs["store"] == f"azure://{account}/fleet"
        assert settings.host == "azure"
        assert settings.azure_client_id == state.outputs["identity"]
        assert settings.fleet == "orders"
        assert set(state.outputs["worker_environment"]) == set(told) - {"WORKER_STOP_GRACE", "WORKER_ADMIN_PORT"}
        notices = [it["timeout"] for it in machines(state)["termination_notification"]]
        assert notices == ([f"PT{settings.host_notice / 60:.0f}M"] if settings.host_notice else [])


def test_the_health_extension_asks_what_the_worker_answers(tested: dict[str, State]) -> None:
    """The extension asks the path of the rich protocol, on the port that the worker listens on."""
    none: Supervisor | None = None
    assert azure_health(none) == {"ApplicationHealthState": "Healthy"}
    for state in tested.values():
        (health,) = [it for it in machines(state)["extension"] if it["type"] == "ApplicationHealthLinux"]
        assert health["publisher"] == "Microsoft.ManagedServices"
        assert health["type_handler_version"] == "2.0"
        asked = json.loads(health["settings"])
        assert (asked["protocol"], asked["requestPath"]) == ("http", "/healthz/azure")
        assert f"WORKER_ADMIN_PORT={asked['port']}" in user_data(state)
        assert 5 <= asked["intervalInSeconds"] <= 60
        assert 1 <= asked["numberOfProbes"] <= 24
        assert asked["gracePeriod"] <= 14400


def test_the_logs_agent_signs_in_as_the_machine(made: State) -> None:
    """The agent uses the machines' one identity, and takes the facility that the unit writes to."""
    (agent,) = [it for it in machines(made)["extension"] if it["type"] == "AzureMonitorLinuxAgent"]
    (identity,) = machines(made)["identity"][0]["identity_ids"]
    told = json.loads(agent["settings"])["authentication"]["managedIdentity"]
    assert told == {"identifier-name": "mi_res_id", "identifier-value": identity}
    (facility,) = made.resources["azurerm_monitor_data_collection_rule.this"]["data_sources"][0]["syslog"][0][
        "facility_names"
    ]
    assert f"SyslogFacility={facility}" in user_data(made)


def test_the_fleet_is_scaled_by_what_it_publishes(tested: dict[str, State]) -> None:
    """Growing and shrinking go by the published backlog of this fleet; each intake may only let it grow."""
    for name in ("defaults", "everything"):
        state = tested[name]
        (profile,) = state.resources["azurerm_monitor_autoscale_setting.this"]["profile"]
        rules = [(it["metric_trigger"][0], it["scale_action"][0]) for it in profile["rule"]]
        assert len(rules) <= 10
        backlog = [(metric, does) for metric, does in rules if metric["metric_name"] == monitor.METRIC]
        assert [does["direction"] for _, does in backlog] == ["Increase", "Decrease"]
        for metric, _ in backlog:
            assert metric["metric_namespace"] == monitor.NAMESPACE
            assert metric["metric_resource_id"] == state.outputs["group"]
            assert metric["dimensions"] == [
                {
                    "name": monitor.DIMENSION,
                    "operator": "Equals",
                    "values": [state.outputs["worker_environment"]["WORKER_FLEET"]],
                }
            ]
        intakes = [(metric, does) for metric, does in rules if metric["metric_name"] != monitor.METRIC]
        assert intakes
        assert {does["direction"] for _, does in intakes} == {"Increase"}
        account = state.resources["azurerm_storage_account.this"]["id"]
        for metric, _ in intakes:
            place, _, queue = metric["metric_resource_id"].rpartition("/")
            assert place == f"{account}/services/queue/queues"
            assert queue in state.outputs["queue_names"]
            assert metric["metric_name"] == "ApproximateMessageCount"
        assert all(metric["divide_by_instance_count"] for metric, _ in rules)


def test_a_step_down_is_not_followed_by_a_step_up(made: State) -> None:
    """After a shrink by one machine, the backlog that allowed it is below what lets the fleet grow."""
    (profile,) = made.resources["azurerm_monitor_autoscale_setting.this"]["profile"]
    thresholds = {it["scale_action"][0]["direction"]: it["metric_trigger"][0]["threshold"] for it in profile["rule"]}
    assert thresholds["Decrease"] * 2 < thresholds["Increase"]  # at worst, half of the machines are gone


def test_the_roles_end_at_the_fleet(tested: dict[str, State]) -> None:
    """Every role of the machines is on the fleet's own container, account or scale set, or on the registry."""
    for name, state in tested.items():
        account = state.resources["azurerm_storage_account.this"]["id"]
        wanted = {
            "Storage Blob Data Contributor": f"{account}/blobServices/default/containers/fleet",
            "Storage Queue Data Contributor": account,
            "Monitoring Metrics Publisher": state.outputs["group"],
        }
        if name == "everything":
            wanted["AcrPull"] = REGISTRY
        identity = state.resources["azurerm_user_assigned_identity.this"]["principal_id"]
        given = [it for path, it in state.resources.items() if path.startswith("azurerm_role_assignment.")]
        mine = {it["role_definition_name"]: it["scope"] for it in given if it["principal_id"] == identity}
        assert mine == wanted
        assert {it["principal_type"] for it in given} == {"ServicePrincipal"}


def test_nobody_has_the_key_of_the_machines() -> None:
    """The key of machines that nobody signs in to is a point on its curve, and the hash of the sentence beside it."""
    text = (STACK / "main.fleet.tf").read_text()
    (sentence,) = re.findall(r'# "(Nobody .*)", and nobody', text)
    (encoded,) = re.findall(r'"ssh-ed25519 (\S+)"', text)
    point = hashlib.sha256(sentence.encode()).digest()
    assert base64.b64decode(encoded) == b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + point
    assert _on_the_curve(point)
    assert not _on_the_curve(hashlib.sha256(b"Nobody has this key.").digest())


def _on_the_curve(point: bytes) -> bool:
    """Say whether an encoded point is one of edwards25519 (RFC 8032, 5.1.3)."""
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime) % prime
    y = int.from_bytes(point, "little") & (2**255 - 1)
    x_squared = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
    return y < prime and pow(x_squared, (prime - 1) // 2, prime) == 1
