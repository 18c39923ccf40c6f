# Names and figures that follow from the variables alone: nothing here asks Azure.

locals {
  # The names of the runtime (worker/core/names.py): the intake, the partitions, the dead letters.
  queue_names = toset(flatten([for name, queue in var.queues : concat(
    ["${var.queue_prefix}${name}", "${var.queue_prefix}${name}-dlq"],
    formatlist("${var.queue_prefix}${name}-%0${max(2, length(tostring(queue.partitions - 1)))}d", range(queue.partitions)),
  )]))

  # What the worker is told by the stack, and therefore not by `environment`.
  own_settings = [
    "WORKER_ADMIN_PORT", "WORKER_APP", "WORKER_AZURE_CLIENT_ID", "WORKER_DRAIN_TIMEOUT", "WORKER_FLEET", "WORKER_HOST",
    "WORKER_HOST_NOTICE", "WORKER_LEASE", "WORKER_QUEUE_PREFIX", "WORKER_STOP_GRACE", "WORKER_STORE",
  ]

  container = "fleet"
  tags      = merge({ "cloud-worker-fleet" = var.name }, var.tags)
}
