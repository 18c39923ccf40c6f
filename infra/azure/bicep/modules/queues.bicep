// Some of the queues: a template holds 800 resources at the most, so that the queues of a large fleet need several.

metadata name = 'Queues'
metadata description = 'Queues of a storage account.'

@description('Name of the account.')
param account string

@description('Names of the queues.')
@maxLength(500)
param names string[]

resource service 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' existing = {
  name: '${account}/default'
}

// Azure Resource Manager changes a storage account ten times a second at the most.
@batchSize(20)
resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for name in names: {
    parent: service
    name: name
  }
]
