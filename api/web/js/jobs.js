// The panel of jobs, updated by server-sent events, which also notifies the rest of the page.

import * as api from "./api.js";
import { announce, button, fill, h, icon, iconButton } from "./dom.js";
import { moment, number, plural } from "./format.js";
import { makePopover } from "./popover.js";
import { canWrite } from "./session.js";
import { toastProblem } from "./toast.js";

const LOOK_MS = 20_000;
// Each stream takes one of the browser's few connections to a server; other jobs are polled.
const STREAMS = 2;
const KINDS = { import: "Indexing a folder", upload: "Indexing uploads", reindex: "Indexing again", pipeline: "Changing the models", prune: "Deleting previous models", purge: "Emptying the trash", copies: "Looking for copies", objects: "Looking for the same things" };
const STATES = { queued: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" };
const isActive = (job) => job.state === "queued" || job.state === "running";

/** The jobs, with their button in `place`; `onProgress(job)` is called for every update. */
export function makeJobs(place, onProgress) {
  const jobs = new Map();
  const streams = new Map();
  const watchers = new Map();

  const list = h("ul", { class: "jobs", data: { testid: "jobs" } });
  const panel = h("div", { class: "popover jobs-panel", role: "dialog", "aria-label": "Jobs" }, h("div", { class: "menu-head" }, h("h2", {}, "Jobs"), iconButton("close", "Close", () => popover.close())), list);
  const popover = makePopover(panel, { onOpen: () => look() });
  const dot = h("span", { class: "dot", hidden: true });
  const open = iconButton("jobs", "Jobs", () => popover.toggle(open), { "aria-expanded": "false", "aria-haspopup": "dialog", "data-testid": "jobs-open" });
  open.append(dot);
  place.append(open);

  function take(job) {
    const before = jobs.get(job.id);
    jobs.set(job.id, job);
    if (isActive(job)) follow(job.id);
    draw();
    watchers.get(job.id)?.();
    if (before === undefined ? isActive(job) : before.done !== job.done || before.state !== job.state) onProgress(job, before);
    if (before && isActive(before) && !isActive(job)) announce(`${KINDS[job.kind]}: ${STATES[job.state].toLowerCase()}`);
  }

  function follow(id) {
    if (streams.has(id) || streams.size >= STREAMS) return;
    const stream = api.jobEvents(id);
    streams.set(id, stream);
    const end = () => {
      stream.close();
      streams.delete(id);
    };
    stream.addEventListener("job", (event) => {
      const job = JSON.parse(event.data);
      // Before the job is updated, or it would be followed again.
      if (!isActive(job)) end();
      take(job);
      for (const each of jobs.values()) if (isActive(each)) follow(each.id);
    });
    stream.addEventListener("error", () => {
      // The browser reconnects unless the server refused; polling then continues.
      if (stream.readyState === EventSource.CLOSED) end();
    });
  }

  async function look() {
    try {
      const { items } = await api.jobs([["limit", 20]]);
      for (const job of items.reverse()) take(job);
    } catch (problem) {
      if (popover.isOpen()) toastProblem(problem);
    }
    draw();
  }

  function draw() {
    const active = [...jobs.values()].filter(isActive);
    dot.hidden = active.length === 0;
    open.classList.toggle("is-working", active.length > 0);
    const label = active.length ? `Jobs, ${active.length} running` : "Jobs";
    open.setAttribute("aria-label", label);
    open.title = label;
    if (!popover.isOpen()) return;
    const had = panel.contains(document.activeElement) && document.activeElement.dataset.job;
    const all = [...jobs.values()].sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
    fill(list, all.length ? all.map(row) : h("li", { class: "hint" }, "Nothing has been indexed through this service yet. Uploads and imports appear here."));
    if (had) list.querySelector(`[data-job="${CSS.escape(had)}"]`)?.focus();
  }

  function row(job) {
    return h(
      "li", { class: "job", data: { testid: "job", state: job.state } },
      h("div", { class: "job-head" }, h("strong", {}, KINDS[job.kind] ?? job.kind), h("span", { class: `job-state is-${job.state}` }, STATES[job.state] ?? job.state)),
      h("p", { class: "hint" }, [job.collection?.name ?? "All photographs", job.root && [job.root, job.path].filter(Boolean).join("/"), moment(job.created_at)].filter(Boolean).join(" · ")),
      isActive(job) && bar(job),
      h("p", {}, words(job)),
      job.message && h("p", { class: job.state === "failed" ? "is-bad" : "hint" }, job.message),
      h("div", { class: "job-actions" },
        isActive(job) && canWrite() && button("Cancel", () => act(api.cancelJob, job), { class: "is-small", "data-testid": "job-cancel", "data-job": `cancel-${job.id}` }),
        !isActive(job) && job.failed > 0 && canWrite() && button("Retry what failed", () => act(api.retryJob, job), { class: "is-small", "data-testid": "job-retry", "data-job": `retry-${job.id}` }),
        job.failed > 0 && button("Show failures", (event) => failures(job, event.currentTarget), { class: "is-small", "data-testid": "job-failures", "data-job": `failures-${job.id}` })),
    );
  }

  async function act(call, job) {
    try {
      take(await call(job.id));
    } catch (problem) {
      toastProblem(problem);
      look();
    }
  }

  async function failures(job, from) {
    try {
      const { items, next } = await api.jobFailures(job.id);
      const shown = h("ul", { class: "job-failures" }, items.map(({ file_name: name, reason }) => h("li", {}, h("strong", {}, name ?? "a file"), ` ${reason}`)), next && h("li", {}, "and more"));
      from.closest(".job").querySelector(".job-failures")?.remove();
      from.closest(".job").append(shown);
    } catch (problem) {
      toastProblem(problem);
    }
  }

  setInterval(() => document.visibilityState === "visible" && look(), LOOK_MS);

  return {
    look,
    /** {element, add(job)}: the combined progress of some jobs until they end. */
    makeProgress() {
      const element = h("div", { class: "job-progress", role: "status" });
      const followed = new Set();
      const show = () => {
        const sum = sumOf([...followed].map((id) => jobs.get(id)).filter(Boolean));
        fill(element, isActive(sum) && bar(sum), h("p", {}, icon(isActive(sum) ? "clock" : sum.failed ? "alert" : "check"), words(sum)));
      };
      return {
        element,
        add(job) {
          followed.add(job.id);
          watchers.set(job.id, show);
          take(job);
          show();
        },
      };
    },
  };
}

/** The combined progress of several jobs. */
function sumOf(jobs) {
  const sum = (name) => jobs.reduce((total, job) => total + (job[name] ?? 0), 0);
  const state = ["running", "queued"].find((each) => jobs.some((job) => job.state === each)) ?? "done";
  return { state, done: sum("done"), failed: sum("failed"), total: sum("total") || null };
}

function bar(job) {
  const attributes = job.total ? { max: String(job.total), value: job.done } : {};
  return h("progress", { ...attributes, "aria-label": "Indexed", data: { testid: "job-progress" } });
}

function words(job) {
  const failed = job.failed ? `, ${number(job.failed)} of them failed` : "";
  if (job.state === "queued") return "Waiting";
  if (isActive(job)) return job.total === null ? `${plural(job.done, "photo")} so far${failed}` : `${number(job.done)} of ${plural(job.total, "photo")} done${failed}`;
  return job.done || job.failed ? `${plural(job.done, "photo")} done${failed}` : job.kind === "purge" ? "Nothing to delete" : "Nothing to index";
}
