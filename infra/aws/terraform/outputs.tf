# The same six on Azure.

output "worker_environment" {
  value       = local.worker_environment
  description = "The workers' settings: what the machines run with, and what a laptop needs to run `worker status` against this fleet."
}

output "store" {
  value       = local.store
  description = "Where the fleet meets: WORKER_STORE."
}

output "queue_names" {
  value       = local.queue_names
  description = "All queues as they are named in SQS: intakes, partitions and dead-letter queues."
}

output "group" {
  value       = aws_autoscaling_group.this.name
  description = "Name of the Auto Scaling group."
}

output "identity" {
  value       = aws_iam_role.this.arn
  description = "ARN of the machines' role: grant it what your handlers need."
}

output "log_destination" {
  value       = aws_cloudwatch_log_group.this.name
  description = "Name of the log group; each machine has a stream in it."
}
