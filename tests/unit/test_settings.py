"""Settings: every mistake is found at the start, named with its value and its fix, one line each."""

from __future__ import annotations

from dataclasses import fields

import pytest

from providers.http_url import without_secrets
from providers.options import StoreOptions
from worker.core.names import check_instance_name
from worker.errors import ConfigurationError
from worker.settings import Settings, host_instance_name, load_settings, variable
from worker.settings_text import env_example, markdown, show


def problems(**flags: object) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**flags)
    return str(caught.value).splitlines()


def test_defaults_are_a_clouds_and_sqlite_is_faster() -> None:
    """A cloud's lease must last 15 seconds and a local one 3, and all else must follow from it."""
    cloud, local = load_settings(), load_settings(store="sqlite:///x.db")
    assert (cloud.leader.lease, cloud.member.lease, cloud.drain_seconds) == (15, 45, 60)
    assert (local.leader.lease, local.leader.renew, local.member.lease) == (3, 0.6, 9)
    assert cloud.app == "jobs:app"
    assert check_instance_name(cloud.instance_name)


def test_there_is_no_default_store() -> None:
    """A forgotten store must be an error that lists what a store may look like."""
    settings = load_settings()
    with pytest.raises(ConfigurationError, match=r"WORKER_STORE is not set.*sqlite:///.*azure://.*s3://"):
        settings.need_store()


def test_the_environment_is_read_and_a_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable must be obeyed, a flag must win over it, and an empty variable must count as unset."""
    monkeypatch.setenv("WORKER_STORE", "sqlite:///a.db")
    monkeypatch.setenv("WORKER_FLEET", "")
    monkeypatch.setenv("WORKER_TERM", "7")
    assert load_settings().store == "sqlite:///a.db"
    assert load_settings(store="sqlite:///b.db", app=None).store == "sqlite:///b.db"
    assert load_settings().fleet == "default"


def test_an_env_file_is_not_read(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that lies in the working directory must not choose a fleet's store."""
    monkeypatch.chdir(str(tmp_path))
    with open(".env", "w") as file:
        file.write("WORKER_STORE=sqlite:///surprise.db\n")
    assert load_settings().store is None


def test_what_tests_are_told_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that a test starts does not stumble over what the test itself was told."""
    monkeypatch.setenv("WORKER_STORE", "memory:")
    monkeypatch.setenv("WORKER_TEST_MINIO", "http://127.0.0.1:9000")
    assert load_settings().store == "memory:"


def test_an_unknown_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable must not silently leave a default in force."""
    monkeypatch.setenv("WORKER_STROE", "sqlite:///a.db")
    assert problems() == [
        "WORKER_STROE is not a setting: did you mean WORKER_STORE? Rename or unset it (`worker config env`)"
    ]


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody must have to start a worker once per mistake."""
    monkeypatch.setenv("WORKER_LEASE", "soon")
    monkeypatch.setenv("WORKER_LOG_LEVEL", "loud")
    monkeypatch.setenv("WORKER_FLEETS", "x")
    found = problems(concurrency="0")
    assert len(found) == 4
    assert "WORKER_LEASE='soon' must be a positive number of seconds, at most 60; for example WORKER_LEASE=15" in found
    assert any(line.startswith("--concurrency='0' must be a whole number") for line in found)


@pytest.mark.parametrize(
    "name, value",
    [
        ("lease", "0"),
        ("lease", "-3"),
        ("lease", "inf"),
        ("lease", "nan"),
        ("concurrency", "1.5"),
        ("host", "gcp"),
        ("endpoint_url", "127.0.0.1:9000"),
        ("endpoint_url", "ftp://127.0.0.1"),
        ("endpoint_url", "http://"),
        ("endpoint_url", "http://127.0.0.1:99999"),
        ("endpoint_url", "http://127.0.0.1:port"),
        ("endpoint_url", "http://a b"),
        ("endpoint_url", "http://[::1"),
        ("queue_endpoint_url", "localhost"),
        ("host_url", "http://:80"),
        ("host_url", "nonsense"),
        ("aws_region", "eu central 1"),
        ("aws_region", "EU-CENTRAL-1"),
        ("aws_region", "eu-central-1/"),
        ("lease", "61"),
        ("lease", "1e9"),
        ("queue_prefix", "staging"),
        ("queue_prefix", "-"),
        ("queue_prefix", "a--"),
        ("queue_prefix", "1a-"),
        ("queue_prefix", "Staging-"),
        ("queue_prefix", "x" * 20 + "-"),
        ("azure_credential", "cli"),
        ("idle_poll", "0"),
        ("fleet", "a b"),
        ("instance", "~"),
    ],
)
def test_a_bad_value_is_named_with_its_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each problem must name the variable, the value, and what it must be."""
    monkeypatch.setenv(variable(name), value)
    [line] = problems()
    assert line.startswith(f"{variable(name)}={value!r} must be ")


