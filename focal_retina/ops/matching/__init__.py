"""Matching anchors with objects: the public function and its dense and sparse algorithms."""
