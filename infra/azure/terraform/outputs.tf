# The same outputs on AWS and in Bicep.

output "worker_environment" {
  description = "The settings that every machine's worker gets, by the names of their variables."
  value       = local.worker_environment
}

output "store" {
  description = "Where the fleet meets: WORKER_STORE, for `worker status --store …`."
  value       = local.worker_environment["WORKER_STORE"]
}

output "queue_names" {
  description = "All queues as Azure knows them, sorted."
  value       = sort(keys(azurerm_storage_queue.this))
}

output "group" {
  description = "Resource id of the scale set."
  value       = azurerm_orchestrated_virtual_machine_scale_set.this.id
}

output "identity" {
  description = "Client id of the identity that the machines sign in with."
  value       = azurerm_user_assigned_identity.this.client_id
}

output "log_destination" {
  description = "Resource id of the Log Analytics workspace that has the workers' logs, in its table Syslog."
  value       = azurerm_log_analytics_workspace.this.id
}
