// Loads the results of the state, page by page on scroll, and shows a notice if there are none
// or if something failed. Earlier results are cached, so back and forward restore them at
// once.

import * as api from "./api.js";
import { announce, button, fill, h, icon } from "./dom.js";
import { find, PictureMissing } from "./finding.js";
import { number } from "./format.js";
import { notification } from "./notice.js";
import { headingsOf } from "./sections.js";
import { go, isSearch, resultsKey, state } from "./state.js";
import { tileCount } from "./tile.js";
import { isList, marked } from "./written.js";

const KEPT = 12;
const AHEAD = 900;

/**
 * The results in `grid`, with notices in `notice` and the end of the list in `tail`. `help` are what the notices
 * offer: {clearFilters, clearQuery, choosePicture, showExamples, upload, canWrite}, and who is told of the query: {understood(parts),
 * wrong(problem)}.
 */
export function makeResults({ grid, list, notice, tail, summary, help }) {
  const kept = new Map();
  let now = null;
  let controller = null;

  const caution = h("div", { class: "caution", hidden: true, data: { testid: "caution" } });
  list.before(caution);
  const more = button("Show more", () => loadMore(), { "data-testid": "more" });
  const sentinel = h("div", { class: "sentinel", "aria-hidden": "true" });
  const loading = h("p", { class: "loading", hidden: true }, h("span", { class: "spinner" }), "Loading more");
  fill(tail, sentinel, loading, more);
  // Several changes may arrive at once; the last one tells where the end is now.
  new IntersectionObserver(() => moreIfNear(), { rootMargin: `${AHEAD}px` }).observe(sentinel);

  // The observer reports changes only, so load another page if the end is still visible.
  function moreIfNear() {
    if (!now || now.problem || tail.hidden) return;
    if (sentinel.getBoundingClientRect().top < innerHeight + AHEAD) loadMore();
  }

  function keep() {
    // Loading stops when the state has changed.
    if (now?.isLoaded) kept.set(now.key, { ...now, isLoading: false, scroll: scrollY });
    while (kept.size > KEPT) kept.delete(kept.keys().next().value);
  }

  async function show(current) {
    const key = resultsKey(current);
    if (now?.key === key && !now.problem) {
      const wasHidden = isHidden(now);
      now.state = current;
      if (now.isLoaded && isHidden(now) !== wasHidden) {
        display();
        scrollTo(0, 0);
        requestAnimationFrame(moreIfNear);
      }
      return;
    }
    controller?.abort();
    const found = kept.get(key);
    if (found) {
      now = found;
      now.state = current;
      kept.delete(key);
      display();
      scrollTo(0, now.scroll);
      return;
    }
    now = { key, state: current, items: [], next: null, total: null, parts: [], isLoaded: false, problem: null, isMatched: true };
    skeletons();
    scrollTo(0, 0);
    await load(now, null);
  }

  async function load(which, cursor) {
    controller?.abort();
    const mine = new AbortController();
    controller = mine;
    which.isLoading = true;
    try {
      const page = await find(which.state, cursor, mine.signal);
      const isFirst = cursor === null;
      which.items = isFirst ? page.items : [...which.items, ...page.items];
      which.next = page.next;
      which.took = page.took ?? which.took;
      which.parts = page.parts;
      which.unread = page.unread;
      if (isFirst) {
        which.isMatched = page.matched || page.items.length === 0;
        which.headingOf = headingsOf(which.state, which.isMatched ? page.items : []);
        count(which);
      }
      which.isLoaded = true;
      which.problem = null;
      if (which !== now) return;
      if (isFirst) display();
      else {
        grid.append(page.items);
        describe();
      }
    } catch (error) {
      if (error.name === "AbortError" || which !== now) return;
      which.problem = error;
      if (cursor === null) display();
      else showTail();
    } finally {
      // Otherwise another load took over.
      if (mine === controller) {
        which.isLoading = false;
        showTail();
        requestAnimationFrame(moreIfNear);
      }
    }
  }

  // The length of a list is known at its end; for the whole library the service knows it.
  async function count(which) {
    which.total = null;
    if (!which.next || isSearch(which.state) || which.state.view !== "library" || Object.keys(which.state.filters).length) return;
    const { counts } = await api.info().catch(() => ({ counts: { assets: null } }));
    which.total = counts.assets;
    if (which === now && which.isLoaded && !which.problem) summary.textContent = summaryOf(which);
  }

  async function loadMore() {
    if (!now?.next || now.isLoading || isHidden(now)) return;
    loading.hidden = false;
    more.hidden = true;
    const which = now;
    const hadFocus = document.activeElement === more;
    await load(which, which.next);
    if (hadFocus && which === now) more.focus();
  }

  function display() {
    list.hidden = false;
    list.removeAttribute("aria-busy");
    grid.show(isHidden(now) || now.problem ? [] : now.items, now.state, now.headingOf);
    fill(notice, said(now));
    fill(caution, !now.problem && now.isLoaded && !now.isMatched && !isHidden(now) && cautionOf(now));
    caution.hidden = caution.childElementCount === 0;
    help.understood(now.problem ? [] : now.parts);
    help.wrong(now.problem?.kind === "malformed-query" ? now.problem : null);
    setNoticed(notice.childElementCount > 0);
    list.hidden = !notice.hidden;
    describe();
    showTail();
  }

  function setNoticed(isThere) {
    notice.hidden = !isThere;
    document.documentElement.classList.toggle("has-notice", isThere);
  }

  function showTail() {
    const isFailed = now.problem && now.isLoaded;
    loading.hidden = true;
    more.hidden = !now.next || isHidden(now) || (Boolean(now.problem) && !now.isLoaded);
    more.querySelector("span").textContent = isFailed ? "Loading failed: try again" : "Show more";
    tail.hidden = more.hidden && loading.hidden;
  }

  function skeletons() {
    fill(notice);
    caution.hidden = true;
    help.understood([]);
    help.wrong(null);
    setNoticed(false);
    list.hidden = false;
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
    announce(now.problem || now.isMatched ? text : `${nothing(now)} ${isHidden(now) ? "" : text}`);
  }

  function said(which) {
    if (which.problem instanceof PictureMissing) {
      return notification("photo", "This link's picture is not in this browser",
        "A link can't contain the query picture. It stays in the browser that made the link.",
        button("Choose the picture", help.choosePicture, { class: "is-primary" }),
        button("Search without it", help.withoutPicture));
    }
    if (which.problem?.kind === "malformed-query") {
      return notification("alert", which.problem.message, which.problem.remedy || "", marked(which.state.q, which.problem), examples());
    }
    if (which.problem) {
      return notification("alert", which.problem.message || "Something went wrong", which.problem.remedy || "",
        button("Try again", retry, { class: "is-primary", "data-testid": "retry" }));
    }
    if (isHidden(which)) {
      const hasFilters = Object.keys(which.state.filters).length > 0 || which.parts.some((part) => part.field);
      return notification("search", nothing(which),
        hasFilters ? "Try other words, or fewer filters." : "Try other words. The nearest photos probably show something else.",
        button("Show the nearest anyway", () => {
          go({ nearest: true });
          grid.focusFirst();
        }, { class: "is-primary", "data-testid": "show-nearest" }),
        hasFilters && Object.keys(which.state.filters).length > 0 && button("Remove all filters", help.clearFilters), examples());
    }
    if (which.items.length) return null;
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

  const examples = () => button("Examples of queries", help.showExamples, { "data-testid": "examples" });

  const cautionOf = (which) => [
    icon("alert"), h("p", {}, `${nothing(which)} These are the nearest.`),
    wordsOf(which) !== "" && button("Hide them", () => {
      go({ nearest: false });
      notice.querySelector("button").focus();
    }, { class: "is-small", "data-testid": "hide-nearest" }),
  ];

  function retry() {
    kept.delete(now.key);
    const which = now;
    which.problem = null;
    skeletons();
    load(which, null);
  }

  return {
    show,
    /** Hide the results while another view is shown. */
    leave() {
      controller?.abort();
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
    /** Reload the current results, as many as before, without scrolling. */
    async reload() {
      kept.clear();
      if (!now) return;
      const which = now;
      const count = which.items.length;
      const scroll = scrollY;
      await load(which, null);
      while (which === now && which.next && !which.problem && which.items.length < count) await load(which, which.next);
      if (which === now) scrollTo(0, scroll);
    },
    /** Remove deleted photographs, here and in the cache. */
    remove(ids) {
      kept.clear();
      if (!now) return;
      const before = now.items.length;
      now.items = now.items.filter((item) => !ids.has(item.asset.id));
      if (now.total) now.total -= before - now.items.length;
      grid.remove(ids);
      if (!now.items.length && !now.next) display();
      else describe();
    },
    /** Redraw a changed photograph. */
    refresh(asset) {
      kept.clear();
      grid.refresh(asset);
    },
    items: () => (now && !isHidden(now) ? now.items : []),
    hasMore: () => Boolean(now?.next) && !isHidden(now),
    /** The total as far as it is known: "60", "337", "60+". */
    total: () => (now?.total && now.next ? number(now.total) : `${number(now?.items.length ?? 0)}${now?.next ? "+" : ""}`),
    /** Load another page; returns whether there was one. */
    async advance() {
      if (!now?.next || isHidden(now)) return false;
      const before = now.items.length;
      await loadMore();
      return now.items.length > before;
    },
    state: () => now?.state ?? state(),
  };
}

// Poor matches are hidden until requested, except when searching by a picture.
const isHidden = (which) => !which.isMatched && !which.state.nearest && wordsOf(which) !== "";

/** The query's text as written; for a composed query its wanted texts. */
function wordsOf({ state: of, parts }) {
  const texts = parts.filter((part) => part.text && !part.negative).map((part) => part.text);
  const hasPicture = of.like || of.picture || parts.some((part) => part.image || part.like);
  return texts.join(", ") || (hasPicture ? "" : of.q);
}

function nothing(which) {
  const words = wordsOf(which);
  const found = words ? `Nothing here matches “${words}”.` : "Nothing here is likely to show the same thing.";
  return which.unread?.length ? `${found} ${sentenceOf(which.unread)}` : found;
}

/** Says which words of the query the models can't read. */
const sentenceOf = (words) => `The models can't read ${words.map((word) => `“${word}”`).join(", ")}: only titles, tags, captions and names were searched for it.`;

function summaryOf(which) {
  const { state: of, items, next, total, took, problem, isMatched, parts } = which;
  if (problem) return "";
  if (isHidden(which)) return "No match";
  if (!items.length) return isSearch(of) ? "No match" : "No photos";
  const count = tileCount(next && total ? Math.max(total, items.length) : items.length, isSearch(of) ? of.target : "image");
  if (!isSearch(of) || isList(parts)) return next && !total ? count.replace(" ", "+ ") : count;
  const seconds = took === null || took === undefined ? "" : ` · ${Math.max(1, Math.round(took))} ms`;
  const unread = which.unread?.length ? ` · without ${which.unread.map((word) => `“${word}”`).join(", ")}` : "";
  return `${count.replace(" ", isMatched ? " closest " : " nearest ")}${unread}${seconds}`;
}
