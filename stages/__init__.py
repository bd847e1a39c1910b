"""One module per arrow of the data flow, from media to blurred video."""
