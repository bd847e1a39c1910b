"""The student of the embedded site: the embedded detector's model, so that its weights are a start."""

_base_ = ["./detector_embedded.py"]
