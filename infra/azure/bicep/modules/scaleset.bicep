// The machines: a Flexible scale set that boots infra/boot/cloud-init.yaml, asks for their health, and replaces them.

metadata name = 'Scale set'
metadata description = 'Flexible scale set of workers, with health, repair, rolling upgrade and notice of its end.'

@description('Name of the scale set, and start of the names of its machines.')
param name string

@description('Region of Azure.')
param location string

@description('Tags of all resources.')
param tags object

@description('Availability zones that machines are spread over.')
param zones string[]

@description('Size of the machines.')
param instanceType string

@description('How many machines to have after the deployment; autoscale goes on from there.')
param capacity int

@description('Take spare machines at their price.')
param spot bool

@description('Resource id of the subnet.')
param subnetId string

@description('Resource id of the rules for their traffic.')
param rulesId string

@description('Resource id of the identity that the machines sign in with.')
param identityId string

@description('Client id of the same identity.')
param clientId string

@description('Object id of the same identity.')
param principalId string

@description('Image of the worker, by digest.')
param image string

@description('The settings of the worker.')
param workerEnvironment object

@description('From SIGTERM to SIGKILL.')
param stopGraceSeconds int

@description('How long ahead the end of a machine is announced; 0 for no notice.')
param noticeSeconds int

@description('Port of health and metrics, on 127.0.0.1.')
param adminPort int

@description('Public key of whoever may sign in to the machines as `cloudworker`; null for nobody.')
param sshPublicKey string?

// Azure wants a key of every machine. This one has no private half: its point on the curve is the SHA-256 of the sentence
// "Nobody signs in to a worker.", and nobody can compute backwards from there.
var nobody = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBISEOhW83ux8fm4Mn9tdRQ/OQ95NUe4Wsgukedp1+b7'

var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb' // Monitoring Metrics Publisher

var placeholders = {
  admin_port: string(adminPort)
  environment: base64(join(map(items(workerEnvironment), it => '${it.key}=${it.value}\n'), ''))
  identity_client_id: clientId
  image: image
  log_options: '--log-driver=none'
  pull_image: loadFileAsBase64('../../../boot/pull_image.py')
  registry_login: endsWith(first(split(image, '/')), '.azurecr.io') ? 'azure' : 'none'
  stop_grace: string(stopGraceSeconds)
}
var userData = reduce(
  items(placeholders),
  loadTextContent('../../../boot/cloud-init.yaml'),
  (text, it) => replace(text, '\${${it.key}}', it.value)
)
var encoded = base64(userData)

resource workers 'Microsoft.Compute/virtualMachineScaleSets@2024-11-01' = {
  name: name
  location: location
  tags: tags
  zones: zones
  sku: { name: instanceType, tier: 'Standard', capacity: capacity }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    orchestrationMode: 'Flexible'
    platformFaultDomainCount: 1 // machines are spread by zone, and by Azure's best effort within one
    zoneBalance: false // an even spread is tried all the same; a zone without room must not keep the others from growing
    singlePlacementGroup: false
    upgradePolicy: {
      mode: 'Rolling'
      rollingUpgradePolicy: {
        maxBatchInstancePercent: 20
        maxUnhealthyInstancePercent: 50 // one of two machines
        maxUnhealthyUpgradedInstancePercent: 20 // the first newer machine that fails ends the upgrade
        pauseTimeBetweenBatches: 'PT1M'
        prioritizeUnhealthyInstances: true
        // New machines first, then the old ones are taken away with their notice: only a new machine reads new user data.
        maxSurge: true
      }
    }
    automaticRepairsPolicy: {
      enabled: true
      gracePeriod: 'PT30M' // a first boot installs Docker and pulls the image
      repairAction: 'Replace'
    }
    virtualMachineProfile: {
      userData: length(encoded) <= 65536
        ? encoded
        : fail('environment: the user data has ${length(encoded)} characters, and Azure takes 65536. Shorten it.')
      priority: spot ? 'Spot' : 'Regular'
      evictionPolicy: spot ? 'Delete' : null
      billingProfile: spot ? { maxPrice: -1 } : null // up to the regular price: evicted for want of room only
      scheduledEventsProfile: noticeSeconds == 0
        ? null
        : { terminateNotificationProfile: { enable: true, notBeforeTimeout: 'PT${noticeSeconds / 60}M' } }
      securityProfile: {
        securityType: 'TrustedLaunch'
        uefiSettings: { secureBootEnabled: true, vTpmEnabled: true }
      }
      storageProfile: {
        imageReference: {
          publisher: 'Canonical'
          offer: 'ubuntu-24_04-lts'
          sku: 'server'
          version: 'latest'
        }
        osDisk: {
          createOption: 'FromImage'
          deleteOption: 'Delete'
          caching: 'ReadWrite'
          managedDisk: { storageAccountType: 'StandardSSD_LRS' }
        }
      }
      osProfile: {
        computerNamePrefix: name
        adminUsername: 'cloudworker'
        linuxConfiguration: {
          disablePasswordAuthentication: true
          ssh: { publicKeys: [{ path: '/home/cloudworker/.ssh/authorized_keys', keyData: sshPublicKey ?? nobody }] }
          patchSettings: { patchMode: 'ImageDefault' } // unattended-upgrades, which infra/boot forbids to reboot
        }
      }
      networkProfile: {
        networkApiVersion: '2020-11-01'
        networkInterfaceConfigurations: [
          {
            name: 'workers'
            properties: {
              primary: true
              deleteOption: 'Delete'
              networkSecurityGroup: { id: rulesId }
              ipConfigurations: [{ name: 'workers', properties: { primary: true, subnet: { id: subnetId } } }]
            }
          }
        ]
      }
      extensionProfile: {
        extensions: [
          {
            name: 'health'
            properties: {
              publisher: 'Microsoft.ManagedServices'
              type: 'ApplicationHealthLinux'
              typeHandlerVersion: '2.0' // the one that reads the state from the body, and heeds SkipUpgrade
              autoUpgradeMinorVersion: true
              // What machines get at their first boot is no part of the model that Azure compares: this makes it one.
              forceUpdateTag: guid(userData)
              settings: {
                protocol: 'http'
                port: adminPort
                requestPath: '/healthz/azure'
                intervalInSeconds: 10
                numberOfProbes: 3
                gracePeriod: 900
              }
            }
          }
          {
            name: 'logs'
            properties: {
              publisher: 'Microsoft.Azure.Monitor'
              type: 'AzureMonitorLinuxAgent'
              typeHandlerVersion: '1.0'
              autoUpgradeMinorVersion: true
              settings: {
                authentication: {
                  managedIdentity: { 'identifier-name': 'mi_res_id', 'identifier-value': identityId }
                }
              }
            }
          }
        ]
      }
    }
  }
}

// What autoscale goes by is published by the leader, as a figure of this scale set.
resource publishing 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: workers
  name: guid(workers.id, principalId, metricsPublisher)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

@description('Resource id of the scale set.')
output id string = workers.id
