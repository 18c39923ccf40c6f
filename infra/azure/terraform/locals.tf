# Names and figures that follow from the variables alone: nothing here asks Azure.

locals {
  # The names of the runtime (worker/core/names.py): the intake, the partitions, the dead letters.
  partition_digits = { for name, queue in var.queues : name => max(2, length(tostring(queue.partitions - 1))) }
  queue_names = toset([for queue in flatten([for name, queue in var.queues : concat(
    [name, "${name}-dlq"],
    [for index in range(queue.partitions) : format("%s-%0${local.partition_digits[name]}d", name, index)],
  )]) : "${var.queue_prefix}${queue}"])

  # What the worker is told by the stack, and therefore not by `environment`.
  own_settings = [
    "WORKER_ADMIN_PORT", "WORKER_APP", "WORKER_AZURE_CLIENT_ID", "WORKER_DRAIN_TIMEOUT", "WORKER_FLEET", "WORKER_HOST",
    "WORKER_HOST_NOTICE", "WORKER_LEASE", "WORKER_QUEUE_PREFIX", "WORKER_STOP_GRACE", "WORKER_STORE",
  ]

  container = "fleet"
  tags      = merge({ "cloud-worker-fleet" = var.name }, var.tags)
}
