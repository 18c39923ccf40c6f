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

  #checkov:skip=CKV_AZURE_59: the network rules let in one subnet, past the internet, for nothing; a private endpoint costs by hour and byte
  #checkov:skip=CKV2_AZURE_33: the same
  #checkov:skip=CKV_AZURE_206: three zones where there are any; a copy in another region is one of the past, and a fleet on it would do twice what was done
  #checkov:skip=CKV2_AZURE_38: documents are rewritten every few seconds, and nobody ever wants an older one back
  #checkov:skip=CKV2_AZURE_1: no customer's key: without it, and with nobody to ask, no lease could be renewed
  #checkov:skip=CKV_AZURE_33: a fleet polls its queues: a log of each request would be the dearest part of the stack

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

  #checkov:skip=CKV2_AZURE_21: a log of each read would hold one line for each beat of each instance
}

# Workers would make missing queues themselves. Made here, they are there before the first machine, and go with the stack.
resource "azurerm_storage_queue" "this" {
  for_each = local.queue_names

  name               = each.key
  storage_account_id = azurerm_storage_account.this.id
}
