"""What an operator asks of a fleet, as async functions over a Provider: the CLI is a thin layer over these.

Nothing here talks to an instance: a look is a few reads, an order is an entry in the control document.
"""
