"""HTTP: the admin endpoint, and what the relay's own ports serve beside WebSocket."""
