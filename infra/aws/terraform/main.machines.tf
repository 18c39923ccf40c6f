# The machines: how one is made, the group of them, and how one of them ends.

data "aws_ec2_instance_type" "this" {
  instance_type = var.instance_type
}

data "aws_ssm_parameter" "system" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${
    contains(data.aws_ec2_instance_type.this.supported_architectures, "arm64") ? "arm64" : "x86_64"
  }"
}

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_158:Encrypted with the service's own key, as everything here: the log holds no secret, and a key costs a service more to depend on.
  # checkov:skip=CKV_AWS_338:How long logs are kept is log_retention_days, and the user's to say.
  name              = local.log_name
  retention_in_days = var.log_retention_days
}

resource "aws_launch_template" "this" {
  name                   = local.full_name
  description            = "A worker of the fleet ${var.name}."
  update_default_version = true
  image_id               = data.aws_ssm_parameter.system.insecure_value # not resolve:ssm, with which no roll can be rolled back
  instance_type          = var.instance_type
  user_data              = local.user_data
  vpc_security_group_ids = [aws_security_group.this.id]

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # the container has the machine's network: nothing else gets so far
    instance_metadata_tags      = "disabled"
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 16
      encrypted             = "true"
      delete_on_termination = "true"
    }
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume", "network-interface"])

    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = local.full_name })
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.user_data) * 3 / 4 <= 16 * 1024
      error_message = "environment is too large: user data may have 16 KiB, and would have ${ceil(length(local.user_data) * 3 / 4 / 1024)}. Bring what is long with the image."
    }
  }
}

resource "aws_autoscaling_group" "this" {
  name                    = local.full_name
  min_size                = var.instances.min
  max_size                = var.instances.max
  vpc_zone_identifier     = local.subnet_ids
  default_instance_warmup = 180            # what a machine takes from its start to its first message, with time to spare
  max_instance_lifetime   = 30 * 24 * 3600 # no machine is patched: it is replaced by a newer one
  capacity_rebalance      = var.spot       # a machine at risk is replaced before it is taken
  termination_policies    = ["OldestLaunchTemplate", "OldestInstance"]
  enabled_metrics         = ["GroupDesiredCapacity", "GroupInServiceInstances"] # the second is what scaling divides by

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 0
      on_demand_percentage_above_base_capacity = var.spot ? 0 : 100
      spot_allocation_strategy                 = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.this.id
        version            = aws_launch_template.this.latest_version # a number: "$Latest" could not be rolled back to
      }
    }
  }

  # A new machine first, then an old one drains and goes.
  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 150
  }

  instance_refresh {
    strategy = "Rolling"

    preferences {
      auto_rollback                = true
      skip_matching                = true
      min_healthy_percentage       = 100
      max_healthy_percentage       = 150
      scale_in_protected_instances = "Refresh" # a busy worker is protected, and drains like any other when it is replaced
    }
  }

  dynamic "tag" {
    for_each = merge(local.tags, { Name = local.full_name })

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false # the launch template tags machines, and their disks as well
    }
  }

  # The first machine finds everything that it needs.
  depends_on = [
    aws_iam_role_policy_attachment.queues,
    aws_iam_role_policy_attachment.worker,
    aws_route.private,
    aws_route_table_association.private,
    aws_s3_bucket_policy.store,
    aws_sqs_queue.this,
    aws_vpc_endpoint.s3,
    aws_vpc_security_group_egress_rule.out,
  ]
}

# A machine counts from the moment its worker takes part in the fleet, which the worker says itself. One that never does
# (an image that crashes, a setting that is refused) is replaced, and a refresh that brings only such machines fails and
# is rolled back. Those that the group starts when it is made come before the hook, and are not waited for.
resource "aws_autoscaling_lifecycle_hook" "ready" {
  name                   = "ready"
  autoscaling_group_name = aws_autoscaling_group.this.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_LAUNCHING"
  heartbeat_timeout      = 900
  default_result         = "ABANDON"
}

# Before a machine is taken away, the group waits until its worker has drained: it asks for more time while it needs it,
# and completes the hook itself (providers/aws/host.py).
resource "aws_autoscaling_lifecycle_hook" "drain" {
  count = var.notice_seconds == null ? 0 : 1

  name                   = "drain"
  autoscaling_group_name = aws_autoscaling_group.this.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = var.notice_seconds
  default_result         = "CONTINUE"
}
