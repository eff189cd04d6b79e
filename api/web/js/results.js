// Loads the results of the state, those near the visible part first, and shows a notice if there are none
// or if something failed. Earlier results are cached, so back and forward restore them at
// once.

import { announce, button, fill, h, icon } from "./dom.js";
import { countList, find, listFrom, PictureMissing } from "./finding.js";
import { number } from "./format.js";
import { makeListing } from "./listing.js";
import { notification } from "./notice.js";
import { makeRefining } from "./refining.js";
import { hasMonths, headingsOf } from "./sections.js";
import { info } from "./session.js";
import { go, isSearch, resultsKey, state } from "./state.js";
import { tileCount } from "./tile.js";
import { isList, marked, namesPhoto, tooLong } from "./written.js";

const KEPT = 12;
// How many assets of a list one request takes: at first, while scrolling, and to know their
// ids alone.
const FIRST = 120;
const PART = 200;
const MANY = 1000;
// How many are looked through for the place of one.
const FARTHEST = 10 * MANY;
// How many characters of a text a message quotes.
const LONG = 100;
// While somebody scrolls through months in a moment, nothing is loaded.
const STILL_MS = 80;

/** The list on the server is no longer what was counted. */
class ListChanged extends Error {
  message = "The list keeps changing";
}
const ATTEMPTS = 4;

/**
 * The results in `grid`, with notices in `notice` and the end of the list in `tail`. `help` are what the notices
 * offer: {clearFilters, clearQuery, choosePicture, showExamples, upload, canWrite}, and who is told of the query: {understood(parts),
 * wrong(problem | null), refining(isBusy), displayed()}.
 */
