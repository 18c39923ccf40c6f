# The bucket in which the fleet meets: its leases, its plan, its members. Small documents, written all the time.

resource "aws_s3_bucket" "store" {
  # checkov:skip=CKV_AWS_18:A log line for each renewal of each lease would outgrow the bucket, and tell what the terms tell.
  # checkov:skip=CKV_AWS_21:A lease is written every few seconds: each version would be kept, and listed over.
  # checkov:skip=CKV_AWS_144:A copy of a lease elects nobody, and must not.
  # checkov:skip=CKV_AWS_145:A lease would need a second service, and pay for it, at every renewal.
  # checkov:skip=CKV2_AWS_62:Nobody waits for a change of these documents: who needs one reads it.
  bucket        = local.bucket
  force_destroy = true # the queues go with all their messages too; what is left here means nothing without its fleet
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    id     = "parts-of-uploads"
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  rule {
    id     = "probes" # which a worker removes itself, unless it is killed meanwhile
    status = "Enabled"

    filter {
      prefix = "${local.prefix}/probe/"
    }

    expiration {
      days = 1
    }
  }
}

data "aws_iam_policy_document" "store" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.store.arn, "${aws_s3_bucket.store.arn}/*"]

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

  # The protocol of the leases, kept by the store itself: no write without a condition, whoever sends it. Of a multipart
  # upload only the completion has one, so that its parts pass.
  statement {
    sid       = "ConditionalWritesOnly"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.store.arn}/${local.prefix}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:if-match"
      values   = ["true"]
    }

    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }

    condition {
      test     = "Bool"
      variable = "s3:ObjectCreationOperation"
      values   = ["true"]
    }
  }

  # A lease that is gone makes the fleet wait, and its successor must not be taken for the first one.
  statement {
    sid       = "LeasesStay"
    effect    = "Deny"
    actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    resources = ["${aws_s3_bucket.store.arn}/${local.prefix}/leases/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
  }
}

resource "aws_s3_bucket_policy" "store" {
  bucket = aws_s3_bucket.store.id
  policy = data.aws_iam_policy_document.store.json

  depends_on = [aws_s3_bucket_public_access_block.store]
}
