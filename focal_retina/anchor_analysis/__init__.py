"""How well anchors cover the objects of a data set, and which would cover them better."""
