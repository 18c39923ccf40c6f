# The knobs. Those down to `tags` are the same, with the same defaults, on AWS and in Bicep; the rest are Azure's own.
# What a fleet could not live with is refused here, at the plan, rather than by the first machine that boots.

variable "name" {
  type        = string
  nullable    = false
  description = "Name of the fleet, and of everything that is made for it."
  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])*$", var.name)) && length(var.name) >= 3 && length(var.name) <= 16
    error_message = "name: use 3 to 16 lower-case letters, digits and single hyphens, starting with a letter and not ending in a hyphen."
  }
}

variable "location" {
  type        = string
  nullable    = false
  description = "Region of Azure, as `az account list-locations` names it: westeurope."
  validation {
    condition     = can(regex("^[a-z][a-z0-9]+$", var.location))
    error_message = "location: use the short name of a region, lower-case letters and digits only, such as westeurope."
  }
}

variable "image" {
  type        = string
  nullable    = false
  description = "Image of the worker, by digest: REGISTRY/NAME@sha256:DIGEST."
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]*(:[0-9]+)?/[a-z0-9][a-z0-9._/-]*@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image: use REGISTRY/NAME@sha256: and 64 hexadecimal digits. A tag may name another image tomorrow, and two machines would run two."
  }
}

variable "instance_type" {
  type        = string
  nullable    = false
  default     = "Standard_B2s"
  description = "Size of the machines."
  validation {
    condition     = can(regex("^[A-Z][A-Za-z]+_[A-Za-z0-9_-]+$", var.instance_type))
    error_message = "instance_type: use a size of Azure's machines, such as Standard_B2s."
  }
}

variable "instances" {
  type        = object({ min = number, max = number })
  nullable    = false
  default     = { min = 2, max = 10 }
  description = "Fewest and most machines. 0 for both stops the fleet, and leaves its store and its queues."
  validation {
    condition     = floor(var.instances.min) == var.instances.min && floor(var.instances.max) == var.instances.max && var.instances.min >= 0 && var.instances.min <= var.instances.max && var.instances.max <= 1000
    error_message = "instances: min and max must be whole numbers, 0 <= min <= max <= 1000. Given: min ${var.instances.min}, max ${var.instances.max}."
  }
  validation {
    condition     = var.instances.min > 0 || var.instances.max == 0
    error_message = "instances: with min 0, max must be 0 as well. Without a machine there is no leader to publish the backlog that would bring the first one back. Given: max ${var.instances.max}."
  }
}

variable "spot" {
  type        = bool
  nullable    = false
  default     = false
  description = "Take spare machines at their price, which Azure may evict with 30 seconds' notice."
}

variable "queues" {
  type        = map(object({ partitions = number }))
  nullable    = false
  default     = { routes = { partitions = 16 } }
  description = "The logical queues that the app declares with @app.queue, by name. Each gets its intake, its partitions and a dead-letter queue."
  validation {
    condition     = length(var.queues) <= 40
    error_message = "queues: at most 40 logical queues. Given: ${length(var.queues)}."
  }
  validation {
    condition     = alltrue([for queue in var.queues : floor(queue.partitions) == queue.partitions && queue.partitions >= 1 && queue.partitions <= 1000])
    error_message = "queues: partitions must be a whole number from 1 to 1000. Given: ${join(", ", [for name, queue in var.queues : "${name} with ${queue.partitions}" if !(floor(queue.partitions) == queue.partitions && queue.partitions >= 1 && queue.partitions <= 1000)])}."
  }
  validation {
    condition     = alltrue([for name in keys(var.queues) : can(regex("^[a-z](-?[a-z0-9])*$", name)) && length(name) >= 3 && length(name) <= 50 && !can(regex("-([0-9]+|dlq)$", name))])
    error_message = "queues: a name has 3 to 50 lower-case letters, digits and single hyphens, starts with a letter, and does not end in a hyphen and a number or in -dlq, as partitions and dead letters are named so. Given: ${join(", ", [for name in keys(var.queues) : name if !(can(regex("^[a-z](-?[a-z0-9])*$", name)) && length(name) >= 3 && length(name) <= 50 && !can(regex("-([0-9]+|dlq)$", name)))])}."
  }
  validation {
    condition     = alltrue([for name in keys(var.queues) : length("${var.queue_prefix}${name}-dlq") <= 63])
    error_message = "queues: with queue_prefix and -dlq, a name must not exceed the 63 characters that Azure takes. Given: ${join(", ", [for name in keys(var.queues) : "${var.queue_prefix}${name}-dlq" if length("${var.queue_prefix}${name}-dlq") > 63])}."
  }
}

