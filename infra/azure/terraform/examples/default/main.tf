# A fleet of two to six machines with two queues. Copy this folder, put in values of your own, then: terraform init, apply.

terraform {
  required_version = ">= 1.9, < 2.0"

  # The state knows the whole stack: keep it where your team can reach it, and nobody else.
  # backend "azurerm" {
  #   resource_group_name  = "terraform"
  #   storage_account_name = "myteamterraform"
  #   container_name       = "state"
  #   key                  = "orders.tfstate"
  #   use_azuread_auth     = true
  # }
}

module "fleet" {
  source = "../.." # where you took this folder's stack

  name        = "orders"
  location    = "westeurope"
  image       = "myacr.azurecr.io/cloud-worker@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  registry_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shared/providers/Microsoft.ContainerRegistry/registries/myacr"

  instances = { min = 2, max = 6 }
  queues = {
    routes = { partitions = 16 }
    thumbs = { partitions = 1 }
  }
  operator_ips = ["203.0.113.7"]
  tags         = { team = "orders" }
}

output "fleet" {
  description = "What an operator needs: `worker status --store` takes the store."
  value       = module.fleet
}
