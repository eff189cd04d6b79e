// The list of albums: those that people fill, and saved searches. Each opens as a search.

import * as api from "./api.js";
import { announce, button, fill, h, icon, iconButton, thumb } from "./dom.js";
import { plural } from "./format.js";
import { notification } from "./notice.js";
import { canWrite } from "./session.js";
import { goAfresh, href, state } from "./state.js";
import { toast, toastProblem } from "./toast.js";
import { filterBy, queryOf } from "./written.js";

/** The query that finds what is in an album. */
export const inAlbum = (name) => filterBy("album", name);

/** The albums that photographs are put into, which saved searches are not. */
export const albumsToFill = async () => (await api.albums()).filter(({ query }) => query === null);

/** The album of this name, which is made if there is none. */
export const albumToFill = async (name) => (await api.albums()).find((one) => one.name === name) ?? api.createAlbum(name);

/** Whether the state can be saved as an album: words and filters, without a picture or an album. */
export const canSave = (current) =>
  canWrite() && !current.like && !current.picture && current.view === "library" && queryOf(current) !== "" && !/(^|[\s(-])(album|image):/iu.test(current.q);

/** Ask for a name, and save what the state finds as an album that fills itself. */
export async function saveSearch(current) {
  const name = prompt("Name of the album, which will show what this search finds:", current.q)?.trim();
  if (!name) return;
  try {
    await api.createAlbum(name, queryOf(current));
    toast(`Saved as “${name}”.`, { action: { words: "Albums", run: () => goAfresh({ view: "albums" }) } });
  } catch (problem) {
    toastProblem(problem);
  }
}

/** The view in `place`. */
export function makeAlbums(place, summary) {
  const list = h("ul", { class: "albums", "aria-label": "Albums", data: { testid: "album-list" } });
  const notice = h("div", { hidden: true });
  let albums = [];
  let isShown = false;
  fill(place, h("p", { class: "hint" }, "Select photos to put them into an album, or save a search as one."), list, notice);

  async function load() {
    try {
      albums = await api.albums();
      fill(notice, !albums.length && notification("album", "No albums yet", ""));
    } catch (problem) {
      albums = [];
      fill(notice, notification("alert", problem.message, problem.remedy || "", button("Try again", load, { class: "is-primary" })));
    }
    if (isShown) draw();
  }

  function draw() {
    fill(list, albums.map(card));
    notice.hidden = notice.childElementCount === 0;
    summary.textContent = albums.length ? plural(albums.length, "album") : "";
  }

  function card(album) {
    const q = inAlbum(album.name);
    const isSaved = album.query !== null;
    return h(
      "li", { class: "album", data: { testid: "album" } },
      h("a", {
        class: "album-link", href: href({ ...state(), view: "library", q }), on: {
          click: (event) => {
            if (event.metaKey || event.ctrlKey || event.altKey || event.button) return;
            event.preventDefault();
            goAfresh({ q });
          },
        },
      },
      h("span", { class: "album-cover" }, album.cover ? thumb(`v1/assets/${encodeURIComponent(album.cover)}/thumbnail?size=256`) : icon(isSaved ? "search" : "album")),
      h("span", { class: "album-name", dir: "auto" }, album.name)),
      h("span", { class: "album-facts", title: album.query }, isSaved ? `Saved search: ${album.query}` : plural(album.assets, "photo")),
      canWrite() && h("span", { class: "album-actions" },
        iconButton("edit", `Rename ${album.name}`, () => rename(album), { "data-testid": "album-rename" }),
        iconButton("trash", `Delete the album ${album.name}`, () => remove(album), { "data-testid": "album-delete" })),
    );
  }

  async function rename(album) {
    const name = prompt(`New name of “${album.name}”:`, album.name)?.trim();
    if (!name || name === album.name) return;
    await change(() => api.renameAlbum(album.id, name), `Renamed to “${name}”.`);
  }

  async function remove(album) {
    if (!confirm(`Delete the album “${album.name}”? Its photos stay.`)) return;
    await change(() => api.deleteAlbum(album.id), `Deleted the album “${album.name}”.`);
  }

  async function change(call, words) {
    try {
      await call();
      await load();
      announce(words);
      (list.querySelector(".album-link") ?? place).focus();
    } catch (problem) {
      toastProblem(problem);
    }
  }

  return {
    show(current) {
      const was = isShown;
      isShown = current.view === "albums";
      place.hidden = !isShown;
      document.documentElement.classList.toggle("has-albums", isShown);
      if (!isShown || was) return;
      draw();
      load();
    },
    /** Redraw once the permissions are known. */
    renew: () => isShown && draw(),
  };
}
