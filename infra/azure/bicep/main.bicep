// A fleet of workers on Azure, in the resource group that this is deployed to. README.md says how.
//
// The parameters down to `tags` are the same, with the same defaults, in Terraform for Azure and for AWS; the rest are
// Azure's own, and the last one Bicep's.

metadata name = 'Cloud Worker'
metadata description = 'Flexible scale set of workers with their store, their queues, their logs and their scaling.'

import { instancesType, queueNames, queueType } from 'modules/names.bicep'
import { environmentProblems, machineProblems, nameProblems, placeProblems, timeProblems } from 'modules/checks.bicep'

@description('Name of the fleet, and of everything that is made for it: 3 to 16 lower-case letters, digits and single hyphens, starting with a letter.')
@minLength(3)
@maxLength(16)
param name string

@description('Region of Azure, as `az account list-locations` names it: westeurope.')
@minLength(3)
param location string

@description('Image of the worker, by digest: REGISTRY/NAME@sha256:DIGEST.')
param image string

@description('Size of the machines.')
param instanceType string = 'Standard_B2s'

@description('Fewest and most machines. 0 for both stops the fleet, and leaves its store and its queues.')
param instances instancesType = { min: 2, max: 10 }

@description('Take spare machines at their price, which Azure may evict with 30 seconds\' notice.')
param spot bool = false

@description('The logical queues that the app declares with @app.queue, by name. Each gets its intake, its partitions and a dead-letter queue.')
param queues { *: queueType } = { routes: { partitions: 16 } }

@description('Goes before every queue\'s name (WORKER_QUEUE_PREFIX). The account is the fleet\'s own, so none is needed here.')
@maxLength(20)
param queuePrefix string = ''

@description('The app to run, as module:attribute (WORKER_APP).')
@minLength(3)
param app string = 'jobs:app'

@description('Lease duration: how long a dead leader holds up the fleet (WORKER_LEASE). All other timings follow from it.')
@minValue(15)
@maxValue(60)
param leaseSeconds int = 15

@description('What running handlers get to finish in when an instance drains (WORKER_DRAIN_TIMEOUT).')
@minValue(1)
param drainSeconds int = 60

@description('From SIGTERM to SIGKILL (WORKER_STOP_GRACE): a drain, and what a cancelled handler gets to end in.')
@minValue(1)
param stopGraceSeconds int = 90

@description('How long ahead Azure announces the end of a machine (terminate notification, WORKER_HOST_NOTICE): whole minutes. 0 for none, as on Spot; null would be the default.')
@minValue(0)
@maxValue(900)
param noticeSeconds int = 300

@description('Port of health and metrics on the machine\'s 127.0.0.1 (WORKER_ADMIN_PORT), which the health extension asks.')
@minValue(1024)
@maxValue(65535)
param adminPort int = 8080

@description('Messages, waiting or being handled, for each machine: with more the fleet grows, with less than a quarter it shrinks.')
@minValue(1)
param backlogPerInstance int = 100

@description('Further settings of the worker, WORKER_… only. Whoever may describe a machine can read them: no secrets.')
param environment { *: string } = {}

@description('A subnet of yours for the machines, with the service endpoint Microsoft.Storage and a way out. Empty: the stack makes a network with a NAT gateway.')
@maxLength(1)
param subnetIds string[] = []

@description('Days that logs are kept for.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Tags of all resources.')
param tags { *: string } = {}

@description('Resource id of the container registry that holds the image: the machines\' identity may then pull from it (AcrPull). null: you see to that.')
param registryId string?

@description('Availability zones that machines are spread over. Empty where the region has none.')
param zones ('1' | '2' | '3')[] = ['1', '2', '3']

@description('Public IPv4 addresses, or ranges of them, that may reach the store besides the machines, for `worker status` and the like.')
param operatorIps string[] = []

@description('Public key of whoever may sign in to the machines as `cloudworker`, from inside the network. null: nobody.')
param sshPublicKey string?

@description('How many machines to have right after the deployment. Azure takes no scale set without a number, and cannot be told to keep the one that autoscale has set: give the present one when you deploy again under load.')
@minValue(0)
@maxValue(1000)
param capacity int = instances.min

// --- what cannot work, refused before anything is made ---

var own = [
  'WORKER_ADMIN_PORT'
  'WORKER_APP'
  'WORKER_AZURE_CLIENT_ID'
  'WORKER_DRAIN_TIMEOUT'
  'WORKER_FLEET'
  'WORKER_HOST'
  'WORKER_HOST_NOTICE'
  'WORKER_LEASE'
  'WORKER_QUEUE_PREFIX'
  'WORKER_STOP_GRACE'
  'WORKER_STORE'
]
var problems = concat(
  nameProblems(name, queuePrefix, queues),
  machineProblems(image, app, instanceType, instances),
  placeProblems(location, zones, subnetIds, registryId ?? '', operatorIps, sshPublicKey ?? ''),
  timeProblems(leaseSeconds, drainSeconds, stopGraceSeconds, noticeSeconds, spot),
  environmentProblems(environment, own)
)
var fleet = empty(problems) ? name : fail(join(problems, ' '))

