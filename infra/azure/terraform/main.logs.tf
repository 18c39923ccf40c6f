# The workers' logs: facility local0 of every machine's journal, in the table Syslog of a workspace.

resource "azurerm_log_analytics_workspace" "this" {
  name                         = var.name
  resource_group_name          = azurerm_resource_group.this.name
  location                     = azurerm_resource_group.this.location
  sku                          = "PerGB2018"
  retention_in_days            = var.log_retention_days
  local_authentication_enabled = false
  tags                         = local.tags
}

resource "azurerm_monitor_data_collection_rule" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  kind                = "Linux"
  tags                = local.tags

  data_sources {
    syslog {
      name           = "workers"
      facility_names = ["local0"]
      log_levels     = ["*"]
      streams        = ["Microsoft-Syslog"]
    }
  }

  destinations {
    log_analytics {
      name                  = "workspace"
      workspace_resource_id = azurerm_log_analytics_workspace.this.id
    }
  }

  data_flow {
    streams      = ["Microsoft-Syslog"]
    destinations = ["workspace"]
  }
}

# A machine of a Flexible set is one of its own, so each needs the rule. Azure's built-in policy "Configure Linux Machines to
# be associated with a Data Collection Rule" gives it to each new machine of this group.
resource "azurerm_resource_group_policy_assignment" "logs" {
  name                 = "${var.name}-logs"
  display_name         = "The logs of the fleet ${var.name}"
  resource_group_id    = azurerm_resource_group.this.id
  location             = azurerm_resource_group.this.location
  policy_definition_id = "/providers/Microsoft.Authorization/policyDefinitions/2ea82cdd-f2e8-4500-af75-67a2e084ca74"
  parameters           = jsonencode({ dcrResourceId = { value = azurerm_monitor_data_collection_rule.this.id } })

  identity {
    type = "SystemAssigned"
  }
}

resource "azurerm_role_assignment" "logs" {
  for_each = toset(["Log Analytics Contributor", "Monitoring Contributor"]) # what that policy asks for

  role_definition_name = each.key
  scope                = azurerm_resource_group.this.id
  principal_id         = azurerm_resource_group_policy_assignment.logs.identity[0].principal_id
  principal_type       = "ServicePrincipal"
}
