"""What Ray reads from the environment when a test module here imports it."""

import os

from fusion_classifier.cluster.pool import QUIET

os.environ.update(QUIET)
