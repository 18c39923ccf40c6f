terraform {
  required_version = ">= 1.9, < 2.0" # conditions of variables that name other variables

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 5.0, < 6.0"
    }
  }
}
