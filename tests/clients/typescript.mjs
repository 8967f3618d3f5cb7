// The TypeScript SDK's clients: play a person's part and print what they saw as JSON.
//   node typescript.mjs <the server's address as JSON> <sdk-1 | client-2>
// The packages lie in the folder that this runs in, not beside this file.
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/package.json`);
const at = JSON.parse(process.argv[2]);
const library = { "sdk-1": sdk1, "client-2": client2 }[process.argv[3]]();

const TASKS = [{ to_number: "+12125550111" }, { to_number: "+12125550112" }];
const WATCH_S = 1;
const person = { yes: true, questions: [] };

function sdk1() {
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const { ElicitRequestSchema, CallToolResultSchema } = require("@modelcontextprotocol/sdk/types.js");
  return {
    stdio: require("@modelcontextprotocol/sdk/client/stdio.js").StdioClientTransport,
    http: require("@modelcontextprotocol/sdk/client/streamableHttp.js").StreamableHTTPClientTransport,
    sse: require("@modelcontextprotocol/sdk/client/sse.js").SSEClientTransport,
    client: () => new Client({ name: "sdk-1", version: "1" }, { capabilities: { elicitation: {} } }),
    onElicit: (client, answer) => client.setRequestHandler(ElicitRequestSchema, answer),
    call: (client, params, options) => client.callTool(params, CallToolResultSchema, options),
  };
}

function client2() {
  const { Client, StreamableHTTPClientTransport, SSEClientTransport } = require("@modelcontextprotocol/client");
  const options = { capabilities: { elicitation: {} }, versionNegotiation: { mode: "auto" } };
  return {
    stdio: require("@modelcontextprotocol/client/stdio").StdioClientTransport,
    http: StreamableHTTPClientTransport,
    sse: SSEClientTransport,
    client: () => new Client({ name: "client-2", version: "1" }, options),
    onElicit: (client, answer) => client.setRequestHandler("elicitation/create", answer),
    call: (client, params, options) => client.callTool(params, options),
  };
}

function transport() {
  if (at.transport === "stdio") {
    return new library.stdio({ command: at.command, args: at.args, env: at.env, cwd: at.cwd, stderr: "inherit" });
  }
  const requestInit = { headers: at.headers };
  const eventSourceInit = { fetch: (url, init) => fetch(url, { ...init, headers: { ...init?.headers, ...at.headers } }) };
  return new library[at.transport](new URL(at.url), { requestInit, eventSourceInit });
}

async function call(client, name, args) {
  const result = await library.call(client, { name, arguments: args });
  if (result.isError) throw new Error(result.content[0].text);
  return result.structuredContent;
}

async function draft(client, idempotency_key) {
  const made = await call(client, "create_batch_call", { from_number: "+14155550100", tasks: TASKS, idempotency_key });
  return made.batch_call.batch_call_id;
}

const start = (client, batch_call_id) =>
  library.call(client, { name: "start_batch_call", arguments: { batch_call_id, trigger_timestamp: "now" } });

// Cancels a watch at its first sign of progress. What comes for it all the same, although it would end soon.
async function cancelledWatch(client, wire, batch_call_id) {
  const came = [];
  const inner = wire.onmessage;
  wire.onmessage = (message, extra) => {
    if ("result" in message || "error" in message) came.push(JSON.stringify(message.error?.message ?? message.result));
    inner?.(message, extra);
  };
  const controller = new AbortController();
  const watched = library
    .call(
      client,
      { name: "watch_batch_call", arguments: { batch_call_id, timeout_seconds: WATCH_S } },
      { signal: controller.signal, onprogress: () => controller.abort("the person has gone") },
    )
    .then((result) => came.push(JSON.stringify(result)), () => {});
  await watched;
  if (!controller.signal.aborted) came.push("no progress was seen");
  await new Promise((resolve) => setTimeout(resolve, 2000 * WATCH_S));
  wire.onmessage = inner;
  return came;
}

const client = library.client();
library.onElicit(client, async (request) => {
  person.questions.push(request.params.message);
  return person.yes ? { action: "accept", content: { confirm: true } } : { action: "decline" };
});
const wire = transport();
const told = wire.setProtocolVersion?.bind(wire);
let protocol = null;
wire.setProtocolVersion = (version) => {
  protocol = version;
  told?.(version);
};
await client.connect(wire);
const seen = { protocol, tools: (await client.listTools()).tools.map((one) => one.name) };
const launched = await draft(client, "first");
const answer = await start(client, launched);
if (answer.isError) throw new Error(answer.content[0].text);
seen.yes = answer.structuredContent;
person.yes = false;
const refused = await start(client, await draft(client, "second"));
seen.no = { error: refused.isError, text: refused.content[0].text };
seen.questions = person.questions;
seen.replay = (await draft(client, "first")) === launched;
seen.watch = await cancelledWatch(client, wire, launched);
seen.afterwards = await call(client, "get_batch_call", { batch_call_id: launched });
await client.close();
process.stdout.write(JSON.stringify(seen) + "\n");
