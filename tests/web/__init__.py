"""The tests of what is served over HTTP, one module each."""
