// The heading of a result: its month in a list by date; in a search, whether it is among the
// likely hits.

import { month } from "./format.js";
import { isSearch } from "./state.js";
import { POSSIBLE } from "./why.js";

const UNLIKELY = "Less likely";

/**
 * `headingOf(result, position)` for a list that begins with `items`: a heading, or null for
 * none.
 */
export function headingsOf(state, items) {
  if (isSearch(state)) {
    // If anything matches, the best hit counts as likely whatever its relevance, and so do
    // hits close to it. Relevance does not decrease strictly, so the last likely hit ends the
    // first section.
    const least = Math.min(POSSIBLE, Math.max(...items.map(({ relevance }) => relevance ?? NaN)) / 2);
    const likely = items.findLastIndex(({ relevance }) => relevance >= least) + 1;
    return (_, position) => (likely > 0 && position >= likely ? UNLIKELY : null);
  }
  if (!hasMonths(state)) return () => null;
  const heading = ({ dated_at: date, taken_precision: known }) => month(date.slice(0, known === "year" ? 4 : 7));
  return ({ asset }) => (asset.dated_at ? heading(asset) : null);
}

/** Whether the results of a state are a list with a heading for each month. */
export const hasMonths = (state) => !isSearch(state) && state.view === "library" && ["date", "-date"].includes(state.sort);
