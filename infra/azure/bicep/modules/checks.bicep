// What a fleet could not live with, refused before anything is deployed. Functions only: nothing is deployed.
//
// Bicep has no assertions that are not experimental. `main.bicep` therefore takes its name through `fail()` where there
// is any sentence here: `az deployment group validate`, `what-if` and `create` then all end with it.

metadata name = 'Checks'
metadata description = 'Says what is wrong with the knobs, one sentence each.'

import { isName, isTaken, strangers } from 'names.bicep'

@export()
@description('What is wrong with the names.')
func nameProblems(name string, queuePrefix string, queues object) string[] =>
  filter(
    concat(
      [
        isName(name)
          ? ''
          : 'name: use 3 to 16 lower-case letters, digits and single hyphens, starting with a letter and not ending in a hyphen. Given: ${name}.'
        empty(queuePrefix) || (isName(take(queuePrefix, length(queuePrefix) - 1)) && endsWith(queuePrefix, '-'))
          ? ''
          : 'queuePrefix: use up to 20 lower-case letters, digits and single hyphens, starting with a letter and ending in a hyphen, or nothing. Given: ${queuePrefix}.'
        length(items(queues)) <= 40 ? '' : 'queues: at most 40 logical queues. Given: ${length(items(queues))}.'
      ],
      map(
        filter(
          items(queues),
          queue => !isName(queue.key) || isTaken(queue.key) || length(queue.key) < 3 || length(queue.key) > 50
        ),
        queue =>
          'queues: a name has 3 to 50 lower-case letters, digits and single hyphens, starts with a letter, and does not end in a hyphen and a number or in -dlq, as partitions and dead letters are named so. Given: ${queue.key}.'
      ),
      map(
        filter(items(queues), queue => length('${queuePrefix}${queue.key}-dlq') > 63),
        queue =>
          'queues: with queuePrefix and -dlq, a name must not exceed the 63 characters that Azure takes. Given: ${queuePrefix}${queue.key}-dlq.'
      )
    ),
    it => !empty(it)
  )

@export()
@description('What is wrong with the times: what an end needs must fit into what it is given.')
func timeProblems(leaseSeconds int, drainSeconds int, stopGraceSeconds int, noticeSeconds int, spot bool) string[] =>
  filter(
    [
      3 * drainSeconds + 4 * leaseSeconds <= 3 * stopGraceSeconds
        ? ''
        : 'stopGraceSeconds: ${stopGraceSeconds} s are too short for drainSeconds, ${drainSeconds} s, and the ${(4 * leaseSeconds + 2) / 3} s that cancelled handlers get to end in (leaseSeconds x 3 x 4 / 9). Lengthen stopGraceSeconds, or shorten drainSeconds.'
      noticeSeconds == 0 || (noticeSeconds >= 300 && noticeSeconds % 60 == 0)
        ? ''
        : 'noticeSeconds: Azure takes whole minutes from 300 to 900 seconds; 0 for no notice. Given: ${noticeSeconds}.'
      noticeSeconds == 0 || !spot
        ? ''
        : 'noticeSeconds: Azure gives Spot machines no terminate notification. With spot = true, set noticeSeconds = 0: an eviction then shortens the drain to what its 30 seconds leave. Given: ${noticeSeconds}.'
      noticeSeconds == 0 || stopGraceSeconds + 30 <= noticeSeconds
        ? ''
        : 'noticeSeconds: ${noticeSeconds} s must be at least 30 s more than stopGraceSeconds, ${stopGraceSeconds} s: the machine goes when the notice is over, whether the worker has ended or not.'
    ],
    it => !empty(it)
  )

