"""Model hyperparameters (mmengine configs), the model registry and example site files."""
