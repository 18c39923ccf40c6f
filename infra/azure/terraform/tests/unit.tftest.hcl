# What the stack makes of its knobs, without Azure: `terraform test`. Names, roles, user data and settings are compared with
# the runtime's own in tests/infra, and so is what each hostile variable is refused with.

mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = { subscription_id = "5f0a2a5e-8f5b-4b0f-9d2a-0c2f2c1a7b11" }
  }
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/s/resourceGroups/orders/providers/Microsoft.ManagedIdentity/userAssignedIdentities/orders"
      client_id    = "7e1f3c1e-58a6-4b7c-9c6f-0d0f5b7d9a11"
      principal_id = "0d5f6a77-2a52-4f6d-9f1c-5f4c7f1e2d33"
    }
  }
  mock_resource "azurerm_storage_account" {
    defaults = { id = "/subscriptions/s/resourceGroups/orders/providers/Microsoft.Storage/storageAccounts/orders01" }
  }
  mock_resource "azurerm_orchestrated_virtual_machine_scale_set" {
    defaults = { id = "/subscriptions/s/resourceGroups/orders/providers/Microsoft.Compute/virtualMachineScaleSets/orders" }
  }
  mock_resource "azurerm_log_analytics_workspace" {
    defaults = { id = "/subscriptions/s/resourceGroups/orders/providers/Microsoft.OperationalInsights/workspaces/orders" }
  }
}

variables {
  name     = "orders"
  location = "westeurope"
  image    = "myacr.azurecr.io/team/cloud-worker@sha256:4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f"
}

run "defaults" {
  assert {
    condition     = azurerm_storage_account.this.shared_access_key_enabled == false && azurerm_storage_account.this.allow_nested_items_to_be_public == false && azurerm_storage_account.this.min_tls_version == "TLS1_2" && azurerm_storage_account.this.local_user_enabled == false
    error_message = "The account takes no keys, shows nothing to everybody, and speaks TLS 1.2."
  }
  assert {
    condition     = azurerm_storage_account.this.network_rules[0].default_action == "Deny" && length(azurerm_storage_account.this.network_rules[0].ip_rules) == 0 && one(azurerm_storage_account.this.network_rules[0].virtual_network_subnet_ids) == azurerm_subnet.this[0].id
    error_message = "The account answers the machines' subnet, and nobody else."
  }
  assert {
    condition     = azurerm_storage_account.this.blob_properties[0].versioning_enabled == false && length(azurerm_storage_account.this.blob_properties[0].delete_retention_policy) == 0 && length(azurerm_storage_account.this.blob_properties[0].container_delete_retention_policy) == 0
    error_message = "Documents are rewritten every few seconds: no version and no deleted one is kept."
  }
  assert {
    condition     = length(azurerm_storage_queue.this) == 18 && azurerm_storage_container.this.name == "fleet" && azurerm_storage_container.this.container_access_type == "private"
    error_message = "One intake, sixteen partitions and one dead-letter queue; one private container."
  }
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.this.priority == "Regular" && azurerm_orchestrated_virtual_machine_scale_set.this.termination_notification[0].enabled && azurerm_orchestrated_virtual_machine_scale_set.this.termination_notification[0].timeout == "PT5M"
    error_message = "A machine is told of its end five minutes ahead."
  }
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.this.upgrade_mode == "Rolling" && azurerm_orchestrated_virtual_machine_scale_set.this.rolling_upgrade_policy[0].maximum_surge_instances_enabled && azurerm_orchestrated_virtual_machine_scale_set.this.rolling_upgrade_policy[0].max_batch_instance_percent <= azurerm_orchestrated_virtual_machine_scale_set.this.rolling_upgrade_policy[0].max_unhealthy_instance_percent
    error_message = "An upgrade starts newer machines before it ends older ones, and Azure takes no batch that exceeds the unhealthy share."
  }
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.this.automatic_instance_repair[0].enabled && azurerm_orchestrated_virtual_machine_scale_set.this.automatic_instance_repair[0].action == "Replace"
    error_message = "A sick machine is replaced."
  }
  assert {
    condition     = toset(azurerm_orchestrated_virtual_machine_scale_set.this.zones) == toset(["1", "2", "3"]) && azurerm_storage_account.this.account_replication_type == "ZRS"
    error_message = "Machines and store are in three zones."
  }
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.this.identity[0].type == "UserAssigned" && length(azurerm_orchestrated_virtual_machine_scale_set.this.network_interface[0].ip_configuration[0].public_ip_address) == 0
    error_message = "Machines have the fleet's identity, and no address of their own."
  }
  assert {
    condition     = azurerm_subnet.this[0].default_outbound_access_enabled == false && azurerm_subnet.this[0].service_endpoint[0].service == "Microsoft.Storage" && length(azurerm_nat_gateway.this) == 1
    error_message = "Out through the gateway, and to the store past it."
  }
  assert {
    condition     = [for rule in azurerm_network_security_group.this.security_rule : rule.access] == ["Deny"]
    error_message = "Nobody gets in."
  }
  assert {
    condition     = azurerm_monitor_autoscale_setting.this.profile[0].capacity[0].minimum == 2 && azurerm_monitor_autoscale_setting.this.profile[0].capacity[0].maximum == 10 && length(azurerm_monitor_autoscale_setting.this.profile[0].rule) == 3
    error_message = "From two machines to ten, by the backlog and by one intake."
  }
}

