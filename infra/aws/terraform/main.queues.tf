# Every queue of the fleet. No redrive: a message is moved to the dead-letter queue by the worker, with its error, and
# nothing is lost when SQS counts a receive that no handler saw.

resource "aws_sqs_queue" "this" {
  for_each = toset(local.queue_names)

  name                      = each.key
  fifo_queue                = endswith(each.key, ".fifo")
  message_retention_seconds = 14 * 24 * 3600 # the longest there is: what the worker promises (docs/design.md)
  sqs_managed_sse_enabled   = true

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = "${local.queue_arns}${each.key}"
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
