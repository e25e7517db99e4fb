"""Settings for all tests: no network, and the same random cases in every run."""

import os

from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
