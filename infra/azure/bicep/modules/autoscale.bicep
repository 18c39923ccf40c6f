// How many machines: by the backlog that the leader publishes, and by the intakes when nobody does.

metadata name = 'Autoscale'
metadata description = 'Scales the workers by the messages that wait for each of them.'

@description('Name of the fleet: dimension of its figures.')
param name string

@description('Region of Azure.')
param location string

@description('Tags of all resources.')
param tags object

@description('Resource id of the scale set.')
param scaleSetId string

@description('Resource id of the storage account.')
param accountId string

@description('Names of the intake queues; the first eight are watched, as a profile takes ten rules.')
param intakes string[]

@description('Fewest and most machines.')
param instances { min: int, max: int }

@description('Messages for each machine: with more the fleet grows.')
param backlogPerInstance int

var growth = max(1, (instances.max - instances.min + 3) / 4) // from the fewest to the most in four steps

// All that waits or is being handled, which the leader publishes once a minute.
var backlog = {
  metricName: 'Backlog'
  metricNamespace: 'CloudWorker'
  metricResourceUri: scaleSetId
  metricResourceLocation: location
  dimensions: [{ DimensionName: 'Fleet', Operator: 'Equals', Values: [name] }]
}

// Where nobody publishes, nothing shrinks; and what piles up in an intake, unrouted, lets the fleet grow all the same.
var waiting = map(take(intakes, 8), intake => {
  metricName: 'ApproximateMessageCount'
  metricResourceUri: '${accountId}/services/queue/queues/${intake}'
  metricResourceLocation: location
})

// Only where the figures and the threshold come from differs between the rules that grow.
var perMachine = {
  dividePerInstance: true
  statistic: 'Average'
  timeAggregation: 'Average'
  timeGrain: 'PT1M'
}
var grow = map(concat([backlog], waiting), figures => {
  metricTrigger: union(figures, perMachine, {
    operator: 'GreaterThan'
    threshold: backlogPerInstance
    timeWindow: 'PT5M'
  })
  scaleAction: { direction: 'Increase', type: 'ChangeCount', value: string(growth), cooldown: 'PT5M' }
})
var shrink = [
  {
    metricTrigger: union(backlog, perMachine, {
      operator: 'LessThan'
      threshold: max(1, backlogPerInstance / 4)
      timeWindow: 'PT10M'
    })
    scaleAction: { direction: 'Decrease', type: 'ChangeCount', value: '1', cooldown: 'PT10M' }
  }
]

resource settings 'Microsoft.Insights/autoscalesettings@2022-10-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    enabled: true
    name: name
    targetResourceUri: scaleSetId
    targetResourceLocation: location
    profiles: [
      {
        name: 'backlog'
        capacity: {
          minimum: string(instances.min)
          maximum: string(instances.max)
          default: string(instances.min) // taken when figures are missing, and only if there are fewer machines
        }
        rules: instances.max == 0 ? [] : concat(grow, shrink)
      }
    ]
  }
}
