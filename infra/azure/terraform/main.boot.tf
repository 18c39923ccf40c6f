# What a new machine gets: infra/boot fills in the rest.

locals {
  worker_environment = merge(var.environment, { for name, value in {
    WORKER_APP             = var.app
    WORKER_AZURE_CLIENT_ID = azurerm_user_assigned_identity.this.client_id
    WORKER_DRAIN_TIMEOUT   = tostring(var.drain_seconds)
    WORKER_FLEET           = var.name
    WORKER_HOST            = "azure"
    WORKER_HOST_NOTICE     = var.notice_seconds == null ? null : tostring(var.notice_seconds)
    WORKER_LEASE           = tostring(var.lease_seconds)
    WORKER_QUEUE_PREFIX    = var.queue_prefix == "" ? null : var.queue_prefix
    WORKER_STORE           = "azure://${azurerm_storage_account.this.name}/${azurerm_storage_container.this.name}"
  } : name => value if value != null })

  user_data = templatefile("${path.module}/../../boot/cloud-init.yaml", {
    environment        = base64encode(join("", [for name, value in local.worker_environment : "${name}=${value}\n"]))
    stop_grace         = var.stop_grace_seconds
    admin_port         = var.admin_port
    image              = var.image
    registry_login     = can(regex("^[a-z0-9]+\\.azurecr\\.io/", var.image)) ? "azure" : "none"
    identity_client_id = azurerm_user_assigned_identity.this.client_id
    log_options        = "--log-driver=none" # the journal has it, and the agent takes it from there
    pull_image         = filebase64("${path.module}/../../boot/pull_image.py")
  })
}
