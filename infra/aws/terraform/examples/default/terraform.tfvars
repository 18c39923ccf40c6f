# The least that must be said. Copy it to infra/aws.tfvars, and see variables.tf for the rest.
name     = "orders"
location = "eu-central-1"
image    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloud-worker@sha256:4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f"
