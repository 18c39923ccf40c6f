# For the stack on its own. Where it is a module of a configuration of yours, that configures the provider: delete this file.

provider "azurerm" {
  storage_use_azuread = true # the account takes no keys

  # What a new subscription does not have yet; registering takes minutes, once.
  resource_providers_to_register = [
    "Microsoft.Authorization", "Microsoft.Compute", "Microsoft.Insights", "Microsoft.ManagedIdentity", "Microsoft.Network",
    "Microsoft.OperationalInsights", "Microsoft.PolicyInsights", "Microsoft.Storage",
  ]

  features {}
}
