"""Everything that knows a store: the driver interface, the portable provider over it, and the drivers."""
