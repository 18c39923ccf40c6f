# The least that must be said for the sample app. Copy it to infra/aws/terraform/production.tfvars, and see variables.tf for the rest.
name     = "orders"
location = "eu-central-1"
image    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloud-worker@sha256:4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f"

# The queues of the sample app in jobs/. Say here what yours declares.
queues = {
  routes = { partitions = 16 }
}
