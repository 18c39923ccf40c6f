# The number of machines follows the backlog: all that waits or is being handled, which the leader publishes once a minute.
# Where nobody publishes, nothing shrinks; and what piles up in an intake, unrouted, lets the fleet grow all the same.

locals {
  growth = max(1, ceil((var.instances.max - var.instances.min) / 4)) # from the fewest to the most in four steps

  backlog = { name = "Backlog", namespace = "CloudWorker", resource = azurerm_orchestrated_virtual_machine_scale_set.this.id, dimensions = [{ name = "Fleet", values = [var.name] }] }

  # Azure takes ten rules: two are the backlog's, so that the first eight queues have one.
  intakes = [for queue in slice(sort(keys(var.queues)), 0, min(8, length(var.queues))) : {
    name       = "ApproximateMessageCount"
    namespace  = null
    resource   = "${azurerm_storage_account.this.id}/services/queue/queues/${var.queue_prefix}${queue}"
    dimensions = []
  }]

  rules = concat(
    [for metric in concat([local.backlog], local.intakes) : {
      metric    = metric
      operator  = "GreaterThan"
      threshold = var.backlog_per_instance
      window    = "PT5M"
      direction = "Increase"
      by        = local.growth
      cooldown  = "PT5M"
    }],
    [{
      metric    = local.backlog
      operator  = "LessThan"
      threshold = var.backlog_per_instance / 4
      window    = "PT10M"
      direction = "Decrease"
      by        = 1
      cooldown  = "PT10M"
    }],
  )
}

resource "azurerm_monitor_autoscale_setting" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  target_resource_id  = azurerm_orchestrated_virtual_machine_scale_set.this.id
  tags                = local.tags

  profile {
    name = "backlog"

    capacity {
      default = var.instances.min
      minimum = var.instances.min
      maximum = var.instances.max
    }

    dynamic "rule" {
      for_each = var.instances.max == 0 ? [] : local.rules
      content {
        metric_trigger {
          metric_name              = rule.value.metric.name
          metric_namespace         = rule.value.metric.namespace
          metric_resource_id       = rule.value.metric.resource
          divide_by_instance_count = true
          operator                 = rule.value.operator
          threshold                = rule.value.threshold
          statistic                = "Average"
          time_aggregation         = "Average"
          time_grain               = "PT1M"
          time_window              = rule.value.window

          dynamic "dimensions" {
            for_each = rule.value.metric.dimensions
            content {
              name     = dimensions.value.name
              operator = "Equals"
              values   = dimensions.value.values
            }
          }
        }

        scale_action {
          direction = rule.value.direction
          type      = "ChangeCount"
          value     = rule.value.by
          cooldown  = rule.value.cooldown
        }
      }
    }
  }
}
