// Groups of duplicate photographs. The service suggests which to keep and gives reasons. The
// user selects what goes to the trash, one by one or for all groups at once, and confirms.

import * as api from "./api.js";
import { announce, button, fill, h, icon, iconButton, thumb } from "./dom.js";
import { bytes, nameOf, number, plural } from "./format.js";
import { onKeys, withKey } from "./keys.js";
import { notification } from "./notice.js";
import { reviewGroups } from "./review.js";
import { canWrite } from "./session.js";
import { go, href, KINDS, resultsKey, state } from "./state.js";
import { toast, toastProblem } from "./toast.js";

const PAGE = 50;
const AT_ONCE = 1000;
// How many members of a larger group are shown at first.
const SHOWN = 12;
const AGAIN_MS = 300;
const NAMES = { exact: "The same file", edited: "Edited copies", burst: "A burst", object: "The same thing" };
const ABOUT = {
  "": "Copies, edited copies and bursts. One photo of each group may be enough.",
  exact: "Files with the same bytes.",
  edited: "The same picture, re-encoded, resized, slightly cropped, lighter or darker.",
  burst: "Taken by one camera within seconds, and similar.",
  object: "The same thing in different photos. These are not copies.",
};

/** The view in `place`; `actions`: {open(id), removed(ids), restored()}. */
export function makeDuplicates(place, summary, actions) {
  let key = null;
  let groups = [];
  let next = null;
  let controller = null;
  const chosen = new Set();
  const whole = new Set();
  const nameOfGroup = (group) => `${group.kind} ${group.keeper ?? group.members[0].asset.id}`;

  const kind = h(
    "select", { class: "sort", "aria-label": "Kind of duplicates", data: { testid: "duplicates-kind" }, on: { change: () => go({ kind: kind.value }) } },
    h("option", { value: "" }, "Copies and bursts"), KINDS.map((value) => h("option", { value }, NAMES[value])),
  );
  const about = h("p", { class: "hint" });
  const others = button("Select all the others", () => {
    for (const group of groups.filter(isCopies)) select(group);
    show();
  }, { class: "is-small", "data-testid": "duplicates-others" });
  const list = h("ol", { class: "groups", "aria-label": "Groups", data: { testid: "groups" } });
  const notice = h("div", { hidden: true });
  const more = button("Show more", () => load(next), { "data-testid": "duplicates-more" });
  const count = h("strong", { class: "selection-count" });
  const move = button("Move to the trash", trash, { drawing: "trash", class: "is-small is-bad", "data-testid": "duplicates-trash" });
  const bar = h("div", { class: "selection", role: "region", "aria-label": "Chosen photos", hidden: true },
    iconButton("close", withKey("Select none", "escape", "close"), () => { chosen.clear(); show(); kind.focus(); }), count, h("span", { class: "spring" }), move);
  fill(place, h("div", { class: "groups-head" }, kind, about, others), list, notice, h("div", { class: "tail" }, more), bar);

  const isCopies = (group) => group.kind !== "object";

  function select(group) {
    for (const { asset } of group.members) if (asset.id !== group.keeper) chosen.add(asset.id);
    // A photograph kept in one group is not deleted for another.
    for (const { keeper } of groups) chosen.delete(keeper);
  }

  async function load(cursor) {
    controller?.abort();
    controller = new AbortController();
    const { signal } = controller;
    const pairs = [...(state().kind ? [["kind", state().kind]] : []), ...(state().filters.collection ?? []).map((name) => ["collection", name]), ["limit", PAGE]];
    const hadFocus = document.activeElement === more;
    const before = groups.length;
    more.disabled = true;
    try {
      let page = await api.duplicates([...pairs, ["cursor", cursor]], signal);
      // A job compares new photographs; groups are final once it has ended.
      while (cursor === null && page.waiting) {
        waiting(`Comparing photos: ${plural(page.groups.length, "group")}${page.next ? " and more" : ""} so far.`);
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        page = await api.duplicates(pairs, signal);
      }
      // A page ends early where few photos are in groups.
      while (page.next && page.groups.length === 0) page = await api.duplicates([...pairs, ["cursor", page.next]], signal);
      if (signal.aborted) return;
      groups = cursor === null ? page.groups : [...groups, ...page.groups];
      next = page.next;
      fill(notice, groups.length === 0 && notification("check", "No duplicates here", state().kind ? "" : "All photos were compared, and there are no duplicates."));
      draw();
      if (hadFocus) list.children[before]?.querySelector(".member-link").focus();
      announce(summary.textContent);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      fill(notice, notification("alert", problem.message || "Something went wrong", problem.remedy || "",
        button("Try again", () => load(cursor), { class: "is-primary" })));
      if (cursor === null) groups = [];
      draw();
    }
    more.disabled = false;
  }

  function waiting(words) {
    summary.textContent = "";
    fill(list);
    notice.hidden = false;
    if (!notice.querySelector(".loading")) fill(notice, h("p", { class: "loading", role: "status" }, h("span", { class: "spinner" }), h("span", {})));
    notice.querySelector(".loading span:last-child").textContent = words;
  }

  function draw() {
    fill(list, groups.map(drawn));
    notice.hidden = notice.childElementCount === 0;
    summary.textContent = groups.length ? `${number(groups.length)}${next ? "+" : ""} ${groups.length === 1 && !next ? "group" : "groups"}` : "";
    more.parentElement.hidden = !next;
    others.hidden = !canWrite() || !groups.some(isCopies);
    show();
  }

  function drawn(group) {
    const words = `${NAMES[group.kind]}, ${plural(group.members.length, "photo")}`;
    const members = [...group.members].sort((one, other) => (other.asset.id === group.keeper) - (one.asset.id === group.keeper));
    const shown = members.length <= SHOWN + 1 || whole.has(nameOfGroup(group)) ? members : members.slice(0, SHOWN);
    return h(
      "li", { class: "group", data: { testid: "group", kind: group.kind } },
      h("div", { class: "group-head" }, h("h2", {}, words),
        canWrite() && isCopies(group) && button("Review", () => review(group), { class: "is-small", "data-testid": "group-review" }),
        canWrite() && isCopies(group) && button("Select the others", () => { select(group); show(); }, { class: "is-small", "data-testid": "group-others" })),
      h("p", { class: "hint" }, `${isCopies(group) ? "Suggested to keep" : "Why"}: ${group.reasons.join("; ")}.`),
      h("ul", { class: "members" }, shown.map((member) => memberOf(group, member))),
      shown.length < members.length && button(`Show all ${plural(members.length, "photo")}`, () => {
        whole.add(nameOfGroup(group));
        draw();
      }, { class: "is-small", "data-testid": "group-all" }),
    );
  }

  function memberOf(group, { asset, region }) {
    const isKept = isCopies(group) && asset.id === group.keeper;
    const picture = region ? `v1/regions/${encodeURIComponent(region)}/crop?size=256` : asset.urls.thumbnail;
    return h(
      "li", { class: "member", data: { testid: "member", asset: asset.id } },
      h("a", {
        class: "member-link", href: href({ ...state(), photo: asset.id }), "aria-label": `Open ${nameOf(asset)}`, data: { asset: asset.id }, on: {
          click: (event) => {
            if (event.metaKey || event.ctrlKey || event.altKey || event.button) return;
            event.preventDefault();
            actions.open(asset.id);
          },
        },
      }, thumb(picture),
      isKept && h("span", { class: "badge is-kept" }, icon("check"), "Keep")),
      h("span", { class: "member-name", dir: "auto", title: nameOf(asset) }, nameOf(asset)),
      h("span", { class: "member-facts" }, `${number(asset.width)} × ${number(asset.height)} · ${bytes(asset.size)}`),
      canWrite() && isCopies(group) && h("label", { class: "member-choice" }, h("input", {
        type: "checkbox", "aria-label": `Move ${nameOf(asset)} to the trash`, value: asset.id, data: { testid: "member-choice" }, on: {
          change: (event) => {
            if (event.target.checked) chosen.add(asset.id);
            else chosen.delete(asset.id);
            show();
          },
        },
      }), h("span", {}, "To the trash")),
    );
  }

  function show() {
    for (const box of list.querySelectorAll("input")) {
      box.checked = chosen.has(box.value);
      box.closest(".member").classList.toggle("is-chosen", box.checked);
    }
    bar.hidden = chosen.size === 0;
    count.textContent = `${number(chosen.size)} selected`;
  }

  function review(first) {
    const copies = groups.filter(isCopies);
    reviewGroups(copies, copies.indexOf(first), {
      names: NAMES,
      removed(ids) {
        remove(ids);
        actions.removed(ids);
      },
      distinct(group) {
        groups = groups.filter((other) => other !== group);
        draw();
      },
      async restored() {
        actions.restored();
        if (key !== null) await load(null);
      },
      async closed() {
        kind.focus();
        // What was said of one group may have changed others.
        if (key !== null) await load(null);
      },
    });
  }

  async function trash() {
    const ids = [...chosen];
    const whole = groups.filter((group) => isCopies(group) && group.members.every(({ asset }) => chosen.has(asset.id))).length;
    const warning = whole ? ` No photo of ${plural(whole, "group")} would be left.` : "";
    if (!confirm(`Move ${plural(ids.length, "photo")} to the trash?${warning} They can be restored from there.`)) return;
    try {
      await bulk(ids, "delete");
    } catch (problem) {
      toastProblem(problem);
      return;
    }
    remove(new Set(ids));
    actions.removed(new Set(ids));
    kind.focus();
    toast(`Moved ${plural(ids.length, "photo")} to the trash.`, {
      action: {
        words: "Undo",
        async run() {
          try {
            await bulk(ids, "restore");
            actions.restored();
            if (key !== null) await load(null);
          } catch (problem) {
            toastProblem(problem);
          }
        },
      },
    });
  }

  async function bulk(ids, action) {
    for (let start = 0; start < ids.length; start += AT_ONCE) await api.bulk(ids.slice(start, start + AT_ONCE), action);
  }

  // A group with one photograph left is no longer a group.
  function remove(ids) {
    for (const id of ids) chosen.delete(id);
    groups = groups
      .map((group) => ({ ...group, members: group.members.filter(({ asset }) => !ids.has(asset.id)) }))
      .filter((group) => group.members.length > 1);
    draw();
    // If the photograph to keep was deleted, the service chooses another; and the cursor of
    // further pages may count groups that are gone.
    const hasKeeper = (group) => group.members.some(({ asset }) => asset.id === group.keeper);
    if (next || !groups.length || !groups.every(hasKeeper)) load(null);
  }

  onKeys(document, "escape", { close: unchoose }, () => !chosen.size || document.querySelector("dialog[open], :popover-open"));
  function unchoose() {
    chosen.clear();
    show();
    return false;
  }

  return {
    show(current) {
      place.hidden = current.view !== "duplicates";
      document.documentElement.classList.toggle("has-duplicates", !place.hidden);
      if (place.hidden) {
        controller?.abort();
        key = null;
        return;
      }
      if (key === resultsKey(current)) return;
      key = resultsKey(current);
      kind.value = current.kind;
      about.textContent = ABOUT[current.kind];
      chosen.clear();
      groups = [];
      next = null;
      fill(notice);
      draw();
      waiting("Looking…");
      load(null);
    },
    /** Redraw once the permissions are known. */
    renew: () => key !== null && groups.length > 0 && draw(),
    remove: (ids) => key !== null && remove(ids),
    /** Focus a photograph; returns whether it is present. */
    focus(id) {
      const link = [...list.querySelectorAll(".member-link")].find((each) => each.dataset.asset === id);
      link?.focus();
      return Boolean(link) && key !== null;
    },
  };
}
