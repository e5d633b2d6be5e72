// The labels of picture files: node examples/classify.mjs FILE ...   (Node 20 or later, without a package)
// SERVICE_URL is where the service is, http://127.0.0.1:8000 without it.
import { readFile } from "node:fs/promises";

const SERVICE = process.env.SERVICE_URL ?? "http://127.0.0.1:8000";
const WITHIN_MS = 10_000; // for one picture, with all waiting

async function classify(picture, deadline = Date.now() + WITHIN_MS) {
  const left = deadline - Date.now();
  const headers = { "Content-Type": "application/octet-stream", "X-Request-Timeout-Ms": String(left) };
  const signal = AbortSignal.timeout(left);
  const answer = await fetch(`${SERVICE}/classify?top_k=1`, { method: "POST", body: picture, headers, signal });
  const body = await answer.json().catch(() => ({ code: answer.status, detail: answer.statusText }));
  if (answer.ok) return body.predictions[0];
  const waitMs = Number(answer.headers.get("Retry-After") ?? 1) * 1000 * (1 + Math.random() / 4);
  const mayWait = [429, 503].includes(answer.status) && Date.now() + waitMs < deadline;
  if (!mayWait) throw new Error(`${body.code}: ${body.detail}`);
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  return classify(picture, deadline);
}

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: [SERVICE_URL=http://HOST:PORT] node examples/classify.mjs FILE ...");
  process.exitCode = 2;
}
for (const file of files) {
  const { label, probability } = await classify(await readFile(file));
  console.log(`${file}: ${label} ${(probability * 100).toFixed(1)}%`);
}
