# What cannot work is refused at plan. tests/infra has all hostile variables, one by one, with their sentences.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name     = "orders"
  location = "eu-central-1"
  image    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/cloud-worker@sha256:4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f"
}

run "refuses_a_tag" {
  command = plan

  variables {
    image = "ghcr.io/team/cloud-worker:latest"
  }

  expect_failures = [var.image]
}

run "refuses_a_drain_that_does_not_fit" {
  command = plan

  variables {
    drain_seconds      = 280
    stop_grace_seconds = 300
  }

  expect_failures = [var.notice_seconds]
}

run "refuses_an_environment_that_does_not_fit" {
  command = plan

  variables {
    environment = { WORKER_INSTANCE = join("", [for number in range(500) : sha512(tostring(number))]) }
  }

  expect_failures = [aws_launch_template.this]
}
