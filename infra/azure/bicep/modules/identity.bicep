// Who the machines are, and what they may do in the store. What they may do to the scale set stands beside it.

metadata name = 'Identity'
metadata description = 'User-assigned identity of the machines, with its roles in the store.'

@description('Name of the identity.')
param name string

@description('Region of Azure.')
param location string

@description('Tags of all resources.')
param tags object

@description('Name of the storage account.')
param account string

@description('Name of the container that holds the lease and the documents.')
param container string

var roles = {
  // Documents and the lease. On the container: it may touch no other.
  blobData: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe' // Storage Blob Data Contributor
  // Messages. Storage Queue Data Message Processor would not do: extending a message in hand needs `messages/write`.
  queueData: '974c5e8b-45b9-4653-ba55-5f855dd0fb88' // Storage Queue Data Contributor
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

resource store 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: account
}

resource control 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  name: '${account}/default/${container}'
}

resource documents 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: control
  name: guid(control.id, identity.id, roles.blobData)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobData)
  }
}

// On the account, which has no other queues: a subscription takes 4,000 assignments, and a fleet may have more queues.
resource messages 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: store
  name: guid(store.id, identity.id, roles.queueData)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueData)
  }
}

@description('Resource id of the identity.')
output id string = identity.id

@description('Client id of the identity: what a machine asks for a token with.')
output clientId string = identity.properties.clientId

@description('Object id of the identity: what a role is given to.')
output principalId string = identity.properties.principalId
