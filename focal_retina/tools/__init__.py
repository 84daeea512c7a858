"""Commands: ``python -m focal_retina.tools.<name>``."""
