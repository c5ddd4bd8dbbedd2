"""Settings of all tests: Hypothesis' profile."""

from hypothesis import HealthCheck, settings

# A busy machine is slow without a bug. In CI, Hypothesis itself adds its profile "ci": derandomized, no database.
settings.register_profile("wsrelay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wsrelay")
