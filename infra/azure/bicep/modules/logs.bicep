// The workers' logs: facility local0 of every machine's journal (infra/boot), in the table Syslog of a workspace.

metadata name = 'Logs'
metadata description = 'Log Analytics workspace, and the rule that brings the workers\' log lines there.'

@description('Name of all resources.')
param name string

@description('Region of Azure.')
param location string

@description('Tags of all resources.')
param tags object

@description('Days that logs are kept for.')
param retentionDays int

// What that policy asks for, to give machines the rule and the agent.
var policyRoles = [
  '92aaf0da-9dab-42b6-94a3-d43ce8d16293' // Log Analytics Contributor
  '749f88d5-cbae-40b8-bcfc-e573ddc772fa' // Monitoring Contributor
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    features: { disableLocalAuth: true }
  }
}

resource rule 'Microsoft.Insights/dataCollectionRules@2024-03-11' = {
  name: name
  location: location
  tags: tags
  kind: 'Linux'
  properties: {
    dataSources: {
      syslog: [
        {
          name: 'workers'
          streams: ['Microsoft-Syslog']
          facilityNames: ['local0']
          logLevels: ['*']
        }
      ]
    }
    destinations: {
      logAnalytics: [{ name: 'workspace', workspaceResourceId: workspace.id }]
    }
    dataFlows: [{ streams: ['Microsoft-Syslog'], destinations: ['workspace'] }]
  }
}

// A machine of a Flexible set is one of its own, so each needs the rule. Azure's built-in policy "Configure Linux Machines
// to be associated with a Data Collection Rule" gives it to each new machine of this resource group.
resource association 'Microsoft.Authorization/policyAssignments@2024-04-01' = {
  name: '${name}-logs'
  location: location
  identity: { type: 'SystemAssigned' }
  properties: {
    displayName: 'The logs of the fleet ${name}'
    policyDefinitionId: '/providers/Microsoft.Authorization/policyDefinitions/2ea82cdd-f2e8-4500-af75-67a2e084ca74'
    parameters: { dcrResourceId: { value: rule.id } }
  }
}

resource associating 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in policyRoles: {
    name: guid(resourceGroup().id, association.id, role)
    properties: {
      principalId: association.identity.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]

@description('Resource id of the workspace.')
output workspaceId string = workspace.id
