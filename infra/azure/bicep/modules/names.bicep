// Names of queues, by the one rule of all stores (worker/core/names.py). Functions only: nothing is deployed.

metadata name = 'Names'
metadata description = 'Names the queues that a fleet has, as the runtime names them.'

@export()
@description('One logical queue.')
type queueType = {
  @description('Into how many physical queues its messages are spread by their key. More than the fleet has machines.')
  @minValue(1)
  @maxValue(1000)
  partitions: int
}

@export()
@description('Fewest and most machines.')
type instancesType = {
  @minValue(0)
  @maxValue(1000)
  min: int

  @minValue(0)
  @maxValue(1000)
  max: int
}

@export()
@description('The partitions of a logical queue: two digits, or as many as the highest number has.')
func partitionNames(queue string, partitions int) string[] =>
  map(
    range(0, partitions),
    index => '${queue}-${padLeft(string(index), max(2, length(string(partitions - 1))), '0')}'
  )

@export()
@description('All that a logical queue consists of: its intake, its dead letters, its partitions.')
func queueNames(queue string, partitions int) string[] =>
  concat([queue, '${queue}-dlq'], partitionNames(queue, partitions))

@export()
@description('The characters of a text that are not among the allowed ones.')
func strangers(text string, allowed string) string[] =>
  filter(map(range(0, length(text)), index => substring(text, index, 1)), one => !contains(allowed, one))

@export()
@description('Whether a text is lower-case letters, digits and single hyphens, starting with a letter and not ending in a hyphen.')
func isName(text string) bool =>
  !empty(text) && empty(strangers(text, 'abcdefghijklmnopqrstuvwxyz0123456789-')) && empty(strangers(
    take(text, 1),
    'abcdefghijklmnopqrstuvwxyz'
  )) && !endsWith(text, '-') && !contains(text, '--')

@export()
@description('Whether a name could be that of a partition or of a dead-letter queue, which no logical queue may have.')
func isTaken(text string) bool =>
  endsWith(text, '-dlq') || (contains(text, '-') && empty(strangers(last(split(text, '-')), '0123456789')))
