// Node's `ws`, driven by lines of JSON on stdin; what it sees are lines of JSON on stdout (see tests/harness/clients.py).
// Usage: node ws_client.mjs [--deflate] URL

import { createInterface } from "node:readline";
import process from "node:process";
import WebSocket from "ws";

const arguments_ = process.argv.slice(2);
const socket = new WebSocket(arguments_.at(-1), { perMessageDeflate: arguments_.includes("--deflate") });

function saw(what, details = {}) {
  process.stdout.write(JSON.stringify({ saw: what, ...details }) + "\n");
}

function say(isText, fragments) {
  fragments.forEach((fragment, index) => {
    const fin = index === fragments.length - 1;
    socket.send(Buffer.from(fragment, "base64"), { binary: !isText, fin });
  });
}

socket.on("open", () => saw("open", { extensions: socket.extensions }));
socket.on("message", (data, isBinary) => saw("message", { text: !isBinary, payload: data.toString("base64") }));
socket.on("pong", () => saw("pong"));
socket.on("unexpected-response", (_request, response) => {
  saw("refused", { status: response.statusCode });
  process.exit(0);
});
socket.on("close", (code, reason) => {
  // ws gives 1005 and 1006 where no close frame with a code came.
  saw("close", { code: code === 1005 || code === 1006 ? null : code, reason: reason.toString() });
  process.exit(0);
});

createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.do === "say") say(command.text, command.fragments);
  if (command.do === "ping") socket.ping();
  if (command.do === "close") socket.close(1000);
});