def test_impossible_timings_name_both_values_and_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings that contradict each other must be refused with the sum and the variables that can be changed."""
    monkeypatch.setenv("WORKER_LEASE_GRACE", "10")
    [line] = problems()
    assert "grace 10" in line
    assert "lease 15 x 0.9 = 13.5 s" in line
    assert line.endswith("Set by WORKER_LEASE_GRACE=10")


def test_a_member_lease_that_others_would_not_wait_for_is_refused() -> None:
    """A member may not act for longer than it is waited for when nothing is known of it; the longest lease is fine."""
    [line] = problems(member_lease=600)
    assert "member's lease of 600 s" in line
    assert "300 s is the limit" in line
    assert "WORKER_MEMBER_LEASE=600" in line
    assert load_settings(lease=60).member.lease == 180


def test_impossible_member_timings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member's timings must be checked as a leader's are."""
    monkeypatch.setenv("WORKER_MEMBER_GRACE", "44")
    [line] = problems()
    assert line.startswith("of a member: ")
    assert "WORKER_MEMBER_GRACE=44" in line


@pytest.mark.parametrize("lease", [14, 20.5])
def test_azure_leases_are_whole_seconds_from_15_to_60(lease: float) -> None:
    """A lease that Azure would refuse must be refused before anything is deployed."""
    [line] = problems(store="azure://account/container", lease=lease)
    assert "15 to 60" in line


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret may stand in what `config show` prints."""
    monkeypatch.setenv("WORKER_ADMIN_TOKEN", "hunter2")
    shown = show(load_settings(endpoint_url="http://127.0.0.1:9000"), {"endpoint_url": "x"})
    assert "hunter2" not in str(shown)
    assert {one.variable: one.source for one in shown}["WORKER_ADMIN_TOKEN"] == "environment"
    assert {one.variable: one.source for one in shown}["WORKER_ENDPOINT_URL"] == "flag"
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@127.0.0.1:9000",
        "http://me:hunter2/hunter2?hunter2@127.0.0.1:9000",
        "http://127.0.0.1:9000/account?sig=hunter2",
        "http://127.0.0.1:9000/account?sig=hunter2@hunter2",
        "http://me:hunter2@127.0.0.1:9000/account?sig=hunter2",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    """A URL with somebody's password or signature must be refused, without printing it into a log."""
    [line] = problems(endpoint_url=url)
    assert "without a password" in line
    assert "hunter2" not in line
    assert "hunter2" not in without_secrets(url)


@pytest.mark.parametrize("prefix", ["", "staging-", "a-b-", "a-1-", "v2-", "x" * 19 + "-"])
def test_a_good_queue_prefix_is_taken(prefix: str) -> None:
    """Up to twenty lower-case letters, digits and single hyphens, ending in one, may go before a queue's name."""
    assert load_settings(queue_prefix=prefix).store_options.queue_prefix == prefix


def test_how_the_store_is_reached_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting about the store reaches the driver as it was set, the secret one included."""
    values = {
        "endpoint_url": "http://127.0.0.1:1",
        "queue_endpoint_url": "https://127.0.0.1:2",
        "queue_prefix": "staging-",
        "aws_region": "eu-central-1",
        "azure_connection_string": "AccountName=a;AccountKey=hunter2",
        "azure_credential": "default",
        "azure_client_id": "some-id",
    }
    for name, value in values.items():
        monkeypatch.setenv(variable(name), value)
    assert load_settings().store_options == StoreOptions(**values)  # type: ignore[arg-type] # a literal among strings
    assert {field.name for field in fields(StoreOptions)} == set(values)


def test_an_account_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection string carries a key: neither errors, nor `config show`, nor a repr may show it."""
    monkeypatch.setenv("WORKER_AZURE_CONNECTION_STRING", "AccountKey=hunter2")
    settings = load_settings()
    assert "hunter2" not in str(show(settings, {})) + repr(settings) + repr(settings.store_options)
    monkeypatch.setenv("WORKER_QUEUE_PREFIX", "BAD")
    assert "hunter2" not in "".join(problems())


@pytest.mark.parametrize("name", ["admin_token", "azure_connection_string"])
def test_a_secret_of_the_wrong_kind_is_not_shown_either(name: str) -> None:
    """An error about a secret names its variable and never its value."""
    [line] = problems(**{name: ["hunter2"]})
    assert line.startswith(f"--{name.replace('_', '-')}='***' must be ")


def test_idle_polls_follow_from_the_lease() -> None:
    """An idle queue is looked at every third of a lease at the least, unless a setting says otherwise."""
    assert (load_settings().idle_seconds, load_settings(store="sqlite:///x.db").idle_seconds) == (5, 1)
    assert load_settings(idle_poll="0.5").idle_seconds == 0.5


def test_the_generated_texts_name_every_variable_and_are_the_same_every_time() -> None:
    """The example file and the table must be complete, and depend on nothing but the code."""
    for text in (env_example(), markdown()):
        for name in Settings.model_fields:
            assert variable(name) in text
    assert env_example() == env_example()
    assert host_instance_name("x") not in env_example().split("=")


@pytest.mark.parametrize(
    "host, name", [("vm-7", "vm-7"), ("ann's mac.local", "ann-s-mac.local"), ("_-.", "instance"), ("", "instance")]
)
def test_a_hosts_name_becomes_an_instances(host: str, name: str) -> None:
    """Whatever a host is called, its instance must have a valid name."""
    assert host_instance_name(host) == name
    assert check_instance_name(name)
