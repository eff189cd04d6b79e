// The selection of photographs, and the bar that tags, puts into albums, deletes or restores them.

import * as api from "./api.js";
import { albumsToFill, albumToFill, inAlbum } from "./albums.js";
import { announce, button, fill, h, iconButton } from "./dom.js";
import { plural } from "./format.js";
import { onKeys, withKey } from "./keys.js";
import { starred } from "./rating.js";
import { canWrite } from "./session.js";
import { goAfresh, state } from "./state.js";
import { toast, toastProblem } from "./toast.js";

const AT_ONCE = 1000;

/**
 * The selection; `actions`: {position(id) → of a result, ids(from, to) → those of the results between two positions,
 * length() of the results, mark(isSelecting), removed(ids), restored(), stacked(), tagged(ids)}.
 */
export function makeSelection(bar, actions) {
  const selected = new Set();
  let last = null;
  let isSelecting = false;

  function toggle(id, event) {
    const [from, to] = [last === null ? -1 : actions.position(last), actions.position(id)].sort((one, other) => one - other);
    if (event?.shiftKey && from >= 0) {
      add(from, to + 1);
    } else if (!selected.delete(id)) {
      selected.add(id);
    }
    last = id;
    isSelecting = isSelecting || selected.size > 0;
    show();
  }

  async function add(from, to) {
    bar.setAttribute("aria-busy", "true");
    try {
      for (const id of await actions.ids(from, to)) selected.add(id);
    } catch (problem) {
      toastProblem(problem);
    }
    bar.removeAttribute("aria-busy");
    show();
  }

  function clear() {
    selected.clear();
    isSelecting = false;
    last = null;
    show();
  }

  const count = h("strong", { class: "selection-count", data: { testid: "selection-count" } });
  const field = h("input", { type: "text", placeholder: "Tag", "aria-label": "Tag for the selected photos", maxlength: "200", autocomplete: "off", data: { testid: "bulk-tag" } });
  const tagForm = h("form", {
    class: "selection-tags", "aria-label": "Tags", on: {
      submit(event) {
        event.preventDefault();
        tag(event.submitter?.value === "untag" ? "untag" : "tag");
      },
    },
  }, field, h("button", { type: "submit", value: "tag", class: "button is-small", title: "Add the tag", data: { testid: "bulk-tag-add" } }, "Add"),
  h("button", { type: "submit", value: "untag", class: "button is-small", title: "Remove the tag", data: { testid: "bulk-tag-remove" } }, "Remove"));
  const names = h("datalist", { id: "album-names" });
  const album = h("input", {
    type: "text", placeholder: "Album", "aria-label": "Album for the selected photos", maxlength: "200", autocomplete: "off", list: "album-names",
    data: { testid: "bulk-album" }, on: { focus: listAlbums },
  });
  const albumForm = h("form", {
    class: "selection-tags", "aria-label": "Albums", on: {
      submit(event) {
        event.preventDefault();
        changeAlbum(event.submitter?.value === "remove" ? "remove" : "add");
      },
    },
  }, album, names, h("button", { type: "submit", value: "add", class: "button is-small", title: "Add to the album", data: { testid: "bulk-album-add" } }, "Add"),
  h("button", { type: "submit", value: "remove", class: "button is-small", title: "Take out of the album", data: { testid: "bulk-album-remove" } }, "Remove"));
  const rating = h("select", {
    "aria-label": "Rating for the selected photos", class: "sort", data: { testid: "bulk-rating" },
    on: { change: () => rate(Number(rating.value)) },
  }, h("option", { value: "" }, "Rate"), [5, 4, 3, 2, 1, 0].map((given) => h("option", { value: String(given) }, starred(given))));
  const stack = button("Stack", () => putTogether(), { drawing: "stack", class: "is-small", title: "Put them into one stack", "data-testid": "bulk-stack" });
  const restack = iconButton("refresh", "Restack: leave them to the rules again", () => leaveToRules(), { "data-testid": "bulk-restack" });
  const remove = button("Delete", () => trash(), { drawing: "trash", class: "is-small", "data-testid": "bulk-delete" });
  const restore = button("Restore", () => bring(), { drawing: "restore", class: "is-small", "data-testid": "bulk-restore" });
  const all = button("All", () => add(0, actions.length()), { class: "is-small", title: "Select all shown", "data-testid": "select-all" });
  fill(bar, iconButton("close", withKey("Stop selecting", "escape", "close"), clear, { "data-testid": "selection-clear" }), count, all, h("span", { class: "spring" }), rating, tagForm, albumForm, stack, restack, remove, restore);

  async function each(action, said) {
    const ids = [...selected];
    for (let start = 0; start < ids.length; start += AT_ONCE) await api.bulk(ids.slice(start, start + AT_ONCE), action, said);
    return ids;
  }

  async function tag(action) {
    const tags = field.value.split(",").map((each) => each.trim()).filter(Boolean);
    if (!tags.length || !selected.size) {
      field.focus();
      return;
    }
    try {
      const ids = await each(action, { tags });
      field.value = "";
      actions.tagged(ids);
      toast(`${action === "tag" ? "Added" : "Removed"} ${tags.map((one) => `“${one}”`).join(", ")} ${action === "tag" ? "to" : "from"} ${plural(ids.length, "photo")}.`);
    } catch (problem) {
      toastProblem(problem);
    }
  }

  async function rate(given) {
    rating.value = "";
    try {
      const ids = await each("rate", { rating: given });
      toast(given ? `Gave ${starred(given)} to ${plural(ids.length, "photo")}.` : `Took the stars of ${plural(ids.length, "photo")} away.`);
    } catch (problem) {
      toastProblem(problem);
    }
  }

  async function listAlbums() {
    try {
      fill(names, (await albumsToFill()).map(({ name }) => h("option", { value: name })));
    } catch (problem) {
      toastProblem(problem);
    }
  }

  /** Add the selection to the named album, which is made if there is none, or take it out. */
  async function changeAlbum(action) {
    const name = album.value.trim().normalize("NFC");
    if (!name || !selected.size) {
      album.focus();
      return;
    }
    try {
      if (action === "remove" && !(await albumsToFill()).some((one) => one.name === name)) throw new Error(`There is no album “${name}”.`);
      const { id } = await albumToFill(name);
      const ids = [...selected];
      let changed = 0;
      for (let start = 0; start < ids.length; start += AT_ONCE) {
        changed += (await api.changeAlbum(id, { [action]: ids.slice(start, start + AT_ONCE) })).done;
      }
      const show = () => {
        clear();
        goAfresh({ q: inAlbum(name) });
      };
      toast(
        action === "add" ? `Added ${plural(changed, "photo")} to “${name}”.` : `Took ${plural(changed, "photo")} out of “${name}”.`,
        { action: { words: "Open", run: show } },
      );
    } catch (problem) {
      toastProblem(problem);
    }
  }

  async function putTogether() {
    try {
      const { done } = await api.bulk([...selected], "stack");
      clear();
      actions.stacked();
      toast(`${plural(done, "file")} in one stack.`);
    } catch (problem) {
      toastProblem(problem);
    }
  }

  async function leaveToRules() {
    try {
      const ids = await each("restack");
      clear();
      actions.stacked();
      toast(`${plural(ids.length, "photo")} back to stacks by rules.`);
    } catch (problem) {
      toastProblem(problem);
    }
  }

  async function trash() {
    try {
      const ids = await each("delete");
      clear();
      actions.removed(new Set(ids));
      toast(`Moved ${plural(ids.length, "photo")} to the trash.`, { action: { words: "Undo", run: () => undo(ids) } });
    } catch (problem) {
      toastProblem(problem);
    }
  }

  async function undo(ids) {
    try {
      for (let start = 0; start < ids.length; start += AT_ONCE) await api.bulk(ids.slice(start, start + AT_ONCE), "restore");
      actions.restored();
    } catch (problem) {
      toastProblem(problem);
    }
  }

  async function bring() {
    try {
      const ids = await each("restore");
      clear();
      actions.removed(new Set(ids));
      toast(`Restored ${plural(ids.length, "photo")}.`);
    } catch (problem) {
      toastProblem(problem);
    }
  }

  function show() {
    bar.hidden = !isSelecting;
    document.documentElement.classList.toggle("is-selecting", isSelecting);
    count.textContent = `${selected.size} selected`;
    const isTrash = state().view === "trash";
    rating.hidden = tagForm.hidden = albumForm.hidden = isTrash || !canWrite();
    remove.hidden = stack.hidden = restack.hidden = isTrash || !canWrite();
    restore.hidden = !isTrash || !canWrite();
    for (const act of [rating, restack, remove, restore, ...tagForm.querySelectorAll("button"), ...albumForm.querySelectorAll("button")]) act.disabled = selected.size === 0;
    stack.disabled = selected.size < 2;
    actions.mark(isSelecting);
    if (isSelecting) announce(`${selected.size} selected`);
  }

  onKeys(document, "escape", { close: () => { clear(); return false; } }, () => !isSelecting || document.querySelector("dialog[open], :popover-open"));

  show();
  return {
    toggle,
    clear: () => isSelecting && clear(),
    begin() {
      isSelecting = !isSelecting;
      if (!isSelecting) selected.clear();
      show();
    },
    has: (id) => selected.has(id),
    isActive: () => isSelecting,
    refresh: show,
  };
}
