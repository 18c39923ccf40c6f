# As many machines as there is work: the leader publishes how many messages wait or are being handled, once a minute.
# While nobody leads there is no figure, and the group stays as it is.

locals {
  backlog = { namespace = "CloudWorker", name = "Backlog" } # as providers/aws/scaling.py publishes it
}

resource "aws_autoscaling_policy" "backlog" {
  name                   = "backlog-per-instance"
  autoscaling_group_name = aws_autoscaling_group.this.name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = var.backlog_per_instance

    customized_metric_specification {
      metrics {
        id          = "backlog"
        return_data = false

        metric_stat {
          stat = "Average"

          metric {
            namespace   = local.backlog.namespace
            metric_name = local.backlog.name

            dimensions {
              name  = "Fleet"
              value = var.name
            }
          }
        }
      }

      metrics {
        id          = "instances"
        return_data = false

        metric_stat {
          stat = "Average"

          metric {
            namespace   = "AWS/AutoScaling"
            metric_name = "GroupInServiceInstances"

            dimensions {
              name  = "AutoScalingGroupName"
              value = aws_autoscaling_group.this.name
            }
          }
        }
      }

      metrics { # divided by nothing it would be no number, and a group of none would never grow
        id          = "backlog_per_instance"
        expression  = "IF(instances > 0, backlog / instances, backlog)"
        return_data = true
      }
    }
  }
}

# A fleet that may have no machine has no leader then to publish anything: SQS's own figures wake it. An alarm takes ten
# metrics, so there are as many alarms as it needs to look at all queues; each metric costs something.
locals {
  watched = var.instances.min > 0 ? {} : { for index, names in chunklist(sort(flatten(values(local.worked))), 9) : format("%03d", index) => names }
}

resource "aws_autoscaling_policy" "wake" {
  count = var.instances.min > 0 ? 0 : 1

  name                   = "wake"
  autoscaling_group_name = aws_autoscaling_group.this.name
  policy_type            = "StepScaling"
  adjustment_type        = "ExactCapacity"

  step_adjustment {
    metric_interval_lower_bound = 0
    scaling_adjustment          = 1
  }
}

resource "aws_cloudwatch_metric_alarm" "wake" {
  for_each = local.watched

  alarm_name          = "${local.full_name}-wake-${each.key}"
  alarm_description   = "No machine, and a message: the fleet ${var.name} starts."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_autoscaling_policy.wake[0].arn]

  metric_query {
    id          = "waiting"
    label       = "Messages while there is no machine"
    expression  = "IF(FILL(instances, 0) < 1, ${join(" + ", [for index in range(length(each.value)) : "FILL(queue${index}, 0)"])}, 0)"
    return_data = true
  }

  metric_query {
    id = "instances"

    metric {
      namespace   = "AWS/AutoScaling"
      metric_name = "GroupInServiceInstances"
      stat        = "Average"
      period      = 60
      dimensions  = { AutoScalingGroupName = aws_autoscaling_group.this.name }
    }
  }

  dynamic "metric_query" {
    for_each = each.value

    content {
      id = "queue${metric_query.key}"

      metric {
        namespace   = "AWS/SQS"
        metric_name = "ApproximateNumberOfMessagesVisible"
        stat        = "Maximum"
        period      = 60
        dimensions  = { QueueName = metric_query.value }
      }
    }
  }
}
