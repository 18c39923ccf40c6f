// Leave to pull the image. A module of its own, as the registry may be in another resource group or subscription.

metadata name = 'Registry'
metadata description = 'Lets an identity pull from a container registry.'

@description('Name of the container registry.')
param registry string

@description('Object id of the identity.')
param principalId string

// Ignored by a registry whose permissions are set per repository (AbacRepositoryPermissions): give the identity
// Container Registry Repository Reader there yourself.
var pull = '7f951dda-4ed3-4680-a7ca-43fe172d538d' // AcrPull

resource images 'Microsoft.ContainerRegistry/registries@2025-11-01' existing = {
  name: registry
}

resource pulling 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: images
  name: guid(images.id, principalId, pull)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', pull)
  }
}
