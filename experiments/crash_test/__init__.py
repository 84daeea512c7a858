"""Killing trainings, and comparing what becomes of them with an unbroken one."""