export function makeResults({ grid, list, notice, tail, summary, help }) {
  const kept = new Map();
  const refining = makeRefining(grid, help.refining);
  let now = null;
  let controller = null;
  // Blocks near the visible part that are not loaded, nearest first; and the request for some
  // of them.
  let needed = [];
  let request = null;
  let timer = null;
  let isReloading = false;

  const caution = h("div", { class: "caution", hidden: true, data: { testid: "caution" } });
  list.before(caution);
  const more = button("Show more", () => (now.next ? loadMore() : again()), { "data-testid": "more" });
  const loading = h("p", { class: "loading", hidden: true }, h("span", { class: "spinner" }), "Loading more");
  fill(tail, loading, more);

  function keep() {
    // Loading stops when the state has changed.
    if (now?.isLoaded) kept.set(now.key, { listing: now, place: grid.place() });
    while (kept.size > KEPT) kept.delete(kept.keys().next().value);
  }

  async function show(current) {
    const key = resultsKey(current);
    if (now?.key === key && (now.isLoaded || !now.problem)) {
      const wasHidden = isHidden(now);
      now.state = current;
      if (now.isLoaded && isHidden(now) !== wasHidden) {
        scrollTo(0, 0);
        display();
      } else if (now.isLoaded && !isHidden(now)) {
        refining.show(now);
      }
      return;
    }
    stop();
    const place = history.state?.place ?? null;
    const found = kept.get(key);
    if (found) {
      now = found.listing;
      Object.assign(now, { state: current, problem: null });
      kept.delete(key);
      scrollTo(0, 0);
      display(place ?? found.place);
      return;
    }
    now = makeListing(key, current);
    skeletons();
    scrollTo(0, 0);
    await begin(now, place);
  }

  function stop() {
    controller?.abort();
    refining.stop();
    request?.controller.abort();
    clearTimeout(timer);
    timer = null;
    needed = [];
    isReloading = false;
  }

  async function begin(which, place) {
    controller = new AbortController();
    try {
      await loadFirst(which, place, controller.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      which.problem = error;
    }
    if (which === now) display(place);
  }

  /** Load what is needed to show a listing: of a list, the counts and the part around a place. */
  async function loadFirst(which, place, signal, least = 0) {
    if (isSearch(which.state)) {
      do takePage(which, await find(which.state, which.next, signal));
      while (which.next && which.length < least);
    } else {
      which.hasMonths = hasMonths(which.state);
      which.headingOf = headingsOf(which.state, []);
      for (let attempt = 1; !(await loadList(which, place?.index ?? 0, signal)); attempt += 1) {
        if (attempt === ATTEMPTS) throw new ListChanged();
      }
    }
    which.isLoaded = true;
    which.problem = null;
  }

  /** Count a list and load the part around a position; false if it changed between the two. */
  async function loadList(which, index, signal) {
    const { months, total, through } = await countList(which.state, signal);
    if (which.hasMonths) which.count(which.state.sort === "date" ? months.reverse() : months, through);
    else which.count([{ month: null, count: total }], through);
    const middle = Math.min(index, total - 1);
    const near = ({ start, count }) => start + count > middle - FIRST / 4 && start < middle + (FIRST * 3) / 4;
    try {
      if (total) await loadBlocks(which, which.blocks.filter(near), signal);
      return true;
    } catch (error) {
      if (error instanceof ListChanged) return false;
      throw error;
    }
  }

  function takePage(which, page) {
    const isFirst = which.length === 0;
    Object.assign(which, { next: page.next, took: page.took, parts: page.parts, unread: page.unread });
    if (isFirst) {
      which.isMatched = page.matched || page.items.length === 0;
      which.headingOf = headingsOf(which.state, which.isMatched ? page.items : []);
    }
    which.append(page.items);
  }

  /** Load neighbouring blocks of a list. The results beside them, if loaded, come along, to see that nothing lies between. */
  async function loadBlocks(which, blocks, signal) {
    const { length } = which;
    const start = blocks[0].start;
    const end = blocks.at(-1).start + blocks.at(-1).count;
    const [before, after] = [which.at(start - 1), which.at(end)];
    const offset = before ? start - 1 : start;
    const limit = (after ? end + 1 : end) - offset;
    const items = await listFrom(which.state, { offset, limit, through: which.through }, signal);
    // Photographs were deleted here meanwhile: positions have changed.
    if (which.length !== length) return;
    const isBeside = (one, other) => !one || one.asset.id === other?.asset.id;
    if (items.length !== limit || !isBeside(before, items[0]) || !isBeside(after, items.at(-1))) throw new ListChanged();
    which.fill(start, items.slice(start - offset, end - offset));
  }

  function need(blocks, isFast) {
    needed = blocks;
    if (isFast) {
      clearTimeout(timer);
      timer = setTimeout(() => { timer = null; loadNeeded(); }, STILL_MS);
    } else if (timer === null) {
      loadNeeded();
    }
  }

  async function loadNeeded() {
    if (request) {
      if (!needed.some((block) => request.blocks.includes(block))) request.controller.abort();
      return;
    }
    if (!needed.length || !now?.isLoaded || now.problem || isReloading) return;
    const which = now;
    request = { blocks: withNeighbours(which, needed), controller: new AbortController() };
    try {
      await loadBlocks(which, request.blocks, request.controller.signal);
    } catch (error) {
      if (error instanceof ListChanged && which === now) reload();
      else if (error.name !== "AbortError") which.problem = error;
    }
    request = null;
    if (which !== now) {
      loadNeeded();
      return;
    }
    showTail();
    if (which.problem) {
      announce("Loading failed");
      grid.giveUp();
    } else {
      // It tells what is needed now.
      grid.update();
    }
  }

  /** The first of the blocks, with those beside it that are among them, as far as one request goes. */
  function withNeighbours(which, [first, ...others]) {
    const run = [first];
    let size = first.count;
    for (const block of others) {
      if (size + block.count > PART) break;
      const isNext = block.start === run.at(-1).start + run.at(-1).count;
      if (!isNext && block.start + block.count !== run[0].start) continue;
      if (isNext) run.push(block);
      else run.unshift(block);
      size += block.count;
    }
    return run;
  }

  // After a failure.
  function again() {
    now.problem = null;
    showTail();
    grid.update();
  }

  /** The next page of a search. */
  async function loadMore() {
    if (!now?.next || now.isLoading || isHidden(now)) return;
    const which = now;
    const hadFocus = document.activeElement === more;
    which.isLoading = true;
    loading.hidden = false;
    more.hidden = true;
    controller = new AbortController();
    try {
      takePage(which, await find(which.state, which.next, controller.signal));
      which.problem = null;
    } catch (error) {
      if (error.name !== "AbortError") which.problem = error;
    }
    which.isLoading = false;
    if (which !== now) return;
    showTail();
    if (hadFocus) more.focus();
    if (which.problem) return;
    grid.update();
    describe();
  }

  function display(place = null) {
    list.hidden = false;
    list.removeAttribute("aria-busy");
    grid.show(isHidden(now) || now.problem ? null : now, place);
    fill(notice, said(now));
    fill(caution, !now.problem && now.isLoaded && !now.isMatched && !isHidden(now) && cautionOf(now));
    caution.hidden = caution.childElementCount === 0;
    help.understood(now.problem ? [] : now.parts);
    help.wrong(now.problem);
    setNoticed(notice.childElementCount > 0);
    list.hidden = !notice.hidden;
    describe();
    showTail();
    if (now.isLoaded && !now.problem && !isHidden(now)) refining.show(now);
    help.displayed();
  }

  function setNoticed(isThere) {
    notice.hidden = !isThere;
    document.documentElement.classList.toggle("has-notice", isThere);
  }

  function showTail() {
    const isFailed = Boolean(now.problem) && now.isLoaded;
    loading.hidden = true;
    more.hidden = isHidden(now) || !(isFailed || (now.next && !now.problem));
    more.querySelector("span").textContent = isFailed ? "Loading failed: try again" : "Show more";
    tail.hidden = more.hidden;
    // A list may fail at any place of it.
    tail.classList.toggle("is-floating", isFailed && !now.next);
  }

  function skeletons() {
    fill(notice);
    caution.hidden = true;
    help.understood([]);
    help.wrong(null);
    setNoticed(false);
    list.hidden = false;
    grid.show(null);
    list.setAttribute("aria-busy", "true");
    list.replaceChildren(
      ...Array.from({ length: 18 }, (_, number) =>
        h("li", { class: "tile skeleton", "aria-hidden": "true", style: { "--ratio": String([1.5, 1.33, 0.75, 1.78, 1][number % 5]) } }),
      ),
    );
    summary.textContent = "Looking…";
    tail.hidden = true;
  }

  function describe() {
    const text = summaryOf(now);
    summary.textContent = text;
    announce(now.problem || (now.isMatched && !isUnread(now)) ? text : `${nothing(now)} ${isHidden(now) ? "" : text}`);
  }

  function said(which) {
    if (which.problem instanceof PictureMissing) {
      return notification("photo", "This link's picture is not in this browser",
        "A link can't contain the query picture. It stays in the browser that made the link.",
        button("Choose the picture", help.choosePicture, { class: "is-primary" }),
        button("Search without it", help.withoutPicture));
    }
    if (which.problem?.kind === "malformed-query" && !tooLong(which.state.q)) {
      return notification("alert", which.problem.message, which.problem.remedy || "", marked(which.state.q, which.problem), examples());
    }
    // Trying again would not help.
    if ([404, 422].includes(which.problem?.status)) return refusal(which);
    if (which.problem) {
      return notification("alert", which.problem.message || "Something went wrong", which.problem.remedy || "",
        button("Try again", retry, { class: "is-primary", "data-testid": "retry" }));
    }
    if (isHidden(which) || isUnread(which)) {
      const hasFilters = Object.keys(which.state.filters).length > 0 || which.parts.some((part) => part.field);
      const others = which.length ? "Try other words. The nearest photos probably show something else." : "Try other words.";
      return notification("search", nothing(which), hasFilters ? "Try other words, or fewer filters." : others,
        which.length > 0 && button("Show the nearest anyway", () => {
          go({ nearest: true });
          grid.focusFirst();
        }, { class: "is-primary", "data-testid": "show-nearest" }),
        !which.length && button("Clear the search", help.clearQuery, { class: "is-primary" }),
        hasFilters && Object.keys(which.state.filters).length > 0 && button("Remove all filters", help.clearFilters), examples());
    }
    if (which.length) return null;
    if (which.parts.some((part) => part.field)) {
      return notification("filter", "No photo matches the query", "Remove a part of it.",
        button("Clear the search", help.clearQuery, { class: "is-primary" }));
    }
    if (Object.keys(which.state.filters).length) {
      return notification("filter", "No photo matches these filters", "Remove one or all of them.",
        button("Remove all filters", help.clearFilters, { class: "is-primary" }),
        isSearch(which.state) && button("Clear the search", help.clearQuery));
    }
    if (which.state.view === "trash") return notification("trash", "The trash is empty", "Deleted photos stay here until you empty the trash. You can restore them.");
    if (isSearch(which.state) && info().counts?.assets !== 0) {
      return notification("search", nothing(which), "Try other words.", button("Clear the search", help.clearQuery, { class: "is-primary" }), examples());
    }
    if (isSearch(which.state)) {
      return notification("search", "Nothing is indexed yet",
        help.canWrite() ? "Upload photos first, or wait until indexing has begun." : "Nothing is in this library yet.",
        button("Clear the search", help.clearQuery, { class: "is-primary" }));
    }
    return notification("photo", "Your library is empty",
      help.canWrite() ? "Drop photos anywhere on this page, or choose them. To index a folder on the server, run:" : "Nothing is in this library yet.",
      help.canWrite() && h("code", { class: "command" }, "regard index FOLDER"),
      help.canWrite() && button("Upload photos", help.upload, { class: "is-primary", drawing: "upload" }));
  }

  /** What the service refuses to answer: its reason, and ways to ask for something else. */
  function refusal({ state: of, problem }) {
    const filters = Object.keys(of.filters).length;
    const remove = filters > 0 && button(filters > 1 ? "Remove all filters" : "Remove the filter", help.clearFilters, { class: "is-primary" });
    const clear = isSearch(of) && button("Clear the search", help.clearQuery, { class: "is-primary" });
    if (tooLong(of.q)) return notification("alert", tooLong(of.q), "", clear);
    if (problem.status === 404 && namesPhoto(of)) {
      return notification("photo", "The photo to compare with is not there", "It was deleted for good, or the link is wrong.", clear);
    }
    return notification("alert", isSearch(of) ? "This search can't be answered" : "The list can't be filtered like this",
      [problem.message, problem.remedy].filter(Boolean).join(" "), remove, clear);
  }

  const examples = () => button("Examples of queries", help.showExamples, { "data-testid": "examples" });

  const cautionOf = (which) => [
    icon("alert"), h("p", {}, `${nothing(which)} These are the nearest.`),
    wordsOf(which) !== "" && button("Hide them", () => {
      go({ nearest: false });
      notice.querySelector("button").focus();
    }, { class: "is-small", "data-testid": "hide-nearest" }),
  ];

  function retry() {
    now = makeListing(now.key, now.state);
    skeletons();
    begin(now, null);
  }

  async function reload() {
    kept.clear();
    if (!now || isReloading) return;
    const which = now;
    const place = grid.place();
    const fresh = makeListing(which.key, which.state);
    isReloading = true;
    controller?.abort();
    controller = new AbortController();
    try {
      await loadFirst(fresh, place, controller.signal, which.length);
    } catch (error) {
      if (error.name === "AbortError") return;
      fresh.problem = error;
    }
    if (which !== now) return;
    isReloading = false;
    now = fresh;
    now.state = which.state;
    const index = place?.id ? now.find(({ asset }) => asset.id === place.id) : -1;
    display(place && { ...place, index: index < 0 ? place.index : index });
  }

  return {
    show,
    /** Hide the results while another view is shown. */
    leave() {
      stop();
      grid.show(null);
      now = null;
      setNoticed(false);
      for (const each of [list, tail, caution]) each.hidden = true;
      help.understood([]);
      help.wrong(null);
    },
    /** Redraw notices once the permissions are known. */
    renew() {
      if (now && !notice.hidden) fill(notice, said(now));
    },
    /** Store the results and the scroll position before the next state moves the page. */
    keep,
    /** Load the current results again; what is visible stays where it is. */
    reload,
    /** Remove deleted photographs, here and in the cache. */
    remove(ids) {
      kept.clear();
      if (!now) return;
      grid.remove(() => now.remove(ids));
      if (!now.length && !now.next) display();
      else describe();
    },
    /** Redraw a changed photograph. */
    refresh(asset) {
      kept.clear();
      grid.refresh(asset);
    },
    /** What the grid asks for. */
    need,
    end: () => now && !now.problem && loadMore(),
    /** Remember the place in the browser's history. */
    settled: (place) => history.replaceState({ ...history.state, place }, ""),

    /** The position of the first loaded result for which `test` holds, or -1. */
    find: (test) => (now && !isHidden(now) ? now.find(test) : -1),
    /** The result at a position, if it is loaded. */
    at: (index) => now?.at(index),
    length: () => (now && !isHidden(now) ? now.length : 0),
    loaded: () => (now && !isHidden(now) ? now.loaded() : []),
    hasMore: () => Boolean(now?.next) && !isHidden(now),
    /** The total as far as it is known: "60", "337", "60+". */
    total: () => `${number(now?.length ?? 0)}${now?.next ? "+" : ""}`,
    /** The result at a position, loaded first if there is one. */
    async reach(index) {
      const which = now;
      if (!which || index < 0 || isHidden(which)) return undefined;
      if (index >= which.length) await loadMore();
      if (index < which.length && !which.at(index)) {
        await loadBlocks(which, [which.blockOf(index)], null).catch((error) => {
          if (error instanceof ListChanged) reload();
        });
        grid.update();
      }
      return which.at(index);
    },
    /** Find a photograph, or its stack, in a list and load the part around it, as far as dates tell where it is. Raises Problem. */
    async locate(asset) {
      const which = now;
      if (!which?.isLoaded || which.problem || isSearch(which.state)) return;
      if ((asset.state === "trashed") !== (which.state.view === "trash")) return;
      const near = which.blocks.filter(({ month }) => month === null || asset.dated_at?.startsWith(month));
      if (!near.length) return;
      const isIt = ({ asset: other }) => other.id === asset.id || (asset.stack && other.stack?.id === asset.stack.id);
      const [start, end] = [near[0].start, near.at(-1).start + near.at(-1).count];
      for (let at = start; at < Math.min(end, start + FARTHEST) && which === now; at += MANY) {
        const items = await listFrom(which.state, { offset: at, limit: Math.min(MANY, end - at), through: which.through });
        const index = items.findIndex(isIt);
        if (index >= 0 && which === now) {
          await this.reach(at + index);
          return;
        }
      }
    },
    /** The ids of the assets from one position up to another; what is not loaded is asked for. Raises Problem. */
    async ids(from, to) {
      const which = now;
      const found = [];
      for (let at = from; at < to; ) {
        const loaded = which.at(at);
        let end = at + 1;
        while (end < to && end < at + MANY && Boolean(which.at(end)) === Boolean(loaded)) end += 1;
        const items = loaded
          ? Array.from({ length: end - at }, (_, position) => which.at(at + position))
          : await listFrom(which.state, { offset: at, limit: end - at, through: which.through });
        found.push(...items.map(({ asset }) => asset.id));
        at = end;
      }
      return found;
    },
    state: () => now?.state ?? state(),
  };
}

// Poor matches are hidden until requested, except when searching by a picture.
const isHidden = (which) => !which.isMatched && !which.state.nearest && wordsOf(which) !== "";

/** Nothing was found, and the models can't read all the words. */
const isUnread = (which) => which.isLoaded && !which.length && which.unread.length > 0;

/** The query's text as written; for a composed query its wanted texts. */
function wordsOf({ state: of, parts }) {
  const texts = parts.filter((part) => part.text && !part.negative).map((part) => part.text);
  const hasPicture = of.like || of.picture || parts.some((part) => part.image || part.like);
  return texts.join(", ") || (hasPicture ? "" : of.q);
}

function nothing(which) {
  const words = wordsOf(which);
  const found = words ? `Nothing here matches ${quoted(words)}.` : "Nothing here is likely to show the same thing.";
  return which.unread?.length ? `${found} ${sentenceOf(which.unread)}` : found;
}

/** A text in quotation marks, cut if it is very long. */
function quoted(text) {
  const letters = [...text];
  return `“${letters.length > LONG ? `${letters.slice(0, LONG).join("")}…` : text}”`;
}

/** Says which words of the query the models can't read. */
const sentenceOf = (words) => `The models can't read ${words.map(quoted).join(", ")}: only titles, tags, descriptions, captions, names and text in photos were searched for ${words.length > 1 ? "them" : "it"}.`;

function summaryOf(which) {
  const { state: of, length, next, took, problem, isMatched, parts } = which;
  if (problem) return "";
  if (isHidden(which)) return "No match";
  if (!length) return isSearch(of) ? "No match" : "No photos";
  const count = tileCount(length, isSearch(of) ? of.target : "image");
  if (!isSearch(of) || isList(parts)) return next ? count.replace(" ", "+ ") : count;
  const seconds = took === null || took === undefined ? "" : ` · ${Math.max(1, Math.round(took))} ms`;
  const unread = which.unread?.length ? ` · without ${which.unread.map(quoted).join(", ")}` : "";
  return `${count.replace(" ", isMatched ? " closest " : " nearest ")}${unread}${seconds}`;
}
