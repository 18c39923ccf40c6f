# The whole stack on a provider that invents what AWS would answer. tests/infra reads the states of these runs, and has
# the hostile variables one by one, with their sentences.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-0a0a0a0a" }
  }
  mock_data "aws_ec2_instance_type" {
    defaults = { supported_architectures = ["x86_64"] }
  }
  mock_data "aws_ssm_parameter" {
    defaults = { insecure_value = "ami-0123456789abcdef0" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::the-bucket" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:the-group" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/the-policy" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/the-role" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/the-profile" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 7 }
  }
  mock_resource "aws_autoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:scalingPolicy:1:autoScalingGroupName/g:policyName/p" }
  }
}

variables {
  name     = "orders"
  location = "eu-central-1"
  image    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/cloud-worker@sha256:4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f"
}

run "defaults" {
  command = apply

  assert {
    condition     = length(aws_sqs_queue.this) == 18 && alltrue([for queue in aws_sqs_queue.this : queue.message_retention_seconds == 1209600])
    error_message = "Sixteen partitions, an intake and a dead-letter queue, each of which keeps messages for 14 days."
  }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "The metadata service answers with a token only, and nobody behind the machine."
  }

  assert {
    condition     = aws_autoscaling_lifecycle_hook.drain[0].heartbeat_timeout == 300 && output.worker_environment.WORKER_HOST_NOTICE == "300"
    error_message = "The hook waits as long as the workers are told."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 2 && length(aws_vpc_endpoint.s3) == 1
    error_message = "A way out in each of two zones, and one to S3 that costs nothing."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.wake) == 0
    error_message = "A fleet that always has machines needs no alarm to wake it."
  }
}

run "another" {
  command = apply

  variables {
    image          = "ghcr.io/team/cloud-worker@sha256:4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f"
    subnet_ids     = ["subnet-0a0a0a0a", "subnet-0b0b0b0b"]
    instances      = { min = 0 }
    spot           = true
    notice_seconds = null
    queue_prefix   = "staging-"
    queues         = { "ledger.fifo" = { partitions = 2 }, invoices = { partitions = 8 } }
    environment    = { WORKER_LOG_LEVEL = "debug" }
    tags           = { Owner = "us" }
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && toset(aws_autoscaling_group.this.vpc_zone_identifier) == toset(var.subnet_ids)
    error_message = "The group is in the subnets that were given, and no network is made."
  }

  assert {
    condition     = aws_autoscaling_group.this.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 0
    error_message = "All machines are Spot."
  }

  assert {
    condition     = length(aws_autoscaling_lifecycle_hook.drain) == 0 && !contains(keys(output.worker_environment), "WORKER_HOST_NOTICE")
    error_message = "No notice: no hook, and the workers are told of none."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.wake) == 2 && length(aws_autoscaling_policy.wake) == 1
    error_message = "Two intakes and ten partitions are looked at, nine by an alarm."
  }
}

run "refuses_a_tag" {
  command = plan

  variables {
    image = "ghcr.io/team/cloud-worker:latest"
  }

  expect_failures = [var.image]
}

run "refuses_a_drain_that_does_not_fit" {
  command = plan

  variables {
    drain_seconds      = 280
    stop_grace_seconds = 300
  }

  expect_failures = [var.notice_seconds]
}

run "refuses_an_environment_that_does_not_fit" {
  command = plan

  variables {
    environment = { WORKER_INSTANCE = join("", [for number in range(500) : sha512(tostring(number))]) }
  }

  expect_failures = [aws_launch_template.this]
}
