"""How well anchors fit the objects of a dataset, and which would fit better."""
