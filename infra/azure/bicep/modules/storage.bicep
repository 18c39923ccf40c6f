// The store: one account of the fleet's own, with the container where it meets.

metadata name = 'Storage'
metadata description = 'Storage account without keys and without public access, and the control container.'

@description('Name of the account: 3 to 24 lower-case letters and digits, unique in the world.')
param name string

@description('Region of Azure.')
param location string

@description('Tags of all resources.')
param tags object

@description('Name of the container that holds the lease and the documents.')
param container string

@description('Resource id of the subnet that the machines stand in, with the service endpoint Microsoft.Storage.')
param subnetId string

@description('Public IPv4 addresses, or ranges of them, that may reach the store besides the machines.')
param operatorIps string[]

@description('Whether the store shall survive the loss of a zone.')
param zonal bool

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zonal ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    isHnsEnabled: false // its listings show folders too, which would be read as damaged documents
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    // Azure fixes this at creation: it cannot be switched on later.
    encryption: {
      keySource: 'Microsoft.Storage'
      requireInfrastructureEncryption: true
      services: {
        blob: { enabled: true, keyType: 'Account' }
        queue: { enabled: true, keyType: 'Account' }
      }
    }
    // Reached by its public name, from the machines' subnet and the operators' addresses only.
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices' // autoscale reads how long the intakes are
      defaultAction: 'Deny'
      ipRules: [for ip in operatorIps: { action: 'Allow', value: ip }]
      virtualNetworkRules: [{ action: 'Allow', id: subnetId }]
    }
  }
}

// No versions and no soft delete: every beat and every plan would be kept.
resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: false
    changeFeed: { enabled: false }
    deleteRetentionPolicy: { enabled: false }
    containerDeleteRetentionPolicy: { enabled: false }
  }
}

resource control 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = {
  parent: blobs
  name: container
  properties: { publicAccess: 'None' }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

@description('Resource id of the account.')
output accountId string = account.id

@description('Name of the account, once it exists.')
output accountName string = account.name
