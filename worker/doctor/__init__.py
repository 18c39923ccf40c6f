"""`worker doctor`: examines the settings, the app and the store that `worker run` would use, before it does.

    findings    what one check says: ok, a warning, failed or skipped, and the fix
    examination the order of checks: each needs others to have gone well, and is skipped where they have not
    checks      the table of all checks
    basics, permissions, conditions, messages, queues, latency      the checks, by subject

A check is a function from a `Patient` and the earlier findings to a finding. It disturbs no fleet: documents under
`probe/`, leases of random roles, and one queue of its own are all that it touches, and it removes what it wrote.
"""
