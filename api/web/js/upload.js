// The upload sheet: collection, files, and the progress of upload and indexing.

import * as api from "./api.js";
import { announce, button, fill, h, icon, iconButton } from "./dom.js";
import { filesOf } from "./drop.js";
import { bytes, plural } from "./format.js";
import { Sending, sendAll } from "./sending.js";
import { signIn } from "./session.js";
import { toastProblem } from "./toast.js";

const KEY = "regard.collection";
const WORDS = {
  waiting: "Waiting", sending: "Sending", created: "Stored", existing: "Already there", restored: "Was in the trash; restored",
  refused: "Refused", failed: "Failed", stopped: "Stopped",
};
const SHOWN = 200;

/** The sheet; `done(stored)` is called once files are stored; `jobs` follows their indexing. */
export function makeUpload({ done, jobs }) {
  let sendings = [];
  let controller = null;
  let progress = null;
  const rows = new Map();

  const collection = h("input", { id: "upload-collection", type: "text", list: "upload-collections", maxlength: "200", autocomplete: "off", required: true, data: { testid: "upload-collection" } });
  const collections = h("datalist", { id: "upload-collections" });
  const tags = h("input", { id: "upload-tags", type: "text", autocomplete: "off", placeholder: "none", data: { testid: "upload-tags" } });
  const input = h("input", {
    id: "upload-input", type: "file", multiple: true, class: "visually-hidden", accept: "image/*,video/*,.heic,.heif,.jxl,.dng,.nef,.cr2,.cr3,.arw,.raf,.orf,.rw2,.mkv,.avi,.mov",
    data: { testid: "upload-input" }, on: { change: () => { add([...input.files]); input.value = ""; } },
  });
  const pick = h("label", { class: "upload-drop", for: "upload-input", data: { testid: "upload-drop" } }, icon("upload"),
    h("strong", {}, "Choose photos and videos"), h("span", {}, "or drop them here, folders too"));
  const list = h("ul", { class: "upload-list", data: { testid: "upload-list" }, tabindex: "0", "aria-label": "Files" });
  const total = h("progress", { max: "1", value: 0, "aria-label": "Sent", data: { testid: "upload-progress" } });
  const state = h("p", { class: "upload-state", role: "status", data: { testid: "upload-state" } });
  const indexing = h("div", { class: "upload-indexing", data: { testid: "upload-indexing" } });
  const start = button("Upload", () => begin(), { type: "submit", class: "is-primary", "data-testid": "upload-start" });
  const stop = button("Stop", () => controller?.abort(), { "data-testid": "upload-stop" });
  const again = button("Try again what failed", () => {
    for (const sending of sendings) if (["failed", "stopped"].includes(sending.state)) sending.state = "waiting";
    begin();
  });
  const finish = button("Done", () => close(), { class: "is-primary", "data-testid": "upload-done" });
  const form = h(
    "form", { class: "upload", on: { submit: (event) => { event.preventDefault(); begin(); } } },
    h("div", { class: "sheet-head" }, h("h2", { id: "upload-title" }, "Upload photos"), iconButton("close", "Close", () => close(), { "data-testid": "upload-close" })),
    h("div", { class: "upload-into" },
      h("label", { class: "field", for: "upload-collection" }, h("span", {}, "Collection"), collection, collections),
      h("label", { class: "field", for: "upload-tags" }, h("span", {}, "Tags for all, separated by commas"), tags)),
    input, pick, list, total, state, indexing, h("div", { class: "sheet-actions" }, again, stop, start, finish),
  );
  const dialog = h("dialog", { class: "sheet", "aria-labelledby": "upload-title", data: { testid: "upload" } }, form);
  document.body.append(dialog);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  dialog.addEventListener("dragover", (event) => event.preventDefault());
  dialog.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    add(await filesOf(event.dataTransfer));
  });

  function add(files) {
    if (sendings.length && sendings.every((sending) => sending.isOver)) reset();
    sendings.push(...files.map((file) => new Sending(file)));
    drawList();
    draw();
    if (files.length) start.focus();
  }

  function reset() {
    sendings = [];
    progress = null;
    fill(indexing);
  }

  async function begin() {
    if (controller || !form.reportValidity() || !sendings.some((sending) => sending.state === "waiting")) return;
    controller = new AbortController();
    try {
      localStorage.setItem(KEY, collection.value.trim());
    } catch {
      // Storage is disabled: ask for the collection again.
    }
    announce(`Uploading ${plural(sendings.length, "photo")}`);
    draw();
    try {
      await sendAll(sendings, {
        collection: collection.value.trim(),
        tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean),
        signal: controller.signal,
        signIn,
        changed(sending, job) {
          drawRow(sending);
          draw();
          if (!job) return;
          if (progress === null) {
            progress = jobs.makeProgress();
            fill(indexing, progress.element);
          }
          progress.add(job);
        },
      });
    } catch (problem) {
      toastProblem(problem);
    }
    controller = null;
    draw();
    const stored = sendings.filter((sending) => ["created", "restored"].includes(sending.state)).length;
    announce(state.textContent);
    if (stored) done(stored);
    (finish.hidden ? start : finish).focus();
  }

  function drawList() {
    rows.clear();
    const shown = sendings.slice(0, SHOWN);
    fill(list, shown.map((sending) => {
      const row = { word: h("span", { class: "upload-word" }), bar: h("progress", { max: "1", value: 0, "aria-label": `${sending.file.name}: sent` }) };
      row.element = h("li", { data: { testid: "upload-file" } }, h("span", { class: "upload-name" }, sending.file.name), h("span", { class: "upload-size" }, bytes(sending.file.size)), row.bar, row.word);
      rows.set(sending, row);
      drawRow(sending);
      return row.element;
    }), sendings.length > SHOWN && h("li", { class: "hint" }, `and ${plural(sendings.length - SHOWN, "more", "more")}`));
  }

  function drawRow(sending) {
    const row = rows.get(sending);
    if (!row) return;
    row.element.dataset.state = sending.state;
    row.bar.hidden = sending.state !== "sending";
    row.bar.value = sending.sent;
    row.word.textContent = [WORDS[sending.state], sending.reason].filter(Boolean).join(": ");
  }

  function draw() {
    const count = (...states) => sendings.filter((sending) => states.includes(sending.state)).length;
    const size = sendings.reduce((sum, sending) => sum + sending.file.size, 0) || 1;
    const isRunning = controller !== null;
    const waiting = count("waiting");
    total.value = sendings.reduce((sum, { file, sent, isOver }) => sum + file.size * (isOver ? 1 : sent), 0) / size;
    total.hidden = !isRunning;
    list.hidden = !sendings.length;
    pick.hidden = isRunning;
    for (const field of [collection, tags]) field.disabled = isRunning;
    start.hidden = isRunning || !waiting;
    start.querySelector("span").textContent = `Upload ${plural(waiting, "photo")}`;
    stop.hidden = !isRunning;
    again.hidden = isRunning || !count("failed", "stopped");
    finish.hidden = isRunning || !sendings.length || waiting > 0;
    const over = sendings.filter((sending) => sending.isOver).length;
    const parts = [[count("created", "restored"), "stored"], [count("existing"), "there already"], [count("refused"), "refused"], [count("failed"), "failed"], [count("stopped"), "stopped"]];
    state.textContent = isRunning ? `${over} of ${sendings.length} sent` : over ? parts.filter(([number]) => number).map(([number, word]) => `${number} ${word}`).join(", ") : "";
  }

  function close() {
    dialog.close();
    if (!controller && sendings.every((sending) => sending.isOver)) {
      reset();
      drawList();
    }
  }

  return {
    async open(files = []) {
      if (!dialog.open) dialog.showModal();
      if (!controller) {
        let kept = null;
        try {
          kept = localStorage.getItem(KEY);
        } catch {
          // Storage is disabled.
        }
        collection.value ||= kept || "default";
      }
      add(files);
      draw();
      if (!files.length) collection.focus();
      try {
        const { items } = await api.collections();
        fill(collections, items.map(({ name }) => h("option", { value: name })));
      } catch (problem) {
        toastProblem(problem);
      }
    },
    isRunning: () => controller !== null,
  };
}