variable "queue_prefix" {
  type        = string
  nullable    = false
  default     = ""
  description = "Goes before every queue's name (WORKER_QUEUE_PREFIX). The account is the fleet's own, so none is needed here."
  validation {
    condition     = can(regex("^([a-z](-?[a-z0-9])*-)?$", var.queue_prefix)) && length(var.queue_prefix) <= 20
    error_message = "queue_prefix: use up to 20 lower-case letters, digits and single hyphens, starting with a letter and ending in a hyphen, or nothing."
  }
}

variable "app" {
  type        = string
  nullable    = false
  default     = "jobs:app"
  description = "The app to run, as module:attribute (WORKER_APP)."
  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", var.app))
    error_message = "app: use module:attribute, such as jobs:app."
  }
}

variable "lease_seconds" {
  type        = number
  nullable    = false
  default     = 15
  description = "Lease duration: how long a dead leader holds up the fleet (WORKER_LEASE). All other timings follow from it."
  validation {
    condition     = floor(var.lease_seconds) == var.lease_seconds && var.lease_seconds >= 15 && var.lease_seconds <= 60
    error_message = "lease_seconds: Azure leases blobs for whole seconds from 15 to 60. Given: ${var.lease_seconds}."
  }
}

variable "drain_seconds" {
  type        = number
  nullable    = false
  default     = 60
  description = "What running handlers get to finish in when an instance drains (WORKER_DRAIN_TIMEOUT)."
  validation {
    condition     = floor(var.drain_seconds) == var.drain_seconds && var.drain_seconds >= 1
    error_message = "drain_seconds: use a whole number of seconds, at least 1. Given: ${var.drain_seconds}."
  }
}

variable "stop_grace_seconds" {
  type        = number
  nullable    = false
  default     = 90
  description = "From SIGTERM to SIGKILL (WORKER_STOP_GRACE): a drain, and what a cancelled handler gets to end in."
  validation {
    condition     = floor(var.stop_grace_seconds) == var.stop_grace_seconds
    error_message = "stop_grace_seconds: use a whole number of seconds. Given: ${var.stop_grace_seconds}."
  }
  validation {
    condition     = var.drain_seconds + var.lease_seconds * 4 / 3 <= var.stop_grace_seconds
    error_message = "stop_grace_seconds: ${var.stop_grace_seconds} s are too short for drain_seconds, ${var.drain_seconds} s, and the ${var.lease_seconds * 4 / 3} s that cancelled handlers get to end in (lease_seconds x 3 x 4 / 9). Lengthen stop_grace_seconds, or shorten drain_seconds."
  }
}

variable "notice_seconds" {
  type        = number
  default     = 300
  description = "How long ahead Azure announces the end of a machine (terminate notification, WORKER_HOST_NOTICE). null for none."
  validation {
    condition     = var.notice_seconds == null || try(var.notice_seconds >= 300 && var.notice_seconds <= 900 && var.notice_seconds % 60 == 0, false)
    error_message = "notice_seconds: Azure takes whole minutes from 300 to 900 seconds; null for no notice. Given: ${coalesce(var.notice_seconds, 0)}."
  }
  validation {
    condition     = var.notice_seconds == null || !var.spot
    error_message = "notice_seconds: Azure gives Spot machines no terminate notification. With spot = true, set notice_seconds = null: an eviction then shortens the drain to what its 30 seconds leave. Given: ${coalesce(var.notice_seconds, 0)}."
  }
  validation {
    condition     = var.notice_seconds == null || try(var.stop_grace_seconds + 30 <= var.notice_seconds, false)
    error_message = "notice_seconds: ${coalesce(var.notice_seconds, 0)} s must be at least 30 s more than stop_grace_seconds, ${var.stop_grace_seconds} s: the machine goes when the notice is over, whether the worker has ended or not."
  }
}

variable "admin_port" {
  type        = number
  nullable    = false
  default     = 8080
  description = "Port of health and metrics on the machine's 127.0.0.1 (WORKER_ADMIN_PORT), which the health extension asks."
  validation {
    condition     = floor(var.admin_port) == var.admin_port && var.admin_port >= 1024 && var.admin_port <= 65535
    error_message = "admin_port: use a whole number from 1024 to 65535, as the worker has no right to the ports below. Given: ${var.admin_port}."
  }
}

variable "backlog_per_instance" {
  type        = number
  nullable    = false
  default     = 100
  description = "Messages, waiting or being handled, for each machine: with more the fleet grows, with less than a quarter it shrinks."
  validation {
    condition     = floor(var.backlog_per_instance) == var.backlog_per_instance && var.backlog_per_instance >= 1
    error_message = "backlog_per_instance: use a whole number, at least 1. Given: ${var.backlog_per_instance}."
  }
}

