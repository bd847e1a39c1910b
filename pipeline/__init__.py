"""The engine: types, tables, artifacts, graph and executors. It knows no model and imports no stage."""
