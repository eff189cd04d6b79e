// While jobs run, new photographs are not in the grid. A button shows their number and loads
// them.

import * as api from "./api.js";
import { button, fill } from "./dom.js";
import { number } from "./format.js";

const WAIT_MS = 1500;

/** The button in `place`; `show()` reloads the results. */
export function makeFresh(place, show) {
  let known = null;
  let timer = null;

  async function count() {
    const { counts } = await api.info();
    return counts.assets;
  }

  async function look() {
    timer = null;
    try {
      const now = await count();
      known ??= now;
      draw(Math.max(0, now - known));
    } catch {
      // The results report any problem; the count need not.
    }
  }

  function draw(fresh) {
    place.hidden = fresh === 0;
    if (fresh) {
      fill(place, button(`${number(fresh)} new: show`, async () => {
        await this_.reset();
        show();
      }, { class: "is-primary fresh-button", drawing: "refresh", "data-testid": "fresh" }));
    }
  }

  const this_ = {
    /** Something was indexed. */
    poke() {
      timer ??= setTimeout(look, WAIT_MS);
    },
    /** The grid is now up to date. */
    async reset() {
      draw(0);
      try {
        known = await count();
      } catch {
        known = null;
      }
    },
  };
  return this_;
}
