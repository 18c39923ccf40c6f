# The machines' role: what the drivers call (tests/infra compares), on this fleet's own resources.

data "aws_iam_policy_document" "machines" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  name               = "${local.full_name}-${var.location}" # roles are of all regions
  description        = "The workers of the fleet ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.machines.json
}

resource "aws_iam_instance_profile" "this" {
  name = aws_iam_role.this.name
  role = aws_iam_role.this.name
}

data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "Documents"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${aws_s3_bucket.store.arn}/${local.prefix}/*"]
  }

  # Without a condition on the prefix: a read of what does not exist carries none, and would be denied, not "not found".
  statement {
    sid       = "Lists"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.store.arn]
  }

  statement {
    sid = "Group"
    actions = [
      "autoscaling:CompleteLifecycleAction",
      "autoscaling:RecordLifecycleActionHeartbeat",
      "autoscaling:SetInstanceProtection",
    ]
    resources = ["arn:${local.partition}:autoscaling:${var.location}:${local.account}:autoScalingGroup:*:autoScalingGroupName/${local.full_name}"]
  }

  statement { # AWS knows no narrower resource for these two
    sid       = "Groups"
    actions   = ["autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLifecycleHooks"]
    resources = ["*"]
  }

  statement { # nor for this one, but the namespace
    sid       = "Backlog"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = [local.backlog.namespace]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }

  dynamic "statement" {
    for_each = local.ecr[*]

    content {
      sid       = "Image"
      actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = ["arn:${local.partition}:ecr:${statement.value.region}:${statement.value.account}:repository/${statement.value.name}"]
    }
  }

  dynamic "statement" {
    for_each = local.ecr[*]

    content { # AWS knows no narrower resource
      sid       = "Registry"
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"]
    }
  }
}

resource "aws_iam_policy" "worker" {
  name        = "${aws_iam_role.this.name}-worker"
  description = "What every worker of the fleet ${var.name} calls."
  policy      = data.aws_iam_policy_document.worker.json
}

resource "aws_iam_role_policy_attachment" "worker" {
  role       = aws_iam_role.this.name
  policy_arn = aws_iam_policy.worker.arn
}

# Forty queues of the longest names are more than one policy holds: so many go into one.
locals {
  queues_by_policy = { for index, names in chunklist(keys(var.queues), 20) : "queues-${index + 1}" => names }
}

data "aws_iam_policy_document" "queues" {
  for_each = local.queues_by_policy

  statement {
    sid = "Queues" # not CreateQueue: the stack makes them all, and for life
    actions = [
      "sqs:ChangeMessageVisibility",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      "sqs:GetQueueUrl",
      "sqs:ReceiveMessage",
      "sqs:SendMessage",
    ]
    resources = flatten([
      for name in each.value : [
        "${local.queue_arns}${var.queue_prefix}${name}",
        "${local.queue_arns}${var.queue_prefix}${local.parts[name].stem}-*${local.parts[name].fifo}",
      ]
    ])
  }
}

resource "aws_iam_policy" "queues" {
  for_each = local.queues_by_policy

  name        = "${aws_iam_role.this.name}-${each.key}"
  description = "The queues of the fleet ${var.name}."
  policy      = data.aws_iam_policy_document.queues[each.key].json
}

resource "aws_iam_role_policy_attachment" "queues" {
  for_each = local.queues_by_policy

  role       = aws_iam_role.this.name
  policy_arn = aws_iam_policy.queues[each.key].arn
}
