"""Shared settings: one thread, so that results do not depend on the machine's load, and short hypothesis profiles."""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("short", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
