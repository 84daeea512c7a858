"""The measurements of ``python -m experiments.benchmark``.

A case is some work that several implementations do: ours, those of Detectron2, torchvision and
fvcore, and limits that no implementation can pass. All implementations of a case get the same
input. They return the same result (tested), except where a note says why not.
"""
