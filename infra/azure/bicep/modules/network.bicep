// Machines without an address of their own and without a way in. Out they go through a NAT gateway, except to the store:
// a service endpoint leads there, so that a fleet that runs outlives the gateway.

metadata name = 'Network'
metadata description = 'The rules for the machines\' traffic, and a network with a way out where none is given.'

@description('Name of all resources.')
param name string

@description('Region of Azure.')
param location string

@description('Tags of all resources.')
param tags object

@description('A subnet to use instead of one made here.')
@maxLength(1)
param subnetIds string[]

@description('Whether operators may sign in from inside the network.')
param signIn bool

var own = empty(subnetIds)

var operators = [
  {
    name: 'operators'
    properties: {
      priority: 4000
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: 'VirtualNetwork'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRange: '22'
    }
  }
]

// Azure's own rules would let the rest of the network and load balancers in. Nobody has to talk to a worker.
var nobodyElse = [
  {
    name: 'nobody-else'
    properties: {
      priority: 4096
      direction: 'Inbound'
      access: 'Deny'
      protocol: '*'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRange: '*'
    }
  }
]

resource rules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: { securityRules: concat(signIn ? operators : [], nobodyElse) }
}

resource address 'Microsoft.Network/publicIPAddresses@2025-01-01' = if (own) {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource gateway 'Microsoft.Network/natGateways@2025-05-01' = if (own) {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: {
    idleTimeoutInMinutes: 4
    publicIpAddresses: [{ id: address.id }]
  }
}

// The subnet is part of the network's definition: one that is not named there is deleted by the next deployment.
resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = if (own) {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['10.64.0.0/20'] }
    subnets: [
      {
        name: 'workers'
        properties: {
          addressPrefix: '10.64.0.0/21' // a thousand machines, and those that replace them
          defaultOutboundAccess: false
          natGateway: { id: gateway.id }
          networkSecurityGroup: { id: rules.id }
          serviceEndpoints: [{ service: 'Microsoft.Storage' }]
        }
      }
    ]
  }
}

@description('Resource id of the subnet for the machines.')
output subnetId string = own ? '${network.id}/subnets/workers' : subnetIds[0]

@description('Resource id of the rules, which every machine has in any subnet.')
output rulesId string = rules.id
