// Lays out the tiles, again when the width changes, and moves the focus between them with the
// arrow keys.

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
    // Not clientWidth, which may round up: a row that is too wide by a fraction of a pixel
    // wraps.
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

  // The nearest tile in the row above or below, by its middle.
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
    /** Replace the results, each under the heading given by `of(result, position)`. */
    show(results, state, of) {
      shownFor = state;
      headingOf = of;
      tiles = [];
      whyCard.close();
      list.replaceChildren();
      this.append(results);
    },

    /** Append results without moving visible ones. */
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

    /** Redraw a photograph's tiles after a change. */
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

    /** Remove photographs; the focus goes to a neighbour. */
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

    /** Update the marks of selected tiles. */
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

    /** Focus a photograph's tile; returns whether there is one. */
    focus(asset) {
      return focusOn(tiles.findIndex((each) => each.result.asset.id === asset));
    },

    results: () => tiles.map((each) => each.result),
    focusFirst: () => focusOn(0),
  };
}
