"""A procedural operating room with ground truth, and a source domain without one."""
