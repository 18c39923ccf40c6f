"""Auto Scaling groups on moto: what Terraform makes in earnest, for tests of the machines in them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from providers.aws.scaling import TERMINATING
from tests.fake_metadata import REGION

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient


def make_group(aws: AutoScalingClient, size: int) -> tuple[str, list[str]]:
    """Make a group of so many machines; return its name and their ids."""
    name = f"group-{secrets.token_hex(4)}"
    aws.create_launch_configuration(LaunchConfigurationName=name, ImageId="ami-1", InstanceType="t3.micro")
    aws.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchConfigurationName=name,
        MinSize=0,
        MaxSize=size,
        DesiredCapacity=size,
        AvailabilityZones=[f"{REGION}a"],
    )
    [group] = aws.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return name, [one["InstanceId"] for one in group["Instances"]]


def add_hook(
    aws: AutoScalingClient, group: str, name: str = "drain", timeout: int = 90, transition: str = TERMINATING
) -> None:
    """Have the group wait for its machines, so many seconds for each heartbeat."""
    aws.put_lifecycle_hook(
        AutoScalingGroupName=group, LifecycleHookName=name, LifecycleTransition=transition, HeartbeatTimeout=timeout
    )
