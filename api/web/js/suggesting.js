// The list below the search box that completes what is typed, by values of the library: a combobox
// with a listbox (ARIA 1.2). The focus stays in the field; arrows choose, Enter takes, Escape closes.

import * as api from "./api.js";
import { announce, fill, h, icon } from "./dom.js";
import { plural } from "./format.js";
import { onKeys } from "./keys.js";
import { tooLong } from "./written.js";

const PAUSE_MS = 120;
const DRAWINGS = { "saved search": "search" };

/** Make `field` a combobox; `take(query)` gets the query of the chosen suggestion. Returns its list. */
export function makeSuggesting(field, take) {
  const list = h("ul", { id: "suggestions", class: "suggestions", role: "listbox", "aria-label": "Suggestions", hidden: true, data: { testid: "suggestions" } });
  for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-expanded", "false"], ["aria-controls", list.id]]) field.setAttribute(name, value);
  let items = [];
  let active = -1;
  let waiting = null;
  let asking = null;

  function close() {
    clearTimeout(waiting);
    asking?.abort();
    show([]);
  }

  function show(found) {
    items = found;
    list.hidden = !items.length;
    field.setAttribute("aria-expanded", String(items.length > 0));
    fill(list, items.map((item, place) => h(
      "li", {
        id: `suggestion-${place}`, class: "suggestion", role: "option", "aria-selected": "false", data: { testid: "suggestion" },
        // Pressing must not take the focus from the field.
        on: { pointerdown: (event) => event.preventDefault(), click: () => choose(item) },
      },
      icon(DRAWINGS[item.kind] ?? item.kind), h("span", { class: "menu-value" }, item.value), h("span", { class: "menu-count" }, item.kind),
    )));
    mark(-1);
  }

  function mark(place) {
    active = place;
    for (const [number, option] of [...list.children].entries()) option.setAttribute("aria-selected", String(number === place));
    if (place < 0) field.removeAttribute("aria-activedescendant");
    else field.setAttribute("aria-activedescendant", list.children[place].id);
    list.children[place]?.scrollIntoView({ block: "nearest" });
  }

  function choose(item) {
    const rest = field.value.slice(field.selectionEnd).trim();
    close();
    take(rest ? `${item.query} ${rest}` : item.query);
  }

  async function ask() {
    const text = field.value.slice(0, field.selectionEnd);
    if (tooLong(text)) {
      show([]);
      return;
    }
    asking = new AbortController();
    try {
      const found = (await api.suggestions(text, asking.signal)).items;
      if (document.activeElement !== field) return;
      show(found);
      if (found.length) announce(plural(found.length, "suggestion"));
    } catch {
      // Without suggestions the search box works as well; a search will tell what is wrong.
      show([]);
    }
  }

  field.addEventListener("input", () => {
    clearTimeout(waiting);
    asking?.abort();
    const isWithinWord = /^\S/u.test(field.value.slice(field.selectionEnd));
    if (!field.value.trim() || isWithinWord) show([]);
    else waiting = setTimeout(ask, PAUSE_MS);
  });
  field.addEventListener("blur", close);
  field.form.addEventListener("submit", close);
  const isIdle = () => !items.length;
  // Of the suggestions, and of the text itself beyond either end.
  const step = (by) => {
    const places = items.length + 1;
    mark(((active + 1 + by + places) % places) - 1);
  };
  // The search box has keys of its own.
  const alone = (deed) => (event) => {
    if (deed() === false) return false;
    event.stopImmediatePropagation();
    return true;
  };
  onKeys(field, "suggestions", {
    next: alone(() => step(1)),
    previous: alone(() => step(-1)),
    take: alone(() => active >= 0 && choose(items[active])),
    close: alone(close),
  }, isIdle);
  return list;
}