run "spot" {
  variables {
    spot           = true
    notice_seconds = null
  }
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.this.priority == "Spot" && azurerm_orchestrated_virtual_machine_scale_set.this.eviction_policy == "Delete" && length(azurerm_orchestrated_virtual_machine_scale_set.this.termination_notification) == 0
    error_message = "Spot machines are deleted when they are evicted, and get no notice."
  }
  assert {
    condition     = !contains(keys(output.worker_environment), "WORKER_HOST_NOTICE")
    error_message = "A worker is told of no notice that it does not get."
  }
}

run "everything" {
  variables {
    queues         = { for name in ["aaa", "bbb", "ccc", "ddd", "eee", "fff", "ggg", "hhh", "iii", "big"] : name => { partitions = name == "big" ? 3 : 1 } }
    queue_prefix   = "shop-"
    instances      = { min = 1, max = 1000 }
    notice_seconds = 900
    subnet_ids     = ["/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/workers"]
    registry_id    = "/subscriptions/s/resourceGroups/shared/providers/Microsoft.ContainerRegistry/registries/myacr"
    operator_ips   = ["203.0.113.7"]
    zones          = []
    ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBISEOhW83ux8fm4Mn9tdRQ/OQ95NUe4Wsgukedp1+b7 me"
    environment    = { WORKER_CONCURRENCY = "10" }
    admin_port     = 9090
    tags           = { team = "shop" }
  }
  assert {
    condition     = length(azurerm_virtual_network.this) == 0 && length(azurerm_nat_gateway.this) == 0 && azurerm_orchestrated_virtual_machine_scale_set.this.network_interface[0].ip_configuration[0].subnet_id == var.subnet_ids[0]
    error_message = "With a subnet of yours, no network is made."
  }
  assert {
    condition     = azurerm_storage_account.this.account_replication_type == "LRS" && azurerm_orchestrated_virtual_machine_scale_set.this.zones == null
    error_message = "Without zones, neither machines nor store are spread over any."
  }
  assert {
    condition     = azurerm_role_assignment.worker["image"].role_definition_name == "AcrPull" && azurerm_role_assignment.worker["image"].scope == var.registry_id
    error_message = "The machines may pull from the registry that is named, and from no other."
  }
  assert {
    condition     = length(azurerm_monitor_autoscale_setting.this.profile[0].rule) == 10
    error_message = "Azure takes ten rules at the most."
  }
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.this.termination_notification[0].timeout == "PT15M"
    error_message = "Fifteen minutes are the most that Azure gives."
  }
  assert {
    condition     = [for rule in azurerm_network_security_group.this.security_rule : rule.access] == ["Allow", "Deny"]
    error_message = "With a key, the network's own machines may sign in, and nobody else."
  }
  assert {
    condition     = output.worker_environment["WORKER_CONCURRENCY"] == "10" && output.worker_environment["WORKER_QUEUE_PREFIX"] == "shop-"
    error_message = "Settings of yours arrive."
  }
}

run "too_many_settings" {
  command = plan
  variables {
    environment = { WORKER_APP_NOTES = join("", [for number in range(1000) : "a note of fifty characters, and it says nothing: ${number}"]) }
  }
  expect_failures = [azurerm_orchestrated_virtual_machine_scale_set.this]
}

run "stopped" {
  variables {
    instances = { min = 0, max = 0 }
  }
  assert {
    condition     = azurerm_monitor_autoscale_setting.this.profile[0].capacity[0].maximum == 0 && length(azurerm_monitor_autoscale_setting.this.profile[0].rule) == 0 && length(azurerm_storage_queue.this) == 18
    error_message = "A stopped fleet has no machines, and keeps its store and its queues."
  }
}
