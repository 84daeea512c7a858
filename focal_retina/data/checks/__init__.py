"""Check a dataset before training: what is wrong, where, and what training does about it.

A dataset becomes a :class:`~focal_retina.data.checks.table.Table` of columns. Every check takes
tables and returns findings. Legend: N images, A annotations, K classes of a table.
"""
