"""The relay on real sockets with foreign clients: browsers, Node, websockets, curl."""
