"""wsrelay, a WebSocket relay: every message a client sends reaches everyone else in its room.

Run it with ``wsrelay serve``, which is ``twistd -n --pidfile= wsrelay``. To embed it, start with
:class:`wsrelay.factory.RelayFactory`. ``docs/DESIGN.md`` is the map of the modules.
"""

__all__ = ["__version__"]

#: The one place where the version is written; ``setup.cfg`` reads it.
__version__ = "1.0.0"
