// Loads what the state asks for, page by page as one scrolls, and says so when there is nothing or something failed.
// Earlier results are kept, so that back and forward are at once where they were.

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
  // Where the end is now tells; several changes may come at once, the last of which counts.
  new IntersectionObserver(() => moreIfNear(), { rootMargin: `${AHEAD}px` }).observe(sentinel);

  // The observer tells only of changes: a page that leaves the end in sight has to be followed by another.
  function moreIfNear() {
    if (!now || now.problem || tail.hidden) return;
    if (sentinel.getBoundingClientRect().top < innerHeight + AHEAD) loadMore();
  }

  function keep() {
    // What was under way when one left does not go on.
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
      // Else another load took over.
      if (mine === controller) {
        which.isLoading = false;
        showTail();
        requestAnimationFrame(moreIfNear);
      }
    }
  }

  // A list tells how many it holds only at its end; of the whole library the service knows.
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
    more.querySelector("span").textContent = isFailed ? "Loading more failed: try again" : "Show more";
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
      return notification("photo", "The picture of this link is not here",
        "A link can't hold the picture that was searched by; it stays in the browser that made the link.",
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
        hasFilters ? "Try other words, or fewer filters." : "Try other words. What comes nearest is probably something else.",
        button("Show the nearest anyway", () => {
          go({ nearest: true });
          grid.focusFirst();
        }, { class: "is-primary", "data-testid": "show-nearest" }),
        hasFilters && Object.keys(which.state.filters).length > 0 && button("Remove all filters", help.clearFilters), examples());
    }
    if (which.items.length) return null;
    if (which.parts.some((part) => part.field)) {
      return notification("filter", "No photo passes what the query says", "Take a part of it away.",
        button("Clear the search", help.clearQuery, { class: "is-primary" }));
    }
    if (Object.keys(which.state.filters).length) {
      return notification("filter", "No photo passes these filters", "Take one away, or all of them.",
        button("Remove all filters", help.clearFilters, { class: "is-primary" }),
        isSearch(which.state) && button("Clear the search", help.clearQuery));
    }
    if (which.state.view === "trash") return notification("trash", "The trash is empty", "What you delete lies here until the trash is emptied, and can be restored.");
    if (isSearch(which.state)) {
      return notification("search", "Nothing is indexed that could match",
        help.canWrite() ? "Upload photos first, or wait until indexing has begun." : "Nothing is in this library yet.",
        button("Clear the search", help.clearQuery, { class: "is-primary" }));
    }
    return notification("photo", "Your library is empty",
      help.canWrite() ? "Drop photos anywhere on this page, or choose them. A folder that lies on the server is indexed by:" : "Nothing is in this library yet.",
      help.canWrite() && h("code", { class: "command" }, "regard index FOLDER"),
      help.canWrite() && button("Upload photos", help.upload, { class: "is-primary", drawing: "upload" }));
  }

  const examples = () => button("What one can write", help.showExamples, { "data-testid": "examples" });

  const cautionOf = (which) => [
    icon("alert"), h("p", {}, `${nothing(which)} These come nearest.`),
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
    /** Show nothing: another view has the page. */
    leave() {
      controller?.abort();
      now = null;
      setNoticed(false);
      for (const each of [list, tail, caution]) each.hidden = true;
      help.understood([]);
      help.wrong(null);
    },
    /** Say anew what there is to say: what one may do is known now. */
    renew() {
      if (now && !notice.hidden) fill(notice, said(now));
    },
    /** Remember what is shown and where; before anything of the next state moves the page. */
    keep,
    /** Load the present results anew, as many as there were, without moving the page. */
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
    /** Forget photographs that went away, here and in what is kept. */
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
    /** Show a change of a photograph. */
    refresh(asset) {
      kept.clear();
      grid.refresh(asset);
    },
    items: () => (now && !isHidden(now) ? now.items : []),
    hasMore: () => Boolean(now?.next) && !isHidden(now),
    /** How many there are in all, as far as that is known: "60", "337", "60+". */
    total: () => (now?.total && now.next ? number(now.total) : `${number(now?.items.length ?? 0)}${now?.next ? "+" : ""}`),
    /** Load a further page, for whoever walks past the end; whether there was one. */
    async advance() {
      if (!now?.next || isHidden(now)) return false;
      const before = now.items.length;
      await loadMore();
      return now.items.length > before;
    },
    state: () => now?.state ?? state(),
  };
}

// Bad matches are shown to those alone who asked for them; who searches by a picture asks for what comes nearest.
const isHidden = (which) => !which.isMatched && !which.state.nearest && wordsOf(which) !== "";

/** What was asked for in words, as people wrote it; of a composed query the texts that are wanted. */
function wordsOf({ state: of, parts }) {
  const texts = parts.filter((part) => part.text && !part.negative).map((part) => part.text);
  const hasPicture = of.like || of.picture || parts.some((part) => part.image || part.like);
  return texts.join(", ") || (hasPicture ? "" : of.q);
}

function nothing(which) {
  const words = wordsOf(which);
  return words ? `Nothing here matches “${words}”.` : "Nothing here is likely to show the same thing.";
}

function summaryOf(which) {
  const { state: of, items, next, total, took, problem, isMatched, parts } = which;
  if (problem) return "";
  if (isHidden(which)) return "No match";
  if (!items.length) return isSearch(of) ? "No match" : "No photos";
  const count = tileCount(next && total ? Math.max(total, items.length) : items.length, isSearch(of) ? of.target : "image");
  if (!isSearch(of) || isList(parts)) return next && !total ? count.replace(" ", "+ ") : count;
  const seconds = took === null || took === undefined ? "" : ` · ${Math.max(1, Math.round(took))} ms`;
  return `${count.replace(" ", isMatched ? " closest " : " nearest ")}${seconds}`;
}
