"""The network around the relay: listening endpoints, trusted proxies, file descriptors, the reactor.

Must not live here: anything about WebSocket, HTTP or rooms.
"""
