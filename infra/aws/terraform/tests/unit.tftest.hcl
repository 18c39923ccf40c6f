# The whole stack on a provider that invents what AWS would answer. tests/infra reads the states of these runs.

mock_provider "aws" {
  source = "./tests/mocks"
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
