# The knobs: the same names, types and defaults as on Azure (instance_type's default differs). A wrong value is refused
# at plan with a sentence that says what would do: after that, nobody looks at it until a machine has started.

variable "name" {
  type        = string
  nullable    = false
  description = "(Required) The fleet's name: WORKER_FLEET, and the beginning of what this stack names. 3 to 16 lower-case letters, digits and single hyphens, starting with a letter."

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])*$", var.name)) && length(var.name) >= 3 && length(var.name) <= 16
    error_message = "name is \"${var.name}\": use 3 to 16 lower-case letters, digits and single hyphens, starting with a letter, such as \"orders\"."
  }
}

variable "location" {
  type        = string
  nullable    = false
  description = "(Required) The AWS region, such as eu-central-1."

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]+$", var.location))
    error_message = "location is \"${var.location}\": name an AWS region, such as \"eu-central-1\"."
  }
}

variable "image" {
  type        = string
  nullable    = false
  description = "(Required) The worker's image by its digest, REGISTRY/NAME@sha256:DIGEST. Machines may pull it when it is in ECR, or where no sign-in is needed."

  validation {
    condition     = can(regex("^(localhost|[a-z0-9][a-z0-9-]*(\\.[a-z0-9-]+)+)(:[0-9]+)?/[a-z0-9][a-z0-9._/-]*@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image is \"${var.image}\": use REGISTRY/NAME@sha256:DIGEST with the registry's host and 64 hexadecimal digits; a tag may name another image tomorrow."
  }
}

variable "instance_type" {
  type        = string
  nullable    = false
  default     = "t3.small"
  description = "(Optional) The machines' type. Graviton types get an arm64 system; the image must then be one for arm64 too."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type is \"${var.instance_type}\": name an EC2 instance type, such as \"t3.small\"."
  }
}

variable "instances" {
  type = object({
    min = optional(number, 2)
    max = optional(number, 10)
  })
  nullable    = false
  default     = {}
  description = "(Optional) How few and how many machines there may be. With min = 0 an idle fleet costs no machine, fires no schedule, and wakes some minutes after a message has come."

  validation {
    condition = (
      floor(var.instances.min) == var.instances.min && floor(var.instances.max) == var.instances.max &&
      var.instances.min >= 0 && var.instances.max >= 1 && var.instances.min <= var.instances.max && var.instances.max <= 1000
    )
    error_message = "instances is min ${var.instances.min}, max ${var.instances.max}: use whole numbers with 0 <= min <= max and 1 <= max <= 1000, such as { min = 2, max = 10 }."
  }
}

variable "spot" {
  type        = bool
  nullable    = false
  default     = false
  description = "(Optional) Use Spot capacity. An interruption comes two minutes ahead, whatever notice_seconds says: what a drain has not ended by then is handled again elsewhere."
}

variable "queues" {
  type        = map(object({ partitions = number }))
  nullable    = false
  default     = { routes = { partitions = 16 } }
  description = "(Optional) The app's queues by name, with the partitions of each: as the app declares them. Every queue gets an intake and a dead-letter queue besides."

  validation {
    condition = alltrue([
      for name in keys(var.queues) :
      can(regex("^[a-z](-?[a-z0-9])*(\\.fifo)?$", name)) && !can(regex("(-dlq|-[0-9]+)(\\.fifo)?$", name)) &&
      length(trimsuffix(name, ".fifo")) >= 3 && length(trimsuffix(name, ".fifo")) <= 50
    ])
    error_message = "queues has a name that cannot be one (of: ${join(", ", keys(var.queues))}): use 3 to 50 lower-case letters, digits and single hyphens, starting with a letter, and not ending in a hyphen and a number or in \"-dlq\"; \".fifo\" may follow."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : floor(queue.partitions) == queue.partitions && queue.partitions >= 1 && queue.partitions <= 1000])
    error_message = "queues has ${join(", ", [for name, queue in var.queues : "${name} = ${queue.partitions}"])}: partitions are a whole number from 1 to 1000."
  }

  validation {
    condition     = length(var.queues) <= 40
    error_message = "queues has ${length(var.queues)} queues: one fleet may have 40. Make another fleet for the rest."
  }
}

variable "queue_prefix" {
  type        = string
  nullable    = false
  default     = ""
  description = "(Optional) Goes before every queue's name, WORKER_QUEUE_PREFIX: keeps the queues of several fleets in one account and region apart. Producers need it too."

  validation {
    condition     = can(regex("^([a-z](-?[a-z0-9])*-)?$", var.queue_prefix)) && length(var.queue_prefix) <= 20
    error_message = "queue_prefix is \"${var.queue_prefix}\": use up to 20 lower-case letters, digits and single hyphens, starting with a letter and ending in a hyphen, such as \"staging-\"; or nothing."
  }
}

variable "app" {
  type        = string
  nullable    = false
  default     = "jobs:app"
  description = "(Optional) The app that the image runs, as module:attribute: WORKER_APP."

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$", var.app))
    error_message = "app is \"${var.app}\": use module:attribute, such as \"jobs:app\"."
  }
}

variable "lease_seconds" {
  type        = number
  nullable    = false
  default     = 15
  description = "(Optional) The lease's duration, WORKER_LEASE: how long a dead leader holds up the fleet. All other timings follow from it."

  validation {
    condition     = var.lease_seconds >= 5 && var.lease_seconds <= 60
    error_message = "lease_seconds is ${var.lease_seconds}: on AWS it may be 5 to 60."
  }
}

