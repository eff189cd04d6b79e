// Zoom and pan of a picture: by wheel, pinch, double click, double tap and drag.
//
// The frame becomes larger, instead of being scaled, so that outlines keep their width and
// everything over the picture keeps its place.

import { fromMiddle, onGestures, wheelFactor } from "./gestures.js";

const STEP = 1.5;
const DOUBLE = 3;
// The deepest zoom: at least so many times the whole picture, and so many pixels for each of the photograph's.
const DEEPEST = 4;
const DEEPEST_PIXEL = 2;

/**
 * Make the `frame` in the middle of `stage` zoomable; `changed()` is called after each change, and `isScrolled()` says
 * whether the wheel scrolls while nothing is enlarged.
 */
export function makeZoom(stage, frame, { changed, isScrolled }) {
  let photo = [4, 3];
  // The size of the frame that shows the whole picture, and where its middle is from that of the stage, in pixels.
  let whole = [0, 0];
  let [x, y] = [0, 0];
  let scale = 1;

  const isZoomed = () => scale > 1;

  /** Set the scale; the point `at`, from the middle of the stage, stays where it is. */
  function zoomTo(wanted, at, isStep = false) {
    const deepest = Math.max(DEEPEST, (DEEPEST_PIXEL * photo[0]) / whole[0] || 0);
    const next = Math.min(deepest, Math.max(1, wanted));
    x = at[0] - ((at[0] - x) * next) / scale;
    y = at[1] - ((at[1] - y) * next) / scale;
    scale = next;
    place(isStep);
  }

  function place(isStep) {
    const [wide, high] = whole.map((side) => side * scale);
    const [right, down] = [Math.max(0, wide - stage.clientWidth) / 2, Math.max(0, high - stage.clientHeight) / 2];
    x = Math.min(right, Math.max(-right, x));
    y = Math.min(down, Math.max(-down, y));
    stage.classList.toggle("is-zoomed", isZoomed());
    stage.classList.toggle("is-stepping", isStep);
    frame.style.width = `${Math.round(wide)}px`;
    frame.style.height = `${Math.round(high)}px`;
    frame.style.transform = isZoomed() ? `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)` : "";
    changed();
  }

  function pan(dx, dy, isStep = false) {
    x += dx;
    y += dy;
    place(isStep);
  }

  function fit() {
    const ratio = Math.min(stage.clientWidth / photo[0], stage.clientHeight / photo[1]);
    if (!Number.isFinite(ratio) || ratio <= 0) return;
    whole = photo.map((side) => side * ratio);
    place(false);
  }
  new ResizeObserver(fit).observe(stage);

  stage.addEventListener("wheel", (event) => {
    if (!isZoomed() && !event.ctrlKey && isScrolled()) return;
    event.preventDefault();
    zoomTo(scale * wheelFactor(event), fromMiddle(stage, event));
  }, { passive: false });

  const isText = ({ target }) => target.closest("text") !== null;
  stage.addEventListener("dblclick", (event) => {
    if (isText(event)) return;
    zoomTo(isZoomed() ? 1 : DOUBLE, fromMiddle(stage, event), true);
  });

  onGestures(stage, {
    pan,
    zoomBy: (factor, at) => zoomTo(scale * factor, at),
    // The mouse selects text.
    isIgnored: (event) => event.pointerType === "mouse" && isText(event),
    canPan: isZoomed,
  });

  return {
    isZoomed,
    /** Show a whole picture of [width, height] pixels. */
    begin(size) {
      photo = size;
      scale = 1;
      fit();
    },
    in: () => zoomTo(scale * STEP, [0, 0], true),
    out: () => zoomTo(scale / STEP, [0, 0], true),
    whole: () => zoomTo(1, [0, 0], true),
    /** Move what is seen by a share of the stage. */
    look: (right, down) => pan(-right * stage.clientWidth, -down * stage.clientHeight, true),
    /** The longer side of the whole picture on the screen, in the screen's pixels. */
    longer: () => Math.max(...whole) * scale * (devicePixelRatio || 1),
    scale: () => scale,
  };
}
