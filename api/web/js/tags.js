// A photograph's tags: a list to remove from and a field to add with.

import { fill, h, iconButton } from "./dom.js";
import { onKeys } from "./keys.js";

/**
 * The editor; `change(tags)` stores the new list, and `onProblem` receives its Problem if
 * that fails.
 */
export function makeTags({ tags, canEdit, suggest, change, onProblem, onFilter }) {
  let present = [...tags];
  const list = h("ul", { class: "tags", data: { testid: "tags" } });
  const options = h("datalist", { id: "tag-options" });
  const field = h("input", {
    type: "text", class: "tag-input", placeholder: "Add a tag", "aria-label": "Add a tag", maxlength: "200", autocomplete: "off",
    list: "tag-options", data: { testid: "tag-input" },
  });
  const form = h("form", { class: "tag-form" }, field, options, h("button", { type: "submit", class: "button is-small" }, "Add"));
  let isAsked = false;

  field.addEventListener("focus", async () => {
    if (isAsked) return;
    isAsked = true;
    const known = await suggest().catch(() => []);
    fill(options, known.map(({ value }) => h("option", { value })));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const added = field.value.split(",").map((tag) => tag.trim()).filter(Boolean);
    if (!added.length) return;
    field.value = "";
    store([...new Set([...present, ...added])]);
  });
  onKeys(field, "tags", { last: () => list.querySelector("li:last-child .chip-remove")?.focus() },
    () => field.value !== "" || !present.length);

  async function store(next) {
    const before = present;
    present = next;
    draw();
    try {
      present = [...(await change(next))];
    } catch (problem) {
      present = before;
      onProblem(problem);
    }
    draw();
  }

  function draw() {
    const focused = document.activeElement?.closest?.(".tags li");
    const position = focused && focused.parentElement === list ? [...list.children].indexOf(focused) : -1;
    fill(list, present.map((tag) => h(
      "li", { class: "chip", data: { testid: "tag" } },
      h("button", { type: "button", class: "chip-label", title: `Show all photos with the tag ${tag}`, on: { click: () => onFilter(tag) } }, h("span", {}, tag)),
      canEdit && iconButton("close", `Remove the tag ${tag}`, () => store(present.filter((other) => other !== tag)), { class: "chip-remove", "data-testid": "tag-remove" }),
    )));
    list.hidden = !present.length;
    if (position >= 0) (list.children[Math.min(position, present.length - 1)]?.querySelector(".chip-remove") ?? field).focus();
  }

  draw();
  return h("div", { class: "tag-editor" }, list, canEdit ? form : !present.length && h("p", { class: "hint" }, "No tags."));
}
