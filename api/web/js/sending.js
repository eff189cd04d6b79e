// Uploads files, one for each request and two at a time, with progress. A request repeated
// after a broken connection has the same idempotency key, so nothing is stored twice.

import { problemOf, unreachable } from "./api.js";

const AT_ONCE = 2;

/**
 * One upload: `state` is waiting, sending, created, existing, restored, refused, failed or
 * stopped.
 */
export class Sending {
  constructor(file) {
    this.file = file;
    this.key = crypto.randomUUID?.() ?? String(Math.random());
    this.state = "waiting";
    this.sent = 0;
    this.reason = "";
    this.asset = null;
  }

  get isOver() {
    return this.state !== "waiting" && this.state !== "sending";
  }
}

/** Upload waiting files into a collection; `changed(sending, job)` is called at each step. */
export async function sendAll(sendings, { collection, tags, changed, signal, signIn }) {
  const queue = sendings.filter((sending) => sending.state === "waiting");
  const worker = async () => {
    for (;;) {
      const sending = queue.shift();
      if (!sending) return;
      if (signal.aborted) sending.state = "stopped";
      else await send(sending, { collection, tags, changed, signal, signIn });
      changed(sending, null);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function send(sending, context) {
  const { collection, tags, changed, signal, signIn } = context;
  sending.state = "sending";
  changed(sending, null);
  const body = new FormData();
  body.append("collection", collection);
  for (const tag of tags) body.append("tag", tag);
  body.append("file", sending.file, sending.file.name);
  let answer;
  try {
    answer = await post(body, sending, () => changed(sending, null), signal);
  } catch (problem) {
    sending.state = signal.aborted ? "stopped" : "failed";
    sending.reason = problem.message;
    return;
  }
  if (answer.status === 401) {
    await signIn();
    await send(sending, context);
    return;
  }
  if (answer.status >= 400) {
    const problem = problemOf(answer.status, answer.text);
    // A refused file stays refused; a failed transfer may be retried.
    sending.state = answer.status >= 500 || answer.status === 403 ? "failed" : "refused";
    sending.reason = [problem.message, problem.remedy].filter(Boolean).join(" ");
    return;
  }
  const { items, job } = JSON.parse(answer.text);
  sending.state = items[0].status;
  sending.asset = items[0].asset;
  sending.reason = items[0].problem?.detail ?? "";
  changed(sending, job);
}

// fetch does not report upload progress.
function post(body, sending, changed, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "v1/assets");
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Idempotency-Key", sending.key);
    request.upload.addEventListener("progress", (event) => {
      sending.sent = event.lengthComputable ? event.loaded / event.total : 0;
      changed();
    });
    request.addEventListener("load", () => resolve({ status: request.status, text: request.responseText }));
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}
