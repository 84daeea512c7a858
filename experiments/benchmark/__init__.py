"""The measurements of ``python -m experiments.benchmark``.

A case is one piece of work and its contestants: ours, Detectron2's, torchvision's, fvcore's, and
limits that none of them can pass. The contestants of a case get the same input and, but where a
note says otherwise, return the same result (tested).
"""
