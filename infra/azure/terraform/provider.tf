# For the stack on its own. Where it is a module of a configuration of yours, that configures the provider: delete this file.

provider "azurerm" {
  storage_use_azuread = true # the account takes no keys

  features {}
}
