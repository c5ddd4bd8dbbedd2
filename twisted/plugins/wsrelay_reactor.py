"""The reactor ``wsrelay`` of ``twist --reactor`` and ``twistd --reactor``.

Data only, not in ``wsrelay_plugin.py``: with a valid ``dropin.cache``, only runs with ``--reactor`` import this module.
"""

from twisted.application.reactors import Reactor

wsrelay = Reactor("wsrelay", "wsrelay.net.reactor", "epoll(7) with less work per event: for relays on Linux.")
