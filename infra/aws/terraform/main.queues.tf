# Every queue of the fleet. No redrive: a message is moved to the dead-letter queue by the worker, with its error, and
# nothing is lost when SQS counts a receive that no handler saw.

data "aws_iam_policy_document" "queue" {
  for_each = toset(local.queue_names)

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = ["${local.queue_arns}${each.key}"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue" "this" {
  for_each = toset(local.queue_names)

  name                      = each.key
  fifo_queue                = endswith(each.key, ".fifo")
  message_retention_seconds = 14 * 24 * 3600 # the longest there is: what the worker promises (docs/design.md)
  sqs_managed_sse_enabled   = true
  policy                    = data.aws_iam_policy_document.queue[each.key].json
}
