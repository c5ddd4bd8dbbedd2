// A chat in the terminal: sends typed lines to the other clients of a room, and prints their messages.
//
//     npm install ws
//     node node_client.mjs ws://127.0.0.1:8080/chat
//
// It reconnects with back-off and jitter, and gives up after errors that would repeat. Lines typed meanwhile are sent
// after the reconnect. With --last 100 it first prints the last lines of a room with history, and after a reconnect
// those that it missed (the relay needs --http --history 100). Ctrl-D ends it when all lines are sent, Ctrl-C at once.
// RELAY_KEY in the environment is sent as `Authorization: Bearer`. --first-wait and --max-wait: first and highest
// ceiling of the back-off, in seconds; --ping-seconds: interval of pings, and timeout of pongs.

import { EventEmitter, once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import WebSocket from "ws";

// Close codes after which a reconnect is useless: the same would happen again (docs/closecodes.md).
const FINAL_CODES = [1002, 1003, 1007, 1009, 4403, 4410];

// The history is gone: not final with a new position.
const GONE = 4410;

// 1008, policy violation, is final too, except with these reasons.
const PASSING_REASONS = ["too fast", "the message took too long"];

// Temporary refusals besides 5xx: request timeout and rate limit.
const PASSING_STATUSES = [408, 429];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    last: { type: "string", default: "0" },
    "first-wait": { type: "string", default: "1" },
    "max-wait": { type: "string", default: "30" },
    "ping-seconds": { type: "string", default: "20" },
  },
});
const url = positionals[0]; // ws:// or wss://, the relay, and the room as the path
const firstSeconds = Number(values["first-wait"]);
const maxSeconds = Number(values["max-wait"]);
const pingSeconds = Number(values["ping-seconds"]);
const last = Number(values.last);
const key = process.env.RELAY_KEY;
const headers = key ? { Authorization: `Bearer ${key}` } : {};

const opened = new EventEmitter();
let socket;

// Without control characters, which the terminal would obey: other clients have written it.
function visible(text) {
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, "\ufffd");
}

// Prints a status line to stderr.
function say(text) {
  process.stderr.write(`* ${visible(text)}\n`);
}

function show(data, isBinary) {
  process.stdout.write(isBinary ? `(${data.length} bytes)\n` : `${visible(data.toString())}\n`);
}

// The old messages of the room, read by HTTP before each connection.
let at = ""; // the position up to which they were read
const known = new Map(); // message → how often it was sent or received after that position

function add(data, isBinary = false) {
  if (!last) return;
  const text = data.toString(isBinary ? "base64" : "utf8");
  known.set(text, (known.get(text) ?? 0) + 1);
}

const withQuery = (query) => `${url}${url.includes("?") ? "&" : "?"}${query}`;

// null: gone.
async function read(query) {
  const answer = await fetch(withQuery(query).replace(/^ws/, "http"), {
    headers: { ...headers, Accept: "application/json" },
    signal: AbortSignal.timeout(10_000),
  });
  if (answer.status === 410) return null;
  if (answer.ok) return answer.json();
  const final = answer.status < 500 && !PASSING_STATUSES.includes(answer.status);
  throw Object.assign(new Error(`refused: ${answer.status} ${(await answer.text()).slice(0, 200).trimEnd()}`), { final });
}

// Prints the messages that were missed. Returns the URL to connect to, which has the position behind them.
async function catchUp() {
  if (!last) return url;
  const missed = at && (await read(`since=${at}`));
  if (missed === null) say("messages may be missing: the history since the last connection is gone");
  const found = missed || (await read(`last=${last}`));
  for (const { text, base64 } of found.messages ?? []) {
    const count = known.get(text ?? base64) ?? 0;
    if (count) known.set(text ?? base64, count - 1);
    else show(Buffer.from(text ?? base64, text === undefined ? "base64" : "utf8"), text === undefined);
  }
  known.clear();
  at = found.at ?? "";
  return at ? withQuery(`since=${at}`) : url;
}

function end(status) {
  if (socket?.readyState !== WebSocket.OPEN) process.exit(status);
  socket.removeAllListeners("close").once("close", () => process.exit(status)).close(1000);
}

function isFinal(code, reason) {
  const passes = PASSING_REASONS.some((passing) => reason.startsWith(passing));
  return FINAL_CODES.includes(code) || (code === 1008 && !passes);
}

// Runs one connection to its end. Returns why it ended, whether that is final, its seconds, and Retry-After.
async function connection() {
  let target;
  try {
    target = await catchUp();
  } catch (error) {
    const isRefused = error.final !== undefined;
    const why = isRefused ? error.message : `no connection: ${error.message}`;
    return { why, final: isRefused && error.final, lasted: 0 };
  }
  return new Promise((resolve) => {
    let openedAt = Infinity; // not yet
    let failure;
    let pinging;
    let answered = true;
    // Without pings, a lost network is not detected.
    const ping = () => {
      if (!answered) return socket.terminate();
      answered = false;
      socket.ping();
    };
    socket = new WebSocket(target, { headers, handshakeTimeout: 10_000 });
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
      add(data, isBinary);
      show(data, isBinary);
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
      const final = isFinal(code, reason) && !(last && code === GONE);
      resolve({ why, final, lasted: (performance.now() - openedAt) / 1000 });
    });
  });
}

// Returns status and reason of a refused handshake.
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
    // A connection that lasted resets the ceiling; a handshake alone does not: the relay may close at once, repeatedly.
    if (lasted > maxSeconds) ceiling = firstSeconds;
    // Full jitter: between zero and a ceiling that doubles, so that clients do not return all at once.
    const seconds = retryAfter + Math.random() * ceiling;
    ceiling = Math.min(2 * ceiling, maxSeconds);
    say(`${why}; again in ${seconds.toFixed(1)} s`);
    await sleep(seconds * 1000);
  }
}

// Sends a line on this connection, or on the next one.
async function send(line) {
  for (;;) {
    if (socket?.readyState !== WebSocket.OPEN) await once(opened, "open");
    const error = await new Promise((resolve) => socket.send(line, resolve));
    if (!error) return add(line);
  }
}

process.once("SIGINT", () => end(0));
stayConnected().catch((error) => {
  say(error.message); // of a URL that is none
  process.exit(1);
});
for await (const line of createInterface({ input: process.stdin })) await send(line);
end(0);
