"""The network around the relay: listening endpoints, trusted proxies, file descriptors.

Must not live here: anything about WebSocket, HTTP or rooms.
"""
