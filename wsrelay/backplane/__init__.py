"""Backplanes: what carries messages between the processes that serve one room; one file each."""
