// The query picture, and the box on it that searches by a part. Drag it with a pointer; on the
// keyboard the arrow keys move it, Shift and arrow keys resize it, and four fields take
// numbers.

import { button, fill, h } from "./dom.js";
import { onKeys } from "./keys.js";
import { pictureOf } from "./pictures.js";
import { go, state } from "./state.js";

const SMALLEST = 8;
const WAIT_MS = 450;
// On a narrow screen the results come before the numbers.
const NARROW = 700;

/** Show the state's picture in `place`, if there is one. */
export function makeBox(place) {
  let shown = null;
  let natural = [1, 1];
  let timer = null;

  const image = h("img", { alt: "", draggable: "false" });
  const frame = h("div", { class: "query-box", hidden: true, data: { testid: "box" } });
  const stage = h(
    "div",
    {
      class: "query-stage", tabindex: "0", role: "group", "aria-describedby": "box-hint", data: { testid: "box-stage" },
      on: { pointerdown: press },
    },
    image, frame,
  );
  const fields = ["Left", "Top", "Width", "Height"].map((label, position) => {
    const input = h("input", {
      type: "number", inputmode: "numeric", min: position < 2 ? "0" : "1", step: "1", data: { testid: `box-${label.toLowerCase()}` },
      on: { change: () => typed() },
    });
    return { label: h("label", {}, h("span", {}, label), input), input };
  });
  const whole = button("Whole picture", () => commit(null), { class: "is-small", "data-testid": "box-clear" });
  const name = h("h2", { class: "query-name" });
  const hint = h("p", { id: "box-hint", class: "hint" });
  fill(place, stage, h(
    "div", { class: "query-side" }, name, hint,
    h("details", { class: "box-numbers", open: innerWidth > NARROW }, h("summary", {}, "Part of the picture, in pixels"),
      h("div", { class: "box-fields", role: "group", "aria-label": "Part of the picture, in pixels" }, fields.map((field) => field.label))),
    h("div", { class: "query-actions" }, whole, button("Remove", () => go({ picture: "" }), { class: "is-small", "aria-label": "Remove the picture", "data-testid": "picture-remove" })),
  ));

  image.addEventListener("load", () => {
    natural = [image.naturalWidth, image.naturalHeight];
    stage.classList.remove("is-unseen");
    draw(state().box);
  });
  image.addEventListener("error", () => {
    // The server may read a format that this browser cannot show.
    stage.classList.add("is-unseen");
    hint.textContent = "This browser can't show the picture. The search uses all of it.";
  });

  function draw(box) {
    frame.hidden = !box;
    whole.disabled = !box;
    if (box) {
      const [x, y, w, h] = box;
      const [wide, high] = natural;
      Object.assign(frame.style, {
        left: `${(x / wide) * 100}%`, top: `${(y / high) * 100}%`, width: `${(w / wide) * 100}%`, height: `${(h / high) * 100}%`,
      });
    }
    fields.forEach(({ input }, position) => {
      if (document.activeElement !== input) input.value = box ? box[position] : "";
      input.max = String(natural[position % 2]);
      input.placeholder = String(position < 2 ? 0 : natural[position % 2]);
    });
  }

  const within = (value, least, most) => Math.min(Math.max(value, least), most);
  /** A box of whole pixels inside the picture. */
  function fitted([x, y, w, h]) {
    const wide = within(Math.round(w), 1, natural[0]);
    const high = within(Math.round(h), 1, natural[1]);
    return [within(Math.round(x), 0, natural[0] - wide), within(Math.round(y), 0, natural[1] - high), wide, high];
  }

  function commit(box, { replace = false } = {}) {
    clearTimeout(timer);
    draw(box);
    go({ box }, { replace });
  }

  // A row of key presses is one search and one step of history.
  function commitSoon(box) {
    draw(box);
    clearTimeout(timer);
    timer = setTimeout(() => commit(box, { replace: state().box !== null }), WAIT_MS);
    pending = box;
  }
  let pending = null;

  function press(event) {
    if (event.button || stage.classList.contains("is-unseen")) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    const area = image.getBoundingClientRect();
    const at = (moved) => [
      within((moved.clientX - area.left) / area.width, 0, 1) * natural[0],
      within((moved.clientY - area.top) / area.height, 0, 1) * natural[1],
    ];
    const start = at(event);
    const old = state().box;
    const isMove = old && event.target === frame;
    let box = null;
    const move = (moved) => {
      const [x, y] = at(moved);
      box = isMove
        ? fitted([old[0] + x - start[0], old[1] + y - start[1], old[2], old[3]])
        : fitted([Math.min(x, start[0]), Math.min(y, start[1]), Math.abs(x - start[0]), Math.abs(y - start[1])]);
      draw(box);
    };
    const end = (last) => {
      for (const kind of ["pointermove", "pointerup", "pointercancel"]) stage.removeEventListener(kind, kind === "pointermove" ? move : end);
      const scale = natural[0] / area.width;
      const isTooSmall = !box || box[2] < SMALLEST * scale || box[3] < SMALLEST * scale;
      if (last.type === "pointercancel" || isTooSmall) draw(old);
      else commit(box);
    };
    stage.addEventListener("pointermove", move);
    stage.addEventListener("pointerup", end);
    stage.addEventListener("pointercancel", end);
  }

  const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  /** Change the box by a step in the direction of a key; the first press makes one. */
  const byKey = (change) => (_, key) => {
    const [wide, high] = natural;
    const box = pending ?? state().box;
    const [dx, dy] = [DIRECTIONS[key][0] * Math.max(1, wide * 0.02), DIRECTIONS[key][1] * Math.max(1, high * 0.02)];
    commitSoon(box ? change(box, dx, dy) : fitted([wide / 4, high / 4, wide / 2, high / 2]));
  };
  onKeys(stage, "box", {
    move: byKey(([x, y, w, h], dx, dy) => fitted([x + dx, y + dy, w, h])),
    resize: byKey(([x, y, w, h], dx, dy) =>
      fitted([x, y, within(w + dx, SMALLEST, natural[0] - x), within(h + dy, SMALLEST, natural[1] - y)])),
    whole() {
      if (!(pending ?? state().box)) return false;
      pending = null;
      commit(null);
      return true;
    },
  });

  function typed() {
    const values = fields.map(({ input }) => (input.value === "" ? null : Number(input.value)));
    if (values.every((value) => value === null)) {
      commit(null);
      return;
    }
    // Keep what was typed first: shrink a box that is too large for its corner instead of
    // moving it.
    const corner = [0, 1].map((side) => within(Math.round(values[side] ?? 0), 0, natural[side] - 1));
    const size = [0, 1].map((side) => Math.min(values[side + 2] ?? natural[side], natural[side] - corner[side]));
    commit(fitted([...corner, ...size]), { replace: state().box !== null });
  }

  return {
    show(current) {
      pending = null;
      const picture = current.picture ? pictureOf(current.picture) : null;
      place.hidden = picture === null;
      if (picture === null) {
        shown = null;
        return;
      }
      if (shown !== current.picture) {
        shown = current.picture;
        name.textContent = picture.name;
        fill(hint, "Drag on the picture to search by a part of it.",
          h("span", { class: "by-keyboard" }, " With the keyboard: arrow keys move the box, Shift and arrow keys resize it, Escape selects the whole picture."));
        image.alt = `The picture to search by: ${picture.name}`;
        stage.setAttribute("aria-label", `The picture to search by, ${picture.name}`);
        image.src = picture.url;
      } else {
        draw(current.box);
      }
    },
    focus: () => stage.focus(),
  };
}
