"""Classify pairs of one text and one image: extract features once, train many times."""

__version__ = "0.1.0"
