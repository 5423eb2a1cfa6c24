"""Settings of the whole suite: property tests are deterministic, and print how to repeat a failure."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")
