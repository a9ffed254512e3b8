"""The objects of the cluster: the API, watches, names, manifests and the memory in ConfigMaps."""
