// The names that a photograph is kept under, its tags or its albums: a list to remove from and a field to add with.

import { fill, h, iconButton } from "./dom.js";
import { onKeys } from "./keys.js";

export const TAGS = {
  testid: "tag", add: "Add a tag", none: "No tags.",
  open: (tag) => `Show all photos with the tag ${tag}`, remove: (tag) => `Remove the tag ${tag}`,
  read: (text) => text.split(",").map((tag) => tag.trim()).filter(Boolean),
};
export const ALBUMS = {
  testid: "album-in", add: "Add to an album", none: "In no album.",
  open: (album) => `Show the album ${album}`, remove: (album) => `Take it out of the album ${album}`,
  read: (text) => [text.trim().normalize("NFC")].filter(Boolean),
};

/**
 * The editor of names of a kind; `suggest()` gives known names, `change(names)` stores the new list and gives what is
 * stored, and `onProblem` receives its Problem if that fails.
 */
export function makeNames({ kind, names, canEdit, suggest, change, onProblem, onOpen }) {
  let stored = [...names];
  // What is not stored yet, in order: of a list of names, the list after it.
  const edits = [];
  const present = () => edits.reduce((known, edit) => edit(known), stored);
  const list = h("ul", { class: "tags", data: { testid: `${kind.testid}s` } });
  const options = h("datalist", { id: `${kind.testid}-options` });
  const field = h("input", {
    type: "text", class: "tag-input", placeholder: kind.add, "aria-label": kind.add, maxlength: "200", autocomplete: "off",
    list: options.id, data: { testid: `${kind.testid}-input` },
  });
  const form = h("form", { class: "tag-form" }, field, options, h("button", { type: "submit", class: "button is-small" }, "Add"));
  let isAsked = false;

  field.addEventListener("focus", async () => {
    if (isAsked) return;
    isAsked = true;
    const known = await suggest().catch(() => []);
    fill(options, known.map((value) => h("option", { value })));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const added = kind.read(field.value);
    if (!added.length) return;
    field.value = "";
    store((known) => [...new Set([...known, ...added])]);
  });
  onKeys(field, "names", { last: () => list.querySelector("li:last-child .chip-remove")?.focus() },
    () => field.value !== "" || !present().length);

  /** Store the names as `edit` makes them of those before; one after the other, but shown at once. */
  async function store(edit) {
    edits.push(edit);
    draw();
    if (edits.length > 1) return;
    while (edits.length) {
      try {
        stored = [...(await change(edits[0](stored)))];
      } catch (problem) {
        onProblem(problem);
      }
      edits.shift();
      draw();
    }
  }

  function draw() {
    const shown = present();
    const focused = document.activeElement?.closest?.(".tags li");
    const position = focused && focused.parentElement === list ? [...list.children].indexOf(focused) : -1;
    fill(list, shown.map((name) => h(
      "li", { class: "chip", data: { testid: kind.testid } },
      h("button", { type: "button", class: "chip-label", title: kind.open(name), on: { click: () => onOpen(name) } }, h("span", { dir: "auto" }, name)),
      canEdit && iconButton("close", kind.remove(name), () => store((known) => known.filter((other) => other !== name)), { class: "chip-remove", "data-testid": `${kind.testid}-remove` }),
    )));
    list.hidden = !shown.length;
    if (position >= 0) (list.children[Math.min(position, shown.length - 1)]?.querySelector(".chip-remove") ?? field).focus();
  }

  draw();
  return h("div", { class: "tag-editor" }, list, canEdit ? form : !stored.length && h("p", { class: "hint" }, kind.none));
}
