"""Tracking within a camera and association across cameras, in plain arrays."""
