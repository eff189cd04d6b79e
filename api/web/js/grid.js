// Lays tiles out, keeps them laid out when the width changes, and moves the focus between them by arrow keys.

import { h } from "./dom.js";
import { justify } from "./justified.js";
import { ratioOf, thumbnailFor, tile } from "./tile.js";
import { makeWhyCard } from "./whycard.js";

const GAP = 6;

/** A grid in a <ul>; `actions` go to the tiles, `isSelected` tells by asset id. */
export function makeGrid(list, actions, isSelected) {
  let tiles = [];
  let shownFor = null;
  let headingOf = () => null;
  const whyCard = makeWhyCard(list, (element) => tiles.find((each) => each.element === element)?.result);

  const targetHeight = () => (innerWidth < 560 ? 124 : innerWidth < 1000 ? 176 : 220);

  function layOut(from = 0) {
    // Never rounded up, as clientWidth is: a row that is wider than its place by part of a pixel breaks.
    const width = Math.floor(list.getBoundingClientRect().width);
    if (!width) return;
    const sizes = [];
    for (let start = 0, end = 0; start < tiles.length; start = end) {
      while (tiles[end]?.heading === tiles[start].heading && end < tiles.length) end += 1;
      sizes.push(...justify(tiles.slice(start, end).map((each) => each.ratio), width, targetHeight(), GAP));
    }
    tiles.forEach((each, position) => {
      const size = sizes[position];
      each.element.style.width = `${size.width}px`;
      each.element.style.height = `${size.height}px`;
      if (position < from || each.image.hasAttribute("src")) return;
      const thumbnail = thumbnailFor(each.result, shownFor.target, size);
      if (thumbnail === null) return;
      each.image.loading = "lazy";
      each.image.src = thumbnail;
    });
  }

  let width = 0;
  new ResizeObserver(() => {
    if (list.clientWidth === width) return;
    width = list.clientWidth;
    layOut();
  }).observe(list);

  list.addEventListener("keydown", (event) => {
    const link = event.target.closest?.(".tile-link");
    if (!link || event.metaKey || event.ctrlKey || event.altKey) return;
    const position = tiles.findIndex((each) => each.element.contains(link));
    const result = tiles[position]?.result;
    const to = { ArrowRight: position + 1, ArrowLeft: position - 1, Home: 0, End: tiles.length - 1 }[event.key]
      ?? (event.key === "ArrowDown" ? beside(position, 1) : event.key === "ArrowUp" ? beside(position, -1) : null);
    if (to !== null) {
      event.preventDefault();
      focusOn(to);
    } else if (event.key === "x" && result) {
      event.preventDefault();
      actions.toggle(result, event);
    } else if (event.key === "m" && result?.asset.state === "indexed") {
      event.preventDefault();
      actions.similar(result, event);
    }
  });

  // The tile of the row above or below whose middle is nearest.
  function beside(position, step) {
    const here = tiles[position].element;
    const middle = here.offsetLeft + here.offsetWidth / 2;
    let best = null;
    let row = null;
    for (let other = position + step; other >= 0 && other < tiles.length; other += step) {
      const { offsetTop, offsetLeft, offsetWidth } = tiles[other].element;
      if (offsetTop === here.offsetTop) continue;
      row ??= offsetTop;
      if (offsetTop !== row) break;
      const distance = Math.abs(offsetLeft + offsetWidth / 2 - middle);
      if (best === null || distance < best.distance) best = { other, distance };
    }
    return best?.other ?? position;
  }

  function focusOn(position) {
    const link = tiles[position]?.element.querySelector(".tile-link");
    link?.focus({ preventScroll: true });
    link?.scrollIntoView({ block: "nearest" });
    return Boolean(link);
  }

  return {
    /** Show these results instead of what is there, each under the heading that `of(result, position)` gives it. */
    show(results, state, of) {
      shownFor = state;
      headingOf = of;
      tiles = [];
      whyCard.close();
      list.replaceChildren();
      this.append(results);
    },

    /** Show further results after those that are there; nothing that is seen moves. */
    append(results) {
      const from = tiles.length;
      const made = results.map((result, position) => ({
        result,
        ratio: ratioOf(result, shownFor.target),
        heading: headingOf(result, from + position),
        ...tile(result, shownFor, actions, isSelected(result.asset.id)),
      }));
      tiles = [...tiles, ...made];
      list.append(...made.flatMap(({ heading, element }, position) => {
        const isNew = heading !== null && heading !== tiles[from + position - 1]?.heading;
        return isNew ? [h("li", { class: "grid-heading" }, h("h2", {}, heading)), element] : [element];
      }));
      layOut(from);
    },

    /** Show a photograph's tiles anew after it changed. */
    refresh(asset) {
      for (const each of tiles) {
        if (each.result.asset.id !== asset.id) continue;
        const had = each.element.contains(document.activeElement);
        each.result.asset = { ...each.result.asset, ...asset };
        each.ratio = ratioOf(each.result, shownFor.target);
        const made = tile(each.result, shownFor, actions, isSelected(asset.id));
        each.element.replaceWith(made.element);
        Object.assign(each, made);
        if (had) each.element.querySelector(".tile-link").focus({ preventScroll: true });
      }
      layOut();
    },

    /** Take photographs out; the focus goes to their neighbour. */
    remove(ids) {
      const position = tiles.findIndex((each) => each.element.contains(document.activeElement));
      for (const each of tiles) if (ids.has(each.result.asset.id)) each.element.remove();
      tiles = tiles.filter((each) => !ids.has(each.result.asset.id));
      for (const heading of list.querySelectorAll(".grid-heading")) {
        if (!heading.nextElementSibling?.classList.contains("tile")) heading.remove();
      }
      layOut();
      if (position >= 0 && !list.contains(document.activeElement)) focusOn(Math.min(position, tiles.length - 1));
    },

    /** Show which are selected. */
    markSelected(isSelecting) {
      list.classList.toggle("is-selecting", isSelecting);
      for (const { element, result } of tiles) {
        const selected = isSelected(result.asset.id);
        element.classList.toggle("is-selected", selected);
        const check = element.querySelector(".tile-check");
        check.setAttribute("aria-pressed", String(selected));
        check.tabIndex = isSelecting ? 0 : -1;
      }
    },

    /** Focus a photograph's tile; whether there is one. */
    focus(asset) {
      return focusOn(tiles.findIndex((each) => each.result.asset.id === asset));
    },

    results: () => tiles.map((each) => each.result),
    focusFirst: () => focusOn(0),
  };
}
