"""Matching: which object each anchor is matched with, and which label it gets.

``match_anchors``
    The public function, and what the results mean. Start there.
``rule``
    ``MatchRule``: the IoU thresholds, and the label of each interval between them.
``lattice``
    ``AnchorLattice``: where regular anchors lie, in a few numbers instead of R boxes.
``dense``
    Compares every object with every anchor. Runs for the backend "reference", and where no lattice
    is known.
``sparse``
    Compares only those pairs of an object and an anchor whose IoU can matter. Runs for all other
    backends. The lattice tells which pairs these are.
"""
