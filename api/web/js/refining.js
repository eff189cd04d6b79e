// Refines the first results of a search: the plain answer is shown, and the places of what the query
// names follow a few at a time, because the service may take seconds for each.

import { announce } from "./dom.js";
import { find } from "./finding.js";
import { info } from "./session.js";
import { isSearch } from "./state.js";
import { toastProblem } from "./toast.js";

const MOST = 20;
const AT_ONCE = 4;

/** Whether the service can look for what the state's query names. */
export const canRefine = (state) => Boolean(info().refines && isSearch(state) && state.q);

/** Refining of the results in `grid`; `onBusy(isBusy)` is told while places are looked for. */
export function makeRefining(grid, onBusy) {
  let controller = null;

  function stop() {
    controller?.abort();
    controller = null;
    onBusy(false);
  }

  function change(which, result, refined) {
    result.refined = refined;
    grid.refresh(result.asset);
  }

  async function run(which) {
    controller = new AbortController();
    const { signal } = controller;
    onBusy(true);
    let cursor = null;
    try {
      do {
        const page = await find(which.state, cursor, signal, { limit: AT_ONCE, refine: true });
        for (const { asset, region, refined } of page.items) {
          const isSame = (item) => item.asset.id === asset.id && item.region?.id === region?.id;
          const index = refined ? which.find(isSame) : -1;
          if (index >= 0) change(which, which.at(index), refined);
        }
        cursor = (page.items.at(-1)?.rank ?? MOST) < MOST ? page.next : null;
      } while (cursor);
      which.isRefined = true;
      announce("The places are found");
    } catch (error) {
      if (error.name === "AbortError") return;
      toastProblem(error);
    }
    onBusy(false);
  }

  return {
    stop,
    /** Make a shown listing as its state asks: with the places of what the query names, or without. */
    show(which) {
      stop();
      const isWanted = which.state.refine && canRefine(which.state) && which.length > 0;
      if (isWanted && !which.isRefined) run(which);
      if (isWanted) return;
      which.isRefined = false;
      for (const result of which.loaded()) if (result.refined) change(which, result, null);
    },
  };
}
