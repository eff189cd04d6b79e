// The outline of a region: its box, then the edge of its mask once that is loaded.

import * as api from "./api.js";
import { drawing } from "./dom.js";

/** Replace the box that an element shows by the edge of the region's mask; a refined one brings it along. */
export async function traceMask(element, region) {
  const path = region.outline ?? (await api.outline(region));
  if (!path) return;
  // Paths are in half pixels; the first one is the shade around the line.
  const box = region.bbox.map((side) => 2 * side);
  element.replaceChildren(drawing("region-edge", box, [path, path]));
  element.classList.add("is-traced");
}
