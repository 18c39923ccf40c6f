# The names of queues, by the rule of worker/core/names.py. Nothing here needs a provider: tests ask for it alone.

locals {
  parts = {
    for name, queue in var.queues : name => {
      stem  = trimsuffix(name, ".fifo")
      fifo  = endswith(name, ".fifo") ? ".fifo" : ""
      width = max(2, length(tostring(queue.partitions - 1)))
    }
  }
  worked = { # by logical queue: its intake and its partitions, in which messages wait to be handled
    for name, part in local.parts : name => concat(
      ["${var.queue_prefix}${name}"],
      [for index in range(var.queues[name].partitions) : format("${var.queue_prefix}${part.stem}-%0${part.width}d${part.fifo}", index)],
    )
  }
  dead_letters = [for part in local.parts : "${var.queue_prefix}${part.stem}-dlq${part.fifo}"]
  queue_names  = sort(concat(flatten(values(local.worked)), local.dead_letters))
}
