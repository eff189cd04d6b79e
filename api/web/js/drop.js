// Files from outside the page: dropped, pasted or chosen. One picture can be searched by or
// uploaded, so there are two drop targets; several, and videos, can only be uploaded.

import { h, icon } from "./dom.js";
import { onKeys } from "./keys.js";

const IMAGES = /^image\//;
const VIDEOS = /^video\//;

/** Watch the page; `actions`: {search(file), upload(files), canUpload()}. */
export function watchDrops(actions) {
  const search = zone("search", "picture", "Search by this picture", "Find similar photos");
  const upload = zone("upload", "upload", "Upload to the library", "Add it to the library");
  const overlay = h("div", { class: "drop", hidden: true, role: "region", "aria-label": "Drop files", data: { testid: "drop" } }, search, upload);
  document.body.append(overlay);
  let depth = 0;

  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const isBusy = () => document.querySelector('dialog[open]:not([data-testid="viewer"])') !== null;

  function show(event) {
    const count = event.dataTransfer.items?.length || 1;
    search.hidden = count > 1 || VIDEOS.test(event.dataTransfer.items[0]?.type);
    upload.hidden = !actions.canUpload();
    // Also over an open photograph, where only the top layer is visible.
    const viewer = document.querySelector("dialog[open]");
    (viewer ?? document.body).append(overlay);
    overlay.hidden = false;
  }
  function hide() {
    depth = 0;
    overlay.hidden = true;
    for (const each of [search, upload]) each.classList.remove("is-over");
  }

  addEventListener("dragenter", (event) => {
    if (!hasFiles(event) || isBusy()) return;
    event.preventDefault();
    depth += 1;
    if (overlay.hidden) show(event);
  });
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    // Even if nothing takes the drop, since the browser would open the file instead of the
    // page.
    event.preventDefault();
    const over = event.target.closest?.(".drop-zone");
    for (const each of [search, upload]) each.classList.toggle("is-over", each === over);
    event.dataTransfer.dropEffect = overlay.hidden ? "none" : "copy";
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth -= 1;
    if (depth <= 0) hide();
  });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const over = event.target.closest?.(".drop-zone")?.dataset.zone;
    const wasShown = !overlay.hidden;
    hide();
    if (!wasShown) return;
    const files = await filesOf(event.dataTransfer);
    if (!files.length) return;
    if (files.length > 1 || over === "upload" || VIDEOS.test(files[0].type)) {
      if (actions.canUpload()) actions.upload(files);
    } else {
      actions.search(files[0]);
    }
  });
  onKeys(window, "escape", { close: () => { hide(); return false; } }, () => overlay.hidden);

  addEventListener("paste", (event) => {
    if (isBusy()) return;
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => IMAGES.test(file.type));
    if (!files.length) return;
    event.preventDefault();
    if (files.length > 1 && actions.canUpload()) actions.upload(files);
    else actions.search(files[0]);
  });
}

function zone(name, drawing, title, text) {
  return h("div", { class: "drop-zone", data: { zone: name, testid: `drop-${name}` } }, icon(drawing), h("strong", {}, title), h("span", {}, text));
}

/** The files of a drop, including those in dropped folders. */
export async function filesOf(transfer) {
  // Read the entries before the first await, which empties the transfer.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return files.filter((file) => !file.name.startsWith("."));
}

async function walk(entry, files) {
  if (entry.isFile) {
    files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!portion.length) return;
    for (const each of portion) await walk(each, files);
  }
}

/** Open the file chooser; resolves with the chosen files, perhaps none. */
export function chooseFiles({ many = false } = {}) {
  return new Promise((resolve) => {
    const input = h("input", { type: "file", accept: "image/*,.heic,.heif,.jxl,.dng,.nef,.cr2,.cr3,.arw,.raf,.orf,.rw2", multiple: many });
    input.addEventListener("change", () => resolve([...input.files]));
    input.addEventListener("cancel", () => resolve([]));
    input.click();
  });
}
