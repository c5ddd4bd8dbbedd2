"""Registers the validator ``api-keys`` with wsrelay; data only, because each run of twistd imports it."""

from wsrelay.validators.plugins import ValidatorPlugin

api_keys = ValidatorPlugin(
    "api-keys",
    "FILE",
    "Wants a key that is in a file (401): Authorization: Bearer KEY.",
    "wsrelay_api_keys.ApiKeyValidator",
)
