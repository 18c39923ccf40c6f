"""S3 with conditional writes, and SQS."""

from __future__ import annotations

from providers.aws.driver import AwsDriver

__all__ = ["AwsDriver"]