// --- names and settings ---

var container = 'fleet'
// Unique in all of Azure, and the same again after a teardown.
var account = '${take(replace(fleet, '-', ''), 11)}${uniqueString(resourceGroup().id, fleet)}'
var allTags = union({ 'cloud-worker-fleet': fleet }, tags)

var intakes = map(items(queues), queue => '${queuePrefix}${queue.key}')
var allQueues = map(
  flatten(map(items(queues), queue => queueNames(queue.key, queue.value.partitions))),
  queue => '${queuePrefix}${queue}'
)
// A template holds 800 resources at the most.
var queueSets = map(range(0, (length(allQueues) + 499) / 500), set => take(skip(allQueues, 500 * set), 500))

var store = 'azure://${account}/${container}'
var settings = union(
  environment,
  {
    WORKER_APP: app
    WORKER_DRAIN_TIMEOUT: string(drainSeconds)
    WORKER_FLEET: fleet
    WORKER_HOST: 'azure'
    WORKER_LEASE: string(leaseSeconds)
    WORKER_STORE: store
  },
  noticeSeconds == 0 ? {} : { WORKER_HOST_NOTICE: string(noticeSeconds) },
  empty(queuePrefix) ? {} : { WORKER_QUEUE_PREFIX: queuePrefix }
)

// --- resources ---

module network 'modules/network.bicep' = {
  name: '${fleet}-network'
  params: {
    name: fleet
    location: location
    tags: allTags
    subnetIds: subnetIds
    signIn: !empty(sshPublicKey)
  }
}

module storage 'modules/storage.bicep' = {
  name: '${fleet}-storage'
  params: {
    name: account
    location: location
    tags: allTags
    container: container
    subnetId: network.outputs.subnetId
    operatorIps: operatorIps
    zonal: !empty(zones)
  }
}

// Workers would make missing queues themselves. Made here, they are there before the first machine.
@batchSize(1)
module queuesOfStore 'modules/queues.bicep' = [
  for (names, index) in queueSets: {
    name: '${fleet}-queues-${index}'
    params: { account: storage.outputs.accountName, names: names }
  }
]

module identity 'modules/identity.bicep' = {
  name: '${fleet}-identity'
  params: {
    name: fleet
    location: location
    tags: allTags
    account: storage.outputs.accountName
    container: container
  }
}

module registry 'modules/registry.bicep' = if (!empty(registryId)) {
  name: '${fleet}-registry'
  scope: resourceGroup(
    empty(registryId) ? subscription().subscriptionId : split(registryId ?? '', '/')[2],
    empty(registryId) ? resourceGroup().name : split(registryId ?? '', '/')[4]
  )
  params: {
    registry: last(split(registryId ?? '', '/'))
    principalId: identity.outputs.principalId
  }
}

module logs 'modules/logs.bicep' = {
  name: '${fleet}-logs'
  params: { name: fleet, location: location, tags: allTags, retentionDays: logRetentionDays }
}

module scaleSet 'modules/scaleset.bicep' = {
  name: '${fleet}-scaleset'
  params: {
    name: fleet
    location: location
    tags: allTags
    zones: zones
    instanceType: instanceType
    capacity: capacity
    spot: spot
    subnetId: network.outputs.subnetId
    rulesId: network.outputs.rulesId
    identityId: identity.outputs.id
    clientId: identity.outputs.clientId
    principalId: identity.outputs.principalId
    image: image
    workerEnvironment: union(settings, { WORKER_AZURE_CLIENT_ID: identity.outputs.clientId })
    stopGraceSeconds: stopGraceSeconds
    noticeSeconds: noticeSeconds
    adminPort: adminPort
    sshPublicKey: sshPublicKey
  }
  dependsOn: [queuesOfStore, registry, logs] // what the first machine needs before it boots
}

module autoscale 'modules/autoscale.bicep' = {
  name: '${fleet}-autoscale'
  params: {
    name: fleet
    location: location
    tags: allTags
    scaleSetId: scaleSet.outputs.id
    accountId: storage.outputs.accountId
    intakes: intakes
    instances: instances
    backlogPerInstance: backlogPerInstance
  }
}

// --- outputs, the same in Terraform ---

@description('The settings that every machine\'s worker gets, by the names of their variables.')
output workerEnvironment object = union(settings, { WORKER_AZURE_CLIENT_ID: identity.outputs.clientId })

@description('Where the fleet meets: WORKER_STORE, for `worker status --store …`.')
output store string = store

@description('All queues as Azure knows them.')
output queueNames string[] = allQueues

@description('Resource id of the scale set.')
output group string = scaleSet.outputs.id

@description('Client id of the identity that the machines sign in with.')
output identity string = identity.outputs.clientId

@description('Resource id of the Log Analytics workspace that has the workers\' logs, in its table Syslog.')
output logDestination string = logs.outputs.workspaceId
