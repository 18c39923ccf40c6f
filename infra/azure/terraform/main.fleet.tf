# The machines. Flexible orchestration: each is a virtual machine like any other, and the set keeps up their number.

locals {
  # Azure wants a key of every machine. This one has no private half: its point on the curve is the SHA-256 of the sentence
  # "Nobody signs in to a worker.", and nobody can compute backwards from there.
  nobody = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBISEOhW83ux8fm4Mn9tdRQ/OQ95NUe4Wsgukedp1+b7"
}

resource "azurerm_orchestrated_virtual_machine_scale_set" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags

  sku_name                    = var.instance_type
  instances                   = var.instances.min
  zones                       = length(var.zones) == 0 ? null : var.zones
  platform_fault_domain_count = 1 # as many as there are; zones allow no other value

  priority        = var.spot ? "Spot" : "Regular"
  eviction_policy = var.spot ? "Delete" : null
  max_bid_price   = var.spot ? -1 : null # up to the price of a regular machine

  user_data_base64 = base64encode(local.user_data)

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this.id]
  }

  source_image_reference {
    publisher = "Canonical"
    offer     = "ubuntu-24_04-lts"
    sku       = "server"
    version   = "latest"
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
  }

  os_profile {
    linux_configuration {
      computer_name_prefix            = var.name
      admin_username                  = "cloudworker"
      disable_password_authentication = true
      provision_vm_agent              = true
      patch_mode                      = "ImageDefault" # unattended-upgrades, which infra/boot forbids to reboot

      admin_ssh_key {
        username   = "cloudworker"
        public_key = coalesce(var.ssh_public_key, local.nobody)
      }
    }
  }

  network_interface {
    name                      = "workers"
    primary                   = true
    network_security_group_id = azurerm_network_security_group.this.id

    ip_configuration {
      name      = "workers"
      primary   = true
      subnet_id = local.subnet_id
    }
  }

  # In line: with an extension as a resource of its own, the set could not know that it has a health to go by.
  extension {
    name                               = "health"
    publisher                          = "Microsoft.ManagedServices"
    type                               = "ApplicationHealthLinux"
    type_handler_version               = "2.0"
    auto_upgrade_minor_version_enabled = true

    # What machines get at their first boot is no part of the model that Azure compares: this makes it one.
    force_extension_execution_on_change = sha256(local.user_data)

    settings = jsonencode({
      protocol          = "http"
      port              = var.admin_port
      requestPath       = "/healthz/azure"
      intervalInSeconds = 10
      numberOfProbes    = 3
      gracePeriod       = 900 # a machine installs its engine first
    })
  }

  extension {
    name                               = "logs"
    publisher                          = "Microsoft.Azure.Monitor"
    type                               = "AzureMonitorLinuxAgent"
    type_handler_version               = "1.0"
    auto_upgrade_minor_version_enabled = true
    settings = jsonencode({
      authentication = {
        managedIdentity = {
          "identifier-name"  = "mi_res_id"
          "identifier-value" = azurerm_user_assigned_identity.this.id
        }
      }
    })
  }

  automatic_instance_repair {
    enabled      = true
    action       = "Replace"
    grace_period = "PT30M"
  }

  dynamic "termination_notification" { # never on Spot: variables.tf
    for_each = var.notice_seconds == null ? [] : [var.notice_seconds]
    content {
      enabled = true
      timeout = "PT${termination_notification.value / 60}M"
    }
  }

  # A newer machine first, then the end of an older one, which drains: a machine reads its user data at its first boot only.
  upgrade_mode = "Rolling"
  rolling_upgrade_policy {
    maximum_surge_instances_enabled         = true
    max_batch_instance_percent              = 20
    max_unhealthy_instance_percent          = 50
    max_unhealthy_upgraded_instance_percent = 20 # the first newer machine that fails ends the upgrade
    pause_time_between_batches              = "PT1M"
    prioritize_unhealthy_instances_enabled  = true
  }

  lifecycle {
    ignore_changes = [instances] # main.scaling.tf has the number from here on

    precondition {
      condition     = length(base64encode(local.user_data)) <= 64 * 1024
      error_message = "The user data has ${length(base64encode(local.user_data))} characters, and Azure takes 65536: shorten `environment`."
    }
  }

  # Before the first machine boots: what it may, what it talks to, and its way out.
  depends_on = [
    azurerm_role_assignment.worker,
    azurerm_storage_queue.this,
    azurerm_nat_gateway_public_ip_association.this,
    azurerm_subnet_nat_gateway_association.this,
    azurerm_subnet_network_security_group_association.this,
    azurerm_resource_group_policy_assignment.logs,
    azurerm_role_assignment.logs,
  ]
}
