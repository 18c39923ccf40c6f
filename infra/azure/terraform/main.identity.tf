# What everything is in, who the machines are, and what they may: nothing outside the fleet's own container and queues.
# tests/infra derives the roles from the requests that the drivers make.

resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.location
  tags     = local.tags
}

resource "azurerm_user_assigned_identity" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

locals {
  roles = merge(
    {
      documents = { role = "Storage Blob Data Contributor", scope = local.container_id }
      # Not Message Processor: it may not hide a message again, which every handler needs that takes its time.
      queues = { role = "Storage Queue Data Contributor", scope = azurerm_storage_account.this.id }
    },
    var.registry_id == null ? {} : { image = { role = "AcrPull", scope = var.registry_id } },
  )
}

resource "azurerm_role_assignment" "worker" {
  for_each = local.roles

  role_definition_name = each.value.role
  scope                = each.value.scope
  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
}

# Apart from the others, as the machines wait for those, and this one for the scale set.
resource "azurerm_role_assignment" "backlog" {
  role_definition_name = "Monitoring Metrics Publisher"
  scope                = azurerm_orchestrated_virtual_machine_scale_set.this.id
  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
}
