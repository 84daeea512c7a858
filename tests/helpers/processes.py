"""Functions in real processes that talk to each other."""

from detectron2.engine import launch

from focal_retina.distributed import leave


def run_processes(number, function, *args):
    """Call ``function(*args)`` in as many processes, as Detectron2 starts them."""
    launch(_run_and_leave, number, dist_url="auto", args=(function, args))


def _run_and_leave(function, args):
    function(*args)
    leave()