@export()
@description('What is wrong with the machines: what they run, what they are, how many there are.')
func machineProblems(image string, app string, instanceType string, instances object) string[] =>
  filter(
    [
      length(split(image, '@sha256:')) == 2 && length(last(split(image, '@sha256:'))) == 64 && empty(strangers(
          last(split(image, '@sha256:')),
          '0123456789abcdef'
        )) && contains(first(split(image, '@')), '/') && !startsWith(image, '/') && empty(strangers(
          first(split(image, '@')),
          'abcdefghijklmnopqrstuvwxyz0123456789._:/-'
        ))
        ? ''
        : 'image: use REGISTRY/NAME@sha256: and 64 hexadecimal digits. A tag may name another image tomorrow, and two machines would run two. Given: ${image}.'
      length(split(instanceType, '_')) > 1 && empty(strangers(
          take(instanceType, 1),
          'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
        ))
        ? ''
        : 'instanceType: use a size of the machines of Azure, such as Standard_B2s. Given: ${instanceType}.'
      length(split(app, ':')) == 2 && !startsWith(app, ':') && !endsWith(app, ':') && empty(strangers(
          toLower(app),
          'abcdefghijklmnopqrstuvwxyz0123456789_.:'
        ))
        ? ''
        : 'app: use module:attribute, such as jobs:app. Given: ${app}.'
      instances.min <= instances.max
        ? ''
        : 'instances: min must not be more than max. Given: min ${instances.min}, max ${instances.max}.'
      instances.min > 0 || instances.max == 0
        ? ''
        : 'instances: with min 0, max must be 0 as well. Without a machine there is no leader to publish the backlog that would bring the first one back. Given: max ${instances.max}.'
    ],
    it => !empty(it)
  )

@export()
@description('What is wrong with the places, and with who may get there; an empty id or key is none.')
func placeProblems(location string, zones string[], subnetIds string[], registryId string, operatorIps string[], sshPublicKey string) string[] =>
  filter(
    concat(
      [
        empty(strangers(location, 'abcdefghijklmnopqrstuvwxyz0123456789'))
          ? ''
          : 'location: use the short name of a region, lower-case letters and digits only, such as westeurope. Given: ${location}.'
        length(union(zones, [])) == length(zones) ? '' : 'zones: use "1", "2" and "3", each once, or none.'
        empty(registryId) || (length(split(registryId, '/')) == 9 && contains(
            toLower(registryId),
            '/providers/microsoft.containerregistry/registries/'
          ))
          ? ''
          : 'registryId: use the resource id of a container registry: /subscriptions/…/Microsoft.ContainerRegistry/registries/NAME. Given: ${registryId}.'
        empty(sshPublicKey) || startsWith(sshPublicKey, 'ssh-rsa AAAA') || startsWith(sshPublicKey, 'ssh-ed25519 AAAA')
          ? ''
          : 'sshPublicKey: use a public key in the format of OpenSSH, ssh-rsa or ssh-ed25519.'
      ],
      map(
        filter(
          subnetIds,
          id =>
            length(split(id, '/')) != 11 || !contains(toLower(id), '/providers/microsoft.network/virtualnetworks/')
        ),
        id =>
          'subnetIds: use the resource id of a subnet: /subscriptions/…/virtualNetworks/NAME/subnets/NAME. Given: ${id}.'
      ),
      map(
        filter(
          operatorIps,
          ip =>
            length(split(ip, '.')) != 4 || !empty(strangers(ip, '0123456789./')) || endsWith(ip, '/31') || endsWith(
              ip,
              '/32'
            )
        ),
        ip =>
          'operatorIps: use IPv4 addresses or ranges up to /30, such as 203.0.113.7 or 203.0.113.0/24. Azure takes no /31 and no /32: write the address alone. Given: ${ip}.'
      )
    ),
    it => !empty(it)
  )

@export()
@description('What is wrong with the further settings of the worker; `own` are those that the stack sets.')
func environmentProblems(environment object, own string[]) string[] =>
  flatten(map(
    items(environment),
    setting =>
      filter(
        [
          startsWith(setting.key, 'WORKER_') && length(setting.key) > 7 && empty(strangers(
              setting.key,
              'ABCDEFGHIJKLMNOPQRSTUVWXYZ_'
            )) && !contains(setting.value, '\n') && !contains(setting.value, '\r')
            ? ''
            : 'environment: names are WORKER_ and capital letters, and no value holds a newline. Wrong: ${setting.key}.'
          contains(['WORKER_ADMIN_TOKEN', 'WORKER_AZURE_CONNECTION_STRING'], setting.key)
            ? 'environment: ${setting.key} is a secret, and everything on a machine can read its user data. Workers sign in with the identity of the machine, and operators command the fleet through the store.'
            : ''
          contains(own, setting.key)
            ? 'environment: the stack sets ${setting.key} itself, from its resources and its other parameters.'
            : ''
        ],
        it => !empty(it)
      )
  ))
