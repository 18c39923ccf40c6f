locals {
  full_name = "cloud-worker-${var.name}"
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  tags      = merge({ Fleet = var.name }, var.tags)

  # Nothing lies in the bucket but the fleet's documents; the prefix is the same on Azure.
  bucket = "${local.full_name}-${local.account}-${var.location}"
  prefix = "fleet"
  store  = "s3://${local.bucket}/${local.prefix}"

  log_name   = "/cloud-worker/${var.name}"
  queue_arns = "arn:${local.partition}:sqs:${var.location}:${local.account}:"

  # What the stack knows of the workers' settings. WORKER_STOP_GRACE and WORKER_ADMIN_PORT come from infra/boot, whose
  # units must agree with them.
  worker_environment = merge(var.environment, {
    WORKER_FLEET         = var.name
    WORKER_STORE         = local.store
    WORKER_QUEUE_PREFIX  = var.queue_prefix
    WORKER_APP           = var.app
    WORKER_LEASE         = tostring(var.lease_seconds)
    WORKER_DRAIN_TIMEOUT = tostring(var.drain_seconds)
    WORKER_HOST          = "aws"
    WORKER_AWS_REGION    = var.location
  }, var.notice_seconds == null ? {} : { WORKER_HOST_NOTICE = tostring(var.notice_seconds) })

  # An image in ECR is pulled with the machine's role, which may pull from this one repository; any other without a sign-in.
  ecr = one(regexall("^(?P<account>[0-9]{12})\\.dkr[.-]ecr(?:-fips)?\\.(?P<region>[a-z0-9-]+)\\.[a-z0-9.-]+/(?P<name>[^@]+)@", var.image))

  boot = "${path.module}/../../boot"
  user_data = base64gzip(templatefile("${local.boot}/cloud-init.yaml", {
    environment        = base64encode(join("", [for name, value in local.worker_environment : "${name}=${value}\n"]))
    stop_grace         = var.stop_grace_seconds
    admin_port         = var.admin_port
    image              = var.image
    registry_login     = local.ecr == null ? "none" : "aws"
    identity_client_id = ""
    pull_image         = filebase64("${local.boot}/pull_image.py")
    log_options = join(" ", [
      "--log-driver=awslogs", "--log-opt=awslogs-group=${local.log_name}", "--log-opt=awslogs-stream=%H",
      "--log-opt=mode=non-blocking", "--log-opt=max-buffer-size=4m", "--log-opt=cache-disabled=true",
    ])
  }))
}
