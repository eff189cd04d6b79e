// Under which heading a result stands: in a list by date its month; among the answers to a search, whether any more of
// them are likely right.

import { month } from "./format.js";
import { isSearch } from "./state.js";
import { POSSIBLE } from "./why.js";

const UNLIKELY = "Less likely";

/** `headingOf(result, position)` of a list that begins with `items`: words, or null for none. */
export function headingsOf(state, items) {
  if (isSearch(state)) {
    // Where something matches, the best hit is likely, however low its figure, and what comes near it. Relevance does
    // not fall strictly from hit to hit: the last likely one ends the first section.
    const least = Math.min(POSSIBLE, Math.max(...items.map(({ relevance }) => relevance ?? NaN)) / 2);
    const likely = items.findLastIndex(({ relevance }) => relevance >= least) + 1;
    return (_, position) => (likely > 0 && position >= likely ? UNLIKELY : null);
  }
  if (state.view !== "library" || !["date", "-date"].includes(state.sort)) return () => null;
  return ({ asset }) => (asset.dated_at ? month(asset.dated_at.slice(0, 7)) : null);
}