variable "drain_seconds" {
  type        = number
  nullable    = false
  default     = 60
  description = "(Optional) What running handlers get to finish in when their machine ends, WORKER_DRAIN_TIMEOUT."

  validation {
    condition     = var.drain_seconds > 0
    error_message = "drain_seconds is ${var.drain_seconds}: use a positive number of seconds."
  }
}

variable "stop_grace_seconds" {
  type        = number
  nullable    = false
  default     = 90
  description = "(Optional) What the container gets from TERM to KILL, WORKER_STOP_GRACE: drain_seconds and lease_seconds x 4/3 must fit into it."

  validation {
    condition     = floor(var.stop_grace_seconds) == var.stop_grace_seconds && var.stop_grace_seconds >= 1
    error_message = "stop_grace_seconds is ${var.stop_grace_seconds}: use a whole number of seconds."
  }

  validation {
    condition     = var.drain_seconds + var.lease_seconds * 4 / 3 <= var.stop_grace_seconds
    error_message = "stop_grace_seconds is ${var.stop_grace_seconds}, but a drain takes up to ${ceil(var.drain_seconds + var.lease_seconds * 4 / 3)}: drain_seconds (${var.drain_seconds}) and what cancelled handlers get to end in (lease_seconds x 4/3). Raise stop_grace_seconds, or lower drain_seconds."
  }
}

variable "notice_seconds" {
  type        = number
  nullable    = true
  default     = 300
  description = "(Optional) How long a machine's end is announced ahead, WORKER_HOST_NOTICE: the heartbeat timeout of the group's lifecycle hook, 60 to 7200. null: no hook, and machines end at once."

  validation {
    condition     = var.notice_seconds == null ? true : floor(var.notice_seconds) == var.notice_seconds && var.notice_seconds >= 60 && var.notice_seconds <= 7200
    error_message = "notice_seconds is ${coalesce(var.notice_seconds, 0)}: on AWS it may be a whole number from 60 to 7200, or null for no notice."
  }

  validation {
    condition     = var.notice_seconds == null ? true : var.stop_grace_seconds + 30 <= var.notice_seconds
    error_message = "notice_seconds is ${coalesce(var.notice_seconds, 0)}, but a machine takes up to ${var.stop_grace_seconds + 30} to stop: stop_grace_seconds (${var.stop_grace_seconds}) and 30 for the machine itself. Raise notice_seconds, or lower stop_grace_seconds."
  }
}

variable "admin_port" {
  type        = number
  nullable    = false
  default     = 8080
  description = "(Optional) Port of health and metrics, on the machine's loopback only: WORKER_ADMIN_PORT."

  validation {
    condition     = floor(var.admin_port) == var.admin_port && var.admin_port >= 1024 && var.admin_port <= 65535
    error_message = "admin_port is ${var.admin_port}: use a whole number from 1024 to 65535; the worker may not open lower ones."
  }
}

variable "backlog_per_instance" {
  type        = number
  nullable    = false
  default     = 100
  description = "(Optional) How many messages each machine may have waiting: the group grows while there are more, and shrinks while there are fewer."

  validation {
    condition     = var.backlog_per_instance > 0
    error_message = "backlog_per_instance is ${var.backlog_per_instance}: use a positive number of messages."
  }
}

variable "environment" {
  type        = map(string)
  nullable    = false
  default     = {}
  description = "(Optional) Further settings of the workers, WORKER_... (docs/settings.md). No secrets: who may describe the machines can read them."

  validation {
    condition     = alltrue([for name, value in var.environment : can(regex("^WORKER_[A-Z_]+$", name)) && !can(regex("[\r\n]", value))])
    error_message = "environment has ${join(", ", keys(var.environment))}: the names of settings are WORKER_ and capital letters, and their values have no newline."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), ["WORKER_ADMIN_TOKEN", "WORKER_AZURE_CONNECTION_STRING"])) == 0
    error_message = "environment has a secret (WORKER_ADMIN_TOKEN or WORKER_AZURE_CONNECTION_STRING), and who may describe the machines could read it: workers sign in with the machine's role, and operators command them through the store."
  }

  validation {
    condition = length(setintersection(keys(var.environment), [
      "WORKER_STORE", "WORKER_QUEUE_PREFIX", "WORKER_APP", "WORKER_LEASE", "WORKER_DRAIN_TIMEOUT", "WORKER_STOP_GRACE", "WORKER_HOST",
      "WORKER_HOST_NOTICE", "WORKER_ADMIN_PORT", "WORKER_AWS_REGION", "WORKER_AZURE_CLIENT_ID", "WORKER_FLEET",
    ])) == 0
    error_message = "environment has ${join(", ", keys(var.environment))}: where the store is, the name, the app, the prefix, lease, drain, stop grace, notice, host, region and admin port have variables of their own, or follow from them."
  }
}

variable "subnet_ids" {
  type        = list(string)
  nullable    = false
  default     = []
  description = "(Optional) Subnets of one VPC, in zones of your choice, with a way out to AWS. None: the stack makes a network of two zones, each with its NAT gateway."

  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))]) && length(distinct(var.subnet_ids)) == length(var.subnet_ids)
    error_message = "subnet_ids is ${join(", ", var.subnet_ids)}: name each subnet once, by its id, such as \"subnet-0123456789abcdef0\"."
  }
}

variable "log_retention_days" {
  type        = number
  nullable    = false
  default     = 30
  description = "(Optional) How long the workers' logs are kept, in days, as CloudWatch Logs has them."

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days is ${var.log_retention_days}: CloudWatch Logs keeps 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "tags" {
  type        = map(string)
  nullable    = false
  default     = {}
  description = "(Optional) Tags of everything that the stack makes, machines and their disks included."
}
