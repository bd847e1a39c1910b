"""One module per arrow of the data flow, from media to blurred video."""

import os

# PyTorch's threads wait for each other after every layer. Where another program needs one of the cores, those
# that wait awake take the time it would need to finish, and training becomes many times as slow; asleep they
# cost next to nothing. OpenMP reads this when it is loaded, hence first of all; what the user set stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
