// The row under the search box: the query as read, the filters as chips, and the menu that
// adds one.

import { canSave, saveSearch } from "./albums.js";
import { button, fill, h, icon, iconButton } from "./dom.js";
import { makeFilterMenu } from "./filtermenu.js";
import { chips, KINDS } from "./filterkinds.js";
import { onKeys } from "./keys.js";
import { canRefine } from "./refining.js";
import { go, isSearch, ORDERS, SORTS, state, withFilter } from "./state.js";
import { isList, labelOf, without } from "./written.js";

const HEADINGS = { trash: "Trash", duplicates: "Duplicates", albums: "Albums", map: "Map" };
const DRAWINGS = Object.fromEntries(KINDS.map((kind) => [kind.id, kind.drawing]));

/** The row in `place`; the element `summary` shows the number of results. */
export function makeFilters({ place, summary, selectButton, slideshowButton, emptyTrash }) {
  const parts = h("ul", { class: "chips", "aria-label": "What the query says", hidden: true });
  const row = h("ul", { class: "chips", "aria-label": "Filters" });
  const add = button("Filter", () => menu.toggle(add), {
    drawing: "filter", class: "is-small", "aria-haspopup": "dialog", "aria-expanded": "false", "data-testid": "filter-add",
  });
  const menu = makeFilterMenu(add);
  const targets = h(
    "fieldset", { class: "switch", data: { testid: "target" } }, h("legend", { class: "visually-hidden" }, "What to find"),
    [["image", "Photos"], ["region", "Things in them"]].map(([value, words]) =>
      h("label", {}, h("input", {
        type: "radio", name: "target", value, data: { testid: `target-${value}` }, on: { change: () => go({ target: value, photo: "" }) },
      }), h("span", {}, words)),
    ),
  );
  const refineBox = h("input", {
    type: "checkbox", data: { testid: "refine" }, on: { change: () => go({ refine: refineBox.checked }) },
  });
  const refine = h(
    "label", { class: "refine", title: "Look in the first photos for exactly what the words name", hidden: true },
    refineBox, h("span", {}, "Find the place"),
  );
  const sort = h(
    "select", { "aria-label": "Order", class: "sort", data: { testid: "sort" }, on: { change: () => go(isSearch(state()) ? { order: sort.value } : { sort: sort.value }) } },
  );
  const save = button("Save as album", () => saveSearch(state()), { drawing: "album", class: "is-small", "data-testid": "save-search" });
  const heading = h("h1", { class: "bar-title" });
  fill(place, heading, targets, refine, parts, row, h("span", { class: "bar-add" }, add, save), h("span", { class: "bar-end" }, summary, emptyTrash, sort, slideshowButton, selectButton));

  function chip({ kind, label, remove }, position) {
    const take = () => {
      go(remove);
      const left = row.querySelectorAll(".chip-label");
      (left[Math.min(position, left.length - 1)] ?? add).focus();
    };
    const element = h(
      "li", { class: "chip", data: { testid: "chip", kind } },
      h("button", {
        type: "button", class: "chip-label", title: "Change (Delete removes it)",
        on: { click: (event) => menu.open(event.currentTarget, kind) },
      }, icon(DRAWINGS[kind]), h("span", {}, label)),
      iconButton("close", `Remove the filter ${label}`, take, { class: "chip-remove", "data-testid": "chip-remove" }),
    );
    onKeys(element, "filter", { remove: take });
    return element;
  }

  function partChip(part) {
    const label = labelOf(part);
    return h(
      "li", { class: "chip is-written", data: { testid: "part" } }, h("span", { class: "chip-label", title: label }, h("span", {}, label)),
      iconButton("close", `Remove ${label} from the query`, () => go({ q: without(state().q, part), photo: "" }), {
        class: "chip-remove", "data-testid": "part-remove",
      }),
    );
  }

  let hasFailed = false;
  function showSave() {
    save.hidden = hasFailed || !canSave(state());
  }

  // The orders of the answer that is shown.
  let orders = ORDERS;

  function showOrders(current) {
    const offered = isSearch(current) ? orders : SORTS;
    fill(sort, Object.entries(offered).map(([value, words]) => h("option", { value }, words)));
    sort.value = isSearch(current) ? current.order || Object.keys(orders)[0] : current.sort;
  }

  return {
    /** Show how the service read the query; nothing for plain words. */
    showParts(read) {
      fill(parts, read.map(partChip));
      parts.hidden = read.length === 0;
      // No relevance orders what filters alone find.
      const { newest, oldest } = ORDERS;
      orders = isList(read) ? { newest, oldest } : ORDERS;
      showOrders(state());
    },
    show(current) {
      const isOfPhotos = !["duplicates", "albums", "map"].includes(current.view);
      const isMap = current.view === "map";
      heading.textContent = HEADINGS[current.view] ?? (isSearch(current) ? "Results" : "Library");
      heading.classList.toggle("visually-hidden", !(current.view in HEADINGS));
      selectButton.hidden = slideshowButton.hidden = !isOfPhotos;
      add.parentElement.hidden = !isOfPhotos && !isMap;
      showSave();
      targets.hidden = !isSearch(current);
      for (const input of targets.querySelectorAll("input")) input.checked = input.value === current.target;
      refine.hidden = !canRefine(current);
      refineBox.checked = current.refine;
      // The map shows its own box.
      fill(row, chips(isMap ? { ...current, filters: withFilter(current.filters, "gps_box", "") } : current).map(chip));
      row.hidden = row.childElementCount === 0;
      sort.hidden = !isOfPhotos;
      showOrders(current);
    },
    /** Offer to save the search only if it has an answer. */
    setFailed(isFailed) {
      hasFailed = isFailed;
      showSave();
    },
    /** Show that places are being looked for. */
    setRefining: (isBusy) => refine.classList.toggle("is-busy", isBusy),
    dropLast() {
      const last = chips(state()).at(-1);
      if (last) go(last.remove);
    },
    openMenu: (kind) => menu.open(add, kind),
  };
}
