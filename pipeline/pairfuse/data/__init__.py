"""Data room: raw files become pairs; nothing here knows about encoders."""
