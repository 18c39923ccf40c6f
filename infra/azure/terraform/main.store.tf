# Where the fleet meets: one account of its own, with a container for the documents and all the queues.

data "azurerm_client_config" "current" {}

locals {
  # Unique in all of Azure, and the same again after a teardown.
  account_suffix = substr(sha256("${data.azurerm_client_config.current.subscription_id}/${var.name}"), 0, 8)
  account        = "${replace(var.name, "-", "")}${local.account_suffix}"
  container_id   = "${azurerm_storage_account.this.id}/blobServices/default/containers/${azurerm_storage_container.this.name}"
}

resource "azurerm_storage_account" "this" {
  name                     = local.account
  resource_group_name      = azurerm_resource_group.this.name
  location                 = azurerm_resource_group.this.location
  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = length(var.zones) == 0 ? "LRS" : "ZRS" # never to another region: that is a copy of the past
  tags                     = local.tags

  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  shared_access_key_enabled         = false
  default_to_oauth_authentication   = true
  local_user_enabled                = false
  allow_nested_items_to_be_public   = false
  cross_tenant_replication_enabled  = false
  infrastructure_encryption_enabled = true

  blob_properties {
    # Every renewal of a lease writes: versions, and soft deletes (no retention policy), would pile up for nothing.
    versioning_enabled  = false
    change_feed_enabled = false
  }

  network_rules {
    default_action             = "Deny"
    bypass                     = ["AzureServices"]
    ip_rules                   = var.operator_ips
    virtual_network_subnet_ids = [local.subnet_id]
  }
}

resource "azurerm_storage_container" "this" {
  name                  = local.container
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

# Workers would make missing queues themselves. Made here, they are there before the first machine, and go with the stack.
resource "azurerm_storage_queue" "this" {
  for_each = local.queue_names

  name               = each.key
  storage_account_id = azurerm_storage_account.this.id
}
