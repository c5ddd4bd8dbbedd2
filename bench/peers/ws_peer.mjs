// A relay on ws, as in its example of a broadcast; with bufferutil, and with the compression that its readme shows.

import { readFileSync } from "node:fs";
import { createServer as createPlain } from "node:http";
import { createServer as createSecure } from "node:https";

import { WebSocket, WebSocketServer } from "ws";

const deflate = {
  zlibDeflateOptions: { chunkSize: 1024, memLevel: 7, level: 3 },
  zlibInflateOptions: { chunkSize: 10 * 1024 },
  clientNoContextTakeover: true,
  serverNoContextTakeover: true,
  serverMaxWindowBits: 10,
  concurrencyLimit: 10,
  threshold: 1024,
};

const rooms = new Map();

const tls = process.argv.indexOf("--tls");
const [cert, key] = tls < 0 ? [] : process.argv.slice(tls + 1, tls + 3).map((path) => readFileSync(path));
const http = tls < 0 ? createPlain() : createSecure({ cert, key });

const server = new WebSocketServer({
  server: http,
  perMessageDeflate: process.argv.includes("--deflate") ? deflate : false,
});

server.on("connection", (connection, request) => {
  const room = rooms.get(request.url) ?? new Set();
  rooms.set(request.url, room);
  room.add(connection);
  connection.on("error", console.error);
  connection.on("close", () => room.delete(connection));
  connection.on("message", (message, binary) => {
    for (const other of room) {
      if (other !== connection && other.readyState === WebSocket.OPEN) {
        other.send(message, { binary });
      }
    }
  });
});

http.listen({ host: "127.0.0.1", port: 0, backlog: 1024 }, () => console.log(`listening on ${http.address().port}`));
