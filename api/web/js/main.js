// Wires the page: every part shows the state, and the state is the URL.

import * as api from "./api.js";
import { makeAlbums } from "./albums.js";
import { makeBox } from "./box.js";
import { addIcons, announce, button, h, iconButton, isTyping } from "./dom.js";
import { chooseFiles, watchDrops } from "./drop.js";
import { makeDuplicates } from "./duplicates.js";
import { makeFilters } from "./filters.js";
import { nameOf } from "./format.js";
import { makeFresh } from "./fresh.js";
import { makeGrid } from "./grid.js";
import { showExamples, showKeys } from "./help.js";
import { makeJobs } from "./jobs.js";
import { onKeys, withKey } from "./keys.js";
import { makeMap } from "./map.js";
import { makeMenu } from "./menu.js";
import { keepPicture } from "./pictures.js";
import { makeResults } from "./results.js";
import { makeScrubber } from "./scrubber.js";
import { makeSearchbar } from "./searchbar.js";
import { makeSelection } from "./selection.js";
import { canWrite, isAdmin, learn, onSignedIn, signIn } from "./session.js";
import { go, goAfresh, isSearch, onChange, resultsKey, state, tell } from "./state.js";
import { toast, toastProblem } from "./toast.js";
import { makeUpload } from "./upload.js";
import { makeViewer } from "./viewer.js";

const part = (id) => document.getElementById(id);
history.scrollRestoration = "manual";
api.onKeyRequired(signIn);
addIcons().catch(() => {}); // the page works without

async function searchBy(file, extra = {}) {
  try {
    const picture = await keepPicture(file);
    goAfresh({ picture, q: state().q, target: state().target, filters: state().filters, ...extra });
    scrollTo(0, 0);
  } catch (problem) {
    toastProblem(problem);
  }
}

async function choosePicture() {
  const [file] = await chooseFiles();
  if (file) await searchBy(file);
}

const list = part("grid");
const summary = h("span", { class: "summary", data: { testid: "summary" } });
const grid = makeGrid(list, {
  open(result, event) {
    if (selection.isActive()) {
      selection.toggle(result.asset.id, event);
      return;
    }
    viewer.expect(result);
    go({ photo: result.asset.id }, { note: { opened: true } });
  },
  toggle: (result, event) => selection.toggle(result.asset.id, event),
  similar: ({ asset, region }) =>
    state().target === "region" && region
      ? goAfresh({ like: region.id, target: "region", filters: state().filters })
      : goAfresh({ like: asset.id, filters: state().filters }),
  need: (blocks, isFast) => results.need(blocks, isFast),
  end: () => results.end(),
  moved: () => scrubber.show(),
  settled: (place) => results.settled(place),
}, (id) => selection.has(id));
const scrubber = makeScrubber(part("scrubber"), grid);

const selection = makeSelection(part("selection"), {
  position: (id) => results.find(({ asset }) => asset.id === id),
  ids: (from, to) => results.ids(from, to),
  length: () => results.length(),
  mark: (isSelecting) => grid.markSelected(isSelecting),
  removed: (ids) => takeOut(ids),
  restored: () => results.reload(),
  stacked: () => results.reload(),
  async tagged(ids) {
    // A filter by tags may match differently now.
    if (state().filters.tag || state().filters.not_tag) await results.reload();
    else for (const id of ids.slice(0, 50)) results.refresh(await api.asset(id));
  },
});

const results = makeResults({
  grid, list, notice: part("notice"), tail: part("tail"), summary,
  help: {
    canWrite, choosePicture,
    withoutPicture: () => go({ picture: "" }),
    clearFilters: () => go({ filters: {} }),
    showExamples,
    clearQuery: () => goAfresh({ filters: state().filters }),
    upload: () => upload.open(),
    understood: (parts) => filters.showParts(parts),
    wrong(problem) {
      searchbar.mark(problem);
      filters.setFailed(Boolean(problem));
    },
    displayed: () => viewer.settle(),
    refining: (isBusy) => filters.setRefining(isBusy),
  },
});

/** Take photographs out of the results; of their stacks, the rest then shows. */
function takeOut(ids, hasStack = results.loaded().some(({ asset }) => ids.has(asset.id) && asset.stack)) {
  results.remove(ids);
  fresh.reset();
  if (hasStack) results.reload();
}

const viewer = makeViewer({
  results,
  actions: {
    changed: (asset) => results.refresh(asset),
    focusOn: (id) => duplicates.focus(id) || grid.focus(id) || part("results").focus({ preventScroll: true }),
    async part(asset) {
      try {
        const answer = await fetch(asset.urls.thumbnail_1024);
        if (!answer.ok) throw api.problemOf(answer.status, await answer.text());
        const blob = await answer.blob();
        await searchBy(new File([blob], nameOf(asset), { type: blob.type }), { q: "" });
        box.focus();
      } catch (problem) {
        toastProblem(problem);
      }
    },
    async remove(asset) {
      await api.trashAsset(asset.id);
      takeOut(new Set([asset.id]), Boolean(asset.stack));
      duplicates.remove(new Set([asset.id]));
      toast(`Moved ${nameOf(asset)} to the trash.`, {
        action: {
          words: "Undo",
          async run() {
            try {
              await api.restoreAsset(asset.id);
              await results.reload();
              announce("Restored");
            } catch (problem) {
              toastProblem(problem);
            }
          },
        },
      });
    },
    async unstack(asset) {
      await api.bulk([asset.id], "unstack");
      await results.reload();
      toast(`Took ${nameOf(asset)} out of its stack.`);
    },
    async restore(asset) {
      await api.restoreAsset(asset.id);
      results.remove(new Set([asset.id]));
      toast(`Restored ${nameOf(asset)}.`);
    },
  },
});

