"""Matching: which object each anchor is matched with, and which label it gets.

Start at ``match_anchors``. It has the readable reference, which compares every object with every
anchor; ``sparse`` compares only the pairs whose IoU can matter, and a ``lattice`` tells which.
"""
