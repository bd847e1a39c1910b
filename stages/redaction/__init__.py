"""Stages: the parts of redaction (`stages/redact.py` puts them together); the appliance runs all of them."""
