// A chat in the terminal: what you type goes to everybody else in the room, and what they say is printed.
//
//     npm install ws
//     node node_client.mjs ws://127.0.0.1:8080/chat
//
// It comes back when the relay was restarted or the network was gone, and gives up where that is of no use. What is
// typed meanwhile waits. Ctrl-D ends it when all has been sent, Ctrl-C at once. RELAY_KEY in the environment is sent as
// `Authorization: Bearer`. --first-wait and --max-wait are seconds: the most to wait at first, and at last; --ping-seconds
// is between pings, of which each has to be answered before the next one.

import { EventEmitter, once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import WebSocket from "ws";

// Close codes behind which there is no use in coming back: the same would happen again (docs/closecodes.md).
const FINAL_CODES = [1002, 1003, 1007, 1009, 4403];

// 1008 is "against the rules". It is final too, unless it is for what was sent too fast, or too slowly.
const PASSING_REASONS = ["too fast", "the message took too long"];

// Refusals that pass, beside all from 500 on: the request came too late, or there were too many.
const PASSING_STATUSES = [408, 429];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    "first-wait": { type: "string", default: "1" },
    "max-wait": { type: "string", default: "30" },
    "ping-seconds": { type: "string", default: "20" },
  },
});
const url = positionals[0]; // ws:// or wss://, the relay, and the room as the path
const firstSeconds = Number(values["first-wait"]);
const maxSeconds = Number(values["max-wait"]);
const pingSeconds = Number(values["ping-seconds"]);
const key = process.env.RELAY_KEY;
const headers = key ? { Authorization: `Bearer ${key}` } : {};

const opened = new EventEmitter();
let socket;

// Without what a terminal would obey: somebody else has written it.
function visible(text) {
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, "\ufffd");
}

// What happens, beside what is chatted.
function say(text) {
  process.stderr.write(`* ${visible(text)}\n`);
}

function end(status) {
  if (socket.readyState !== WebSocket.OPEN) process.exit(status);
  socket.removeAllListeners("close").once("close", () => process.exit(status)).close(1000);
}

function isFinal(code, reason) {
  const passes = PASSING_REASONS.some((passing) => reason.startsWith(passing));
  return FINAL_CODES.includes(code) || (code === 1008 && !passes);
}

// One connection, from its beginning to its end: why it ended, whether for good, and what the relay asked for.
function connection() {
  return new Promise((resolve) => {
    let openedAt = Infinity; // not yet
    let failure;
    let pinging;
    let answered = true;
    // A network that is gone says nothing; without this, nothing would ever be noticed.
    const ping = () => {
      if (!answered) return socket.terminate();
      answered = false;
      socket.ping();
    };
    socket = new WebSocket(url, { headers, handshakeTimeout: 10_000 });
    socket.on("open", () => {
      openedAt = performance.now();
      say("connected");
      pinging = setInterval(ping, pingSeconds * 1000);
      opened.emit("open");
    });
    socket.on("pong", () => {
      answered = true;
    });
    socket.on("message", (data, isBinary) => {
      process.stdout.write(isBinary ? `(${data.length} bytes)\n` : `${visible(data.toString())}\n`);
    });
    socket.on("unexpected-response", (_request, response) => {
      refusal(response).then(resolve);
    });
    socket.on("error", (error) => {
      failure = `no connection: ${error.message || error.code}`;
    });
    socket.on("close", (code, bytes) => {
      clearInterval(pinging);
      const reason = bytes.toString();
      const why = failure ?? `closed: ${code} ${reason}`.trimEnd();
      resolve({ why, final: isFinal(code, reason), lasted: (performance.now() - openedAt) / 1000 });
    });
  });
}

// What the relay has answered to a handshake instead of 101.
function refusal(response) {
  return new Promise((resolve) => {
    const { statusCode: status, headers: fields } = response;
    let body = "";
    response.setEncoding("utf8");
    response.on("data", (text) => {
      body = (body + text).slice(0, 200);
    });
    response.on("close", () => {
      const why = `refused: ${status} ${body.trimEnd()}`;
      const retryAfter = /^\d+$/.test(fields["retry-after"] ?? "") ? Number(fields["retry-after"]) : 0;
      resolve({ why, final: status < 500 && !PASSING_STATUSES.includes(status), lasted: 0, retryAfter });
    });
  });
}

async function stayConnected() {
  let ceiling = firstSeconds;
  for (;;) {
    const { why, final, lasted, retryAfter = 0 } = await connection();
    if (final) {
      say(why);
      process.exit(1);
    }
    // A while in which all was well makes the next wait a first one again. Merely to get in is not enough: some are
    // thrown out at once, over and over.
    if (lasted > maxSeconds) ceiling = firstSeconds;
    // Anything between nothing and a ceiling that doubles: when a relay is back, its clients must not all come at once.
    const seconds = retryAfter + Math.random() * ceiling;
    ceiling = Math.min(2 * ceiling, maxSeconds);
    say(`${why}; again in ${seconds.toFixed(1)} s`);
    await sleep(seconds * 1000);
  }
}

// Sends a line on the connection that there is, or on the next one.
async function send(line) {
  for (;;) {
    if (socket.readyState !== WebSocket.OPEN) await once(opened, "open");
    const error = await new Promise((resolve) => socket.send(line, resolve));
    if (!error) return;
  }
}

process.once("SIGINT", () => end(0));
stayConnected().catch((error) => {
  say(error.message); // of a URL that is none
  process.exit(1);
});
for await (const line of createInterface({ input: process.stdin })) await send(line);
end(0);
