// A photograph's rating: five stars to choose from, or words for those who may not change it.

import { announce, fill, h, icon } from "./dom.js";
import { plural } from "./format.js";

/** A rating in words. */
export const starred = (rating) => (rating > 0 ? plural(rating, "star") : "No stars");

/**
 * The stars; `change(rating)` stores a rating of 0 (none) to 5, and `onProblem` receives its Problem if that fails.
 * Null if there is nothing to tell.
 */
export function makeRating({ rating, canEdit, change, onProblem }) {
  let given = rating ?? 0;
  if (!canEdit) return given ? h("p", { data: { testid: "rating" } }, given < 0 ? "Rejected" : `${given} of 5`) : null;
  const note = h("span", { class: "hint" });
  const stars = [1, 2, 3, 4, 5].map((count) => h("button", {
    type: "button", class: "icon-button star", value: String(count), "aria-label": starred(count), title: `${starred(count)} (${count})`,
    data: { testid: "star" }, on: { click: () => store(count === given ? 0 : count) },
  }));

  async function store(next) {
    const before = given;
    given = next;
    draw();
    try {
      await change(next);
      announce(starred(next));
    } catch (problem) {
      given = before;
      draw();
      onProblem(problem);
    }
  }

  function draw() {
    stars.forEach((star, place) => {
      fill(star, icon(place < given ? "star-full" : "star"));
      star.classList.toggle("is-given", place < given);
      star.setAttribute("aria-pressed", String(place + 1 === given));
    });
    note.hidden = given >= 0;
    fill(note, "Rejected");
  }

  draw();
  return h("div", { class: "rating", role: "group", "aria-label": "Rating", data: { testid: "rating" } }, stars, note);
}