variable "environment" {
  type        = map(string)
  nullable    = false
  default     = {}
  description = "Further settings of the worker, WORKER_… only. Whoever may describe a machine can read them: no secrets."
  validation {
    condition     = alltrue([for name, value in var.environment : can(regex("^WORKER_[A-Z_]+$", name)) && !can(regex("[\r\n]", value))])
    error_message = "environment: names are WORKER_ and capital letters, and no value holds a newline. Wrong: ${join(", ", [for name, value in var.environment : name if !(can(regex("^WORKER_[A-Z_]+$", name)) && !can(regex("[\r\n]", value)))])}."
  }
  validation {
    condition     = !anytrue([for name in keys(var.environment) : contains(["WORKER_ADMIN_TOKEN", "WORKER_AZURE_CONNECTION_STRING"], name)])
    error_message = "environment: WORKER_ADMIN_TOKEN and WORKER_AZURE_CONNECTION_STRING are secrets, and everything on a machine can read its user data. Workers sign in with the machine's identity, and operators command the fleet through the store."
  }
  validation {
    condition     = length(setintersection(keys(var.environment), local.own_settings)) == 0
    error_message = "environment: the stack sets these itself, from its resources and its other variables: ${join(", ", setintersection(keys(var.environment), local.own_settings))}."
  }
}

variable "subnet_ids" {
  type        = list(string)
  nullable    = false
  default     = []
  description = "A subnet of yours for the machines, with the service endpoint Microsoft.Storage and a way out. Empty: the stack makes a network with a NAT gateway."
  validation {
    condition     = length(var.subnet_ids) <= 1
    error_message = "subnet_ids: one subnet, as those of Azure span all zones. Given: ${length(var.subnet_ids)}."
  }
  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Network/virtualNetworks/[^/]+/subnets/[^/]+$", id))])
    error_message = "subnet_ids: use the resource id of a subnet: /subscriptions/…/virtualNetworks/NAME/subnets/NAME."
  }
}

variable "log_retention_days" {
  type        = number
  nullable    = false
  default     = 30
  description = "Days that logs are kept for."
  validation {
    condition     = floor(var.log_retention_days) == var.log_retention_days && var.log_retention_days >= 30 && var.log_retention_days <= 730
    error_message = "log_retention_days: Log Analytics keeps logs for 30 to 730 days. Given: ${var.log_retention_days}."
  }
}

variable "tags" {
  type        = map(string)
  nullable    = false
  default     = {}
  description = "Tags of all resources."
}

variable "registry_id" {
  type        = string
  default     = null
  description = "Resource id of the container registry that holds the image: the machines' identity may then pull from it (AcrPull). null: you see to that."
  validation {
    condition     = var.registry_id == null || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.ContainerRegistry/registries/[A-Za-z0-9]+$", var.registry_id))
    error_message = "registry_id: use the resource id of a container registry: /subscriptions/…/Microsoft.ContainerRegistry/registries/NAME."
  }
}

variable "zones" {
  type        = list(string)
  nullable    = false
  default     = ["1", "2", "3"]
  description = "Availability zones that machines are spread over. Empty where the region has none."
  validation {
    condition     = alltrue([for zone in var.zones : contains(["1", "2", "3"], zone)]) && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: use \"1\", \"2\" and \"3\", each once, or none."
  }
}

variable "operator_ips" {
  type        = list(string)
  nullable    = false
  default     = []
  description = "Public IPv4 addresses, or ranges of them, that may reach the store besides the machines, for `worker status` and the like."
  validation {
    condition     = alltrue([for ip in var.operator_ips : can(regex("^[0-9]+(\\.[0-9]+){3}(/([0-9]|[12][0-9]|30))?$", ip)) && can(cidrhost(strcontains(ip, "/") ? ip : "${ip}/32", 0))])
    error_message = "operator_ips: use IPv4 addresses or ranges up to /30, such as 203.0.113.7 or 203.0.113.0/24. Azure takes no /31 and no /32: write the address alone."
  }
}

variable "ssh_public_key" {
  type        = string
  default     = null
  description = "Public key of whoever may sign in to the machines as `cloudworker`, from inside the network. null: nobody."
  validation {
    condition     = var.ssh_public_key == null || can(regex("^(ssh-rsa|ssh-ed25519) [A-Za-z0-9+/=]+( .*)?$", var.ssh_public_key))
    error_message = "ssh_public_key: use a public key in OpenSSH's format, ssh-rsa or ssh-ed25519."
  }
}
