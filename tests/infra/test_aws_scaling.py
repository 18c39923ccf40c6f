"""The group on AWS: how it grows, shrinks and is rolled, and the arithmetic that decides."""

from __future__ import annotations

from typing import Any

import pytest

from providers.aws.scaling import LAUNCHING, METRIC, NAMESPACE, TERMINATING
from tests.infra.aws_support import State


def test_the_hooks_are_those_that_workers_heed(aws_defaults: State) -> None:
    """The hooks are of the driver's transitions: an unheld end goes on, an unfinished start fails."""
    hooks = aws_defaults.all("aws_autoscaling_lifecycle_hook")
    assert {hook["lifecycle_transition"]: hook["default_result"] for hook in hooks} == {
        TERMINATING: "CONTINUE",
        LAUNCHING: "ABANDON",
    }
    assert len({hook["name"] for hook in hooks}) == len(hooks) == 2


def test_a_roll_is_taken_back_when_it_fails(aws_defaults: State) -> None:
    """A refresh replaces busy machines too, starts new ones first, and rolls back: to a version that has a number."""
    group = aws_defaults.one("aws_autoscaling_group.this")
    preferences: dict[str, Any] = group["instance_refresh"][0]["preferences"][0]
    assert (preferences["auto_rollback"], preferences["scale_in_protected_instances"]) == (True, "Refresh")
    assert group["instance_maintenance_policy"][0]["min_healthy_percentage"] == 100
    (template,) = group["mixed_instances_policy"][0]["launch_template"]
    assert template["launch_template_specification"][0]["version"] == "7"
    assert not aws_defaults.one("aws_launch_template.this")["image_id"].startswith("resolve:")


class Number(float):
    """A number as CloudWatch divides it: by nothing there is none."""

    def __truediv__(self, other: float) -> Number:
        return Number("nan") if other == 0 else Number(float(self) / float(other))

    def __add__(self, other: float) -> Number:
        return Number(float(self) + float(other))


def evaluate(expression: str, **metrics: float) -> float:
    """Evaluate metric math, as far as the module uses it; every metric has data."""
    names = {
        "IF": lambda condition, yes, no: yes if condition else no,
        "FILL": lambda metric, value: metric,
        **{name: Number(value) for name, value in metrics.items()},
    }
    return float(eval(expression, {"__builtins__": {}}, names))


def test_the_group_follows_the_backlog_that_is_published(aws_defaults: State) -> None:
    """Target tracking reads the very metric that the leader publishes, for this fleet, and this group's size."""
    (policy,) = aws_defaults.all("aws_autoscaling_policy")
    tracking = policy["target_tracking_configuration"][0]
    metrics = {it["id"]: it for it in tracking["customized_metric_specification"][0]["metrics"]}
    (backlog,) = metrics["backlog"]["metric_stat"][0]["metric"]
    assert (backlog["namespace"], backlog["metric_name"]) == (NAMESPACE, METRIC)
    fleet = aws_defaults.output("worker_environment")["WORKER_FLEET"]
    assert backlog["dimensions"] == [{"name": "Fleet", "value": fleet}]
    (size,) = metrics["instances"]["metric_stat"][0]["metric"]
    assert size["dimensions"] == [{"name": "AutoScalingGroupName", "value": aws_defaults.output("group")}]
    assert size["metric_name"] in aws_defaults.one("aws_autoscaling_group.this")["enabled_metrics"]
    assert tracking["target_value"] == 100
    assert [it for it in metrics.values() if it["return_data"]] == [metrics["backlog_per_instance"]]


@pytest.mark.parametrize("backlog, instances, found", [(700, 7, 100), (0, 7, 0), (50, 0, 50), (0, 0, 0)])
def test_the_backlog_of_no_instance_is_a_number(
    aws_defaults: State, backlog: int, instances: int, found: float
) -> None:
    """What is tracked is the backlog of each instance, and a number where there is none."""
    (policy,) = aws_defaults.all("aws_autoscaling_policy")
    metrics = policy["target_tracking_configuration"][0]["customized_metric_specification"][0]["metrics"]
    (expression,) = [it["expression"] for it in metrics if it["expression"]]
    assert evaluate(expression, backlog=backlog, instances=instances) == found


def test_an_empty_group_is_woken_by_any_queue(aws_another: State) -> None:
    """A message in any intake or partition wakes an empty group, to one machine, and nothing wakes another."""
    watched = []
    for alarm in aws_another.all("aws_cloudwatch_metric_alarm"):
        queries = {it["id"]: it for it in alarm["metric_query"]}
        assert len(queries) <= 11  # ten metrics, and what is made of them
        expression, size = queries.pop("waiting")["expression"], queries.pop("instances")
        assert size["metric"][0]["metric_name"] == "GroupInServiceInstances"
        watched += [it["metric"][0]["dimensions"]["QueueName"] for it in queries.values()]
        empty = dict.fromkeys(queries, 0)
        assert evaluate(expression, instances=0, **empty) == 0
        for one in queries:
            assert evaluate(expression, instances=0, **{**empty, one: 3}) == 3 > alarm["threshold"]
            assert evaluate(expression, instances=1, **{**empty, one: 3}) == 0
    assert sorted(watched) == [name for name in aws_another.output("queue_names") if "-dlq" not in name]
    wake = aws_another.one("aws_autoscaling_policy.wake[0]")
    assert (wake["adjustment_type"], wake["step_adjustment"][0]["scaling_adjustment"]) == ("ExactCapacity", 1)
