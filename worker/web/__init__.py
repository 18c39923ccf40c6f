"""The admin port: health for whoever restarts machines, metrics for whoever watches. It never touches the store."""
