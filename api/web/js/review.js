// One group of duplicates after another, its photographs side by side: keep one and move the rest
// to the trash, or say that they are not duplicates.

import * as api from "./api.js";
import { announce, button, fill, h, iconButton, thumb } from "./dom.js";
import { bytes, known, nameOf, number, plural } from "./format.js";
import { toast, toastProblem } from "./toast.js";

// More would be too small to compare.
const MOST = 12;

/**
 * Review `groups` from the one at `start` on. `actions`: {names, removed(ids), distinct(group),
 * restored(), closed()}.
 */
export function reviewGroups(groups, start, actions) {
  const left = [...groups.slice(start), ...groups.slice(0, start)];
  const total = left.length;
  let kept = null;
  const heading = h("h2", { id: "review-title", tabindex: "-1" });
  const list = h("div", { class: "review-photos", role: "radiogroup", "aria-labelledby": "review-title" });
  const keep = button("Keep this one", merge, { drawing: "check", class: "is-primary", "data-testid": "review-keep" });
  const distinct = button("Not duplicates", separate, { "data-testid": "review-distinct" });
  const skip = button("Skip", next, { "data-testid": "review-skip" });
  const dialog = h("dialog", { class: "sheet review", "aria-labelledby": "review-title", data: { testid: "review" } },
    h("div", { class: "sheet-head" }, heading, iconButton("close", "Close", () => dialog.close(), { "data-testid": "review-close" })),
    list, h("div", { class: "review-actions" }, keep, distinct, skip));
  dialog.addEventListener("close", () => {
    dialog.remove();
    actions.closed();
  });

  function draw() {
    const [group] = left;
    const members = [...group.members].sort((one, other) => (other.asset.id === group.keeper) - (one.asset.id === group.keeper)).slice(0, MOST);
    heading.textContent = `${actions.names[group.kind]}, ${total - left.length + 1} of ${number(total)}`;
    kept = members[0].asset.id;
    fill(list, members.map(({ asset }) => h(
      "label", { class: "review-photo", data: { testid: "review-photo" } },
      h("span", { class: "review-picture" }, thumb(asset.urls.thumbnail_1024, { loading: "eager" })),
      h("span", { class: "review-choice" },
        h("input", { type: "radio", name: "kept", value: asset.id, checked: asset.id === kept, "aria-label": `Keep ${nameOf(asset)}`, on: { change: () => { kept = asset.id; } } }),
        h("span", { class: "member-name", dir: "auto", title: asset.path ?? nameOf(asset) }, nameOf(asset))),
      h("span", { class: "member-facts" }, [
        `${number(asset.width)} × ${number(asset.height)}`, bytes(asset.size), asset.format, asset.taken_at && known(asset.taken_at, asset.taken_precision), asset.camera,
      ].filter(Boolean).join(" · ")),
      asset.tags.length > 0 && h("span", { class: "member-facts" }, `Tags: ${asset.tags.join(", ")}`),
      asset.id === group.keeper && h("span", { class: "member-facts" }, `Suggested: ${group.reasons.join("; ")}`),
    )));
    skip.hidden = left.length === 1;
    list.querySelector("input").focus();
    announce(heading.textContent);
  }

  function next() {
    left.shift();
    if (left.length) draw();
    else dialog.close();
  }

  async function decide(call) {
    for (const each of [keep, distinct, skip]) each.disabled = true;
    try {
      await call();
      next();
    } catch (problem) {
      toastProblem(problem);
    }
    for (const each of [keep, distinct, skip]) each.disabled = false;
  }

  function merge() {
    const [group] = left;
    const ids = group.members.map(({ asset }) => asset.id).filter((id) => id !== kept);
    return decide(async () => {
      await api.mergeDuplicates(kept, ids);
      actions.removed(new Set(ids));
      toast(`Moved ${plural(ids.length, "photo")} to the trash; tags and albums are merged.`, {
        action: { words: "Undo", run: () => undo(() => api.bulk(ids, "restore")) },
      });
    });
  }

  function separate() {
    const [group] = left;
    const ids = group.members.map(({ asset }) => asset.id);
    return decide(async () => {
      await api.markDistinct(ids, true);
      actions.distinct(group);
      toast("Remembered as no duplicates.", { action: { words: "Undo", run: () => undo(() => api.markDistinct(ids, false)) } });
    });
  }

  async function undo(call) {
    try {
      await call();
      actions.restored();
    } catch (problem) {
      toastProblem(problem);
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  draw();
}
