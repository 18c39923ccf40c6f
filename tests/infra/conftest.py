"""What is made once for all tests of the infrastructure."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.infra.aws_support import State, Terraform, stack, states


@pytest.fixture(scope="session")
def aws_module(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The module for AWS, initialised in a folder of its own."""
    return stack(tmp_path_factory.mktemp("aws"))


@pytest.fixture(scope="session")
def aws_runs(aws_module: Terraform) -> Mapping[str, State]:
    """The runs of the module's own tests, which must pass, and the states in which they left the stack."""
    return states(aws_module.ok("test", "-json", "-verbose", "-filter=tests/unit.tftest.hcl"))


@pytest.fixture(scope="session")
def aws_defaults(aws_runs: Mapping[str, State]) -> State:
    """The stack with nothing said but what must be."""
    return aws_runs["defaults"]


@pytest.fixture(scope="session")
def aws_another(aws_runs: Mapping[str, State]) -> State:
    """A stack on Spot, from zero, in given subnets, with its image in no registry of AWS's."""
    return aws_runs["another"]
