"""moto's server for Terraform: the tests' own (`tests/moto_server.py`), and what it is told but does not tell again.

Terraform reads back what it has made. Where moto forgets a part, the next plan would put it right for ever:

    Auto Scaling    a group's warm-up, its machines' longest life and its maintenance policy are forgotten;
                    a hook without a topic has an invented one; a policy is off unless it says on
    EC2             a launch template's own tags turn up among those of its machines

Run as a program, with `moto_server`'s arguments. Each gap that moto closes may go from here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a program run in isolation finds nothing of ours

from tests import moto_server

GROUP = {
    "DefaultInstanceWarmup": "default_instance_warmup",
    "MaxInstanceLifetime": "max_instance_lifetime",
    "InstanceMaintenancePolicy": "instance_maintenance_policy",
}
"""What a group forgets: the parameter, and the attribute that moto's answer is made of."""


def remember(responses: type[Any], method: str) -> None:
    """Let a request that makes or changes a group keep all of it."""
    ask = getattr(responses, method)

    def asked(self: Any) -> Any:
        answer, told = ask(self), self._get_params()
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        for parameter, attribute in GROUP.items():
            if parameter in told:
                value = told[parameter]
                setattr(group, attribute, int(value) if isinstance(value, str) else value)
        return answer

    setattr(responses, method, asked)


def after(kind: type[Any], change: Callable[[Any], None]) -> None:
    """Let `change` put right what a new object of this kind holds."""
    make = kind.__init__

    def made(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        change(self)

    kind.__init__ = made


def switch_on(policy: Any) -> None:
    """A policy is on, and predicts only if it was told to."""
    policy.enabled = True
    policy.predictive_scaling_configuration = policy.predictive_scaling_configuration or None


def tell_nobody(hook: Any) -> None:
    """A hook tells whom it was told to tell: here nobody."""
    hook.notification_target_arn = hook.role_arn = None


def keep_own_tags(version: Any) -> None:
    """A launch template's own tags are none of its machines'."""
    tagged = version.data.get("TagSpecifications", [])
    version.data["TagSpecifications"] = [one for one in tagged if one["ResourceType"] != "launch-template"]


def main(arguments: list[str]) -> None:
    """Serve until ended."""
    moto_server.prepare()
    from moto.autoscaling import models, responses  # not before that
    from moto.ec2.models import launch_templates

    for method in ("create_auto_scaling_group", "update_auto_scaling_group"):
        remember(responses.AutoScalingResponse, method)
    after(models.FakeScalingPolicy, switch_on)
    after(models.LifecycleHook, tell_nobody)
    after(launch_templates.LaunchTemplateVersion, keep_own_tags)
    moto_server.serve(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
