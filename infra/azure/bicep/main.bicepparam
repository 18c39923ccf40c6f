using 'main.bicep'

// What has no default.
param name = 'orders'
param location = 'westeurope'
param image = 'myacr.azurecr.io/cloud-worker@sha256:0000000000000000000000000000000000000000000000000000000000000000'
param registryId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/images/providers/Microsoft.ContainerRegistry/registries/myacr'

// What the app declares with @app.queue.
param queues = { routes: { partitions: 16 } }

// What it may cost.
param instanceType = 'Standard_B2s'
param instances = { min: 2, max: 10 }

// Who may look at the fleet from outside.
param operatorIps = ['203.0.113.7']
