"""The admin endpoint: health, readiness, metrics, rooms and connections, on a port of its own, above the factory.

Must not live here: anything that a connection of the relay needs.
"""
