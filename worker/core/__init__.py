"""The pure core: functions over values. Nothing here waits, reads a clock, the environment or a socket."""
