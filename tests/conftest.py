"""What all tests need before JAX starts: several devices, and flags that count as parsed."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

from absl import flags

flags.FLAGS.mark_as_parsed()  # Grain's workers read them
