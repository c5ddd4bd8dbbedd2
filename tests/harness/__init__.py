"""What the tests are made with: relays in memory, clients, sockets, frames, browsers. No tests of the relay here."""
