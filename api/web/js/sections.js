// Under which heading a result stands: in a list by date its month; among the answers to a search, whether any more of
// them are likely right.

import { month } from "./format.js";
import { isSearch } from "./state.js";
import { isLikely } from "./why.js";

const UNLIKELY = "Less likely";

/** `headingOf(result, position)` of a list that begins with `items`: words, or null for none. */
export function headingsOf(state, items) {
  if (isSearch(state)) {
    // Relevance does not fall strictly from hit to hit: the last likely one ends the first section.
    const likely = items.findLastIndex(isLikely) + 1;
    return (_, position) => (likely > 0 && position >= likely ? UNLIKELY : null);
  }
  if (state.view !== "library" || !["date", "-date"].includes(state.sort)) return () => null;
  return ({ asset }) => (asset.dated_at ? month(asset.dated_at.slice(0, 7)) : null);
}