const duplicates = makeDuplicates(part("duplicates"), summary, {
  open: (id) => go({ photo: id }, { note: { opened: true } }),
  removed: (ids) => takeOut(ids),
  restored: () => results.reload(),
});

const albums = makeAlbums(part("albums"), summary);

const map = makeMap(part("map"), summary);

const fresh = makeFresh(part("fresh"), async () => {
  await results.reload();
  scrollTo({ top: 0, behavior: "smooth" });
  grid.focusFirst();
});
const uploadButton = button("Upload", () => upload.open(), { drawing: "upload", class: "upload-open", "data-testid": "upload-open", "aria-label": "Upload photos" });
part("actions").append(uploadButton);
const jobs = makeJobs(part("actions"), (job, before) => {
  fresh.poke();
  if (!before || job.state === before.state || !job.finished_at) return;
  if (job.kind !== "purge") settlePending();
  else if (state().view === "trash") results.reload();
});
const upload = makeUpload({
  jobs,
  async done() {
    if (isSearch(state()) || state().view !== "library") {
      fresh.poke();
    } else {
      await results.reload();
      await fresh.reset();
    }
  },
});
makeMenu(part("actions"));
const selectButton = iconButton("select", "Select several", () => selection.begin(), { "data-testid": "select-mode" });
const emptyTrash = button("Empty the trash", purge, { class: "is-small is-bad", "data-testid": "empty-trash" });
const slideshowButton = iconButton("play", withKey("Slideshow", "page", "slideshow"), playSlideshow, { "data-testid": "slideshow-start" });
const filters = makeFilters({ place: part("bar"), summary, selectButton, slideshowButton, emptyTrash });
const searchbar = makeSearchbar({ form: part("search"), choosePicture, dropLastFilter: () => filters.dropLast() });
const box = makeBox(part("asking"));

watchDrops({ search: searchBy, upload: (files) => upload.open(files), canUpload: canWrite });

// Pending photographs of an ended job are now indexed or failed.
async function settlePending() {
  const pending = results.loaded().filter((result) => result.asset.state === "pending").slice(0, 200);
  for (const { asset } of pending) results.refresh(await api.asset(asset.id).catch(() => asset));
}

async function playSlideshow() {
  const first = isOfPhotos(state()) && (await results.reach(grid.current()));
  if (!first) return;
  viewer.expect(first);
  go({ photo: first.asset.id }, { note: { opened: true } });
  viewer.play();
}

async function purge() {
  if (!confirm("Empty the trash? Its photos are deleted for good.")) return;
  try {
    const { purged, jobs: rest } = await api.emptyTrash();
    toast(rest.length ? "The trash is emptied in the background." : `Deleted ${purged} for good.`);
    if (rest.length) jobs.look();
    await results.reload();
  } catch (problem) {
    toastProblem(problem);
  }
}

onKeys(document, "page", {
  search: () => searchbar.focus(),
  target: () => isSearch(state()) && go({ target: state().target === "image" ? "region" : "image" }),
  slideshow: playSlideshow,
  upload: () => canWrite() && upload.open(),
  help: showKeys,
}, (event) => isTyping(event) || document.querySelector("dialog[open]"));

part("brand").addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  goAfresh();
  scrollTo(0, 0);
});

addEventListener("beforeunload", (event) => upload.isRunning() && event.preventDefault());

const isOfPhotos = ({ view }) => view === "library" || view === "trash";

onChange((current, before) => {
  if (before && resultsKey(before) !== resultsKey(current)) results.keep();
  if (before && resultsKey(before) !== resultsKey(current)) selection.clear();
  document.title = [current.q || (current.like && "More like this") || (current.picture && "Search by a picture") || (current.view === "trash" && "Trash"), (current.view === "duplicates" && "Duplicates"), (current.view === "albums" && "Albums"), (current.view === "map" && "Map"), "regard"].filter(Boolean).join(" · ");
  emptyTrash.hidden = current.view !== "trash" || !isAdmin();
  searchbar.show(current, before);
  filters.show(current);
  box.show(current);
  if (isOfPhotos(current)) results.show(current);
  else results.leave();
  duplicates.show(current);
  albums.show(current);
  map.show(current);
  viewer.show(current);
  selection.refresh();
});

/** Read what the key allows, and show it everywhere. */
async function permit() {
  try {
    await learn();
  } catch (problem) {
    // The results show their own problem; this one explains why nothing can be changed.
    toastProblem(problem);
  }
  uploadButton.hidden = !canWrite();
  emptyTrash.hidden = state().view !== "trash" || !isAdmin();
  selection.refresh();
  // What the service can do is known only now.
  filters.show(state());
  if (isOfPhotos(state())) results.show(state());
  results.renew();
  duplicates.renew();
  albums.renew();
  viewer.renew();
}

onSignedIn(permit);

async function start() {
  tell();
  await permit();
  await fresh.reset();
  await jobs.look();
}

start();
