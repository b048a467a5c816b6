"""Fusion room: heads over cached features, trained as stacks of models."""
