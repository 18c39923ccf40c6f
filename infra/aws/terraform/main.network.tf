# A network of the fleet's own, where no subnets are given: two zones, as one instance is all that a fleet needs to go on
# (there is no quorum), and a way out in each, as a zone that is lost must not take the other's with it.

locals {
  own_network = length(var.subnet_ids) == 0
  zones       = local.own_network ? slice(sort(data.aws_availability_zones.usable[0].names), 0, 2) : []
  subnet_ids  = local.own_network ? [for zone in local.zones : aws_subnet.private[zone].id] : var.subnet_ids
  vpc_id      = local.own_network ? aws_vpc.this[0].id : data.aws_subnet.given[0].vpc_id
}

data "aws_availability_zones" "usable" {
  # checkov:skip=CKV_AWS_394:The first two by name are taken, in whatever state: neither a new zone nor one that fails moves the network.
  count = local.own_network ? 1 : 0

  filter { # no local zones: they lack services
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_subnet" "given" {
  count = local.own_network ? 0 : 1

  id = var.subnet_ids[0]
}

resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11:What handlers talk to is their affair, and a log of it costs more than the machines; bring your own subnets to have one.
  count = local.own_network ? 1 : 0

  cidr_block           = "10.0.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = local.full_name }
}

# The group that every VPC comes with lets its members talk to each other; without rules it lets nobody do anything.
resource "aws_default_security_group" "unused" {
  count = local.own_network ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${local.full_name}-unused" }
}

resource "aws_internet_gateway" "this" {
  count = local.own_network ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = local.full_name }
}

resource "aws_subnet" "public" {
  for_each = toset(local.zones)

  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(aws_vpc.this[0].cidr_block, 8, index(local.zones, each.key))
  tags              = { Name = "${local.full_name}-public-${each.key}" }
}

resource "aws_subnet" "private" {
  for_each = toset(local.zones)

  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(aws_vpc.this[0].cidr_block, 4, index(local.zones, each.key) + 1)
  tags              = { Name = "${local.full_name}-private-${each.key}" }
}

resource "aws_eip" "nat" {
  for_each = toset(local.zones)

  domain = "vpc"
  tags   = { Name = "${local.full_name}-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = toset(local.zones)

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id
  tags          = { Name = "${local.full_name}-${each.key}" }

  depends_on = [aws_route.public]
}

resource "aws_route_table" "public" {
  count = local.own_network ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${local.full_name}-public" }
}

resource "aws_route" "public" {
  count = local.own_network ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  for_each = toset(local.zones)

  subnet_id      = aws_subnet.public[each.key].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_route_table" "private" {
  for_each = toset(local.zones)

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${local.full_name}-private-${each.key}" }
}

resource "aws_route" "private" {
  for_each = toset(local.zones)

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[each.key].id
}

resource "aws_route_table_association" "private" {
  for_each = toset(local.zones)

  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}

# The documents, the image's layers and the system's packages all lie in S3: none of it pays for the NAT gateway.
resource "aws_vpc_endpoint" "s3" {
  count = local.own_network ? 1 : 0

  vpc_id            = aws_vpc.this[0].id
  service_name      = "com.amazonaws.${var.location}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for zone in local.zones : aws_route_table.private[zone].id]
  tags              = { Name = "${local.full_name}-s3" }
}

# Nobody needs to reach a worker. Where its handlers go is theirs to say.
resource "aws_security_group" "this" {
  name        = local.full_name
  description = "The workers of the fleet ${var.name}: out only."
  vpc_id      = local.vpc_id
  tags        = { Name = local.full_name }
}

resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.this.id
  description       = "Stores, registry, packages, and whatever the handlers talk to."
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
  tags              = { Name = "${local.full_name}-out" }
}
