"""Every fault that the relay must survive, with bystanders that must not notice. README.md is the index."""
