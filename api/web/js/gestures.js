// Drags and pinches over an element.

// In pixels; a shorter movement is a click.
const CLICK = 4;

/** Where an event is, from the middle of an element, in pixels. */
export function fromMiddle(element, { clientX, clientY }) {
  const { left, top, width, height } = element.getBoundingClientRect();
  return [clientX - left - width / 2, clientY - top - height / 2];
}

/**
 * Call `pan(dx, dy)` for drags over `stage`, and `zoomBy(factor, at)` for pinches, `at` from its middle. `isIgnored(event)`
 * says where none begins, and `canPan()` whether one pointer moves anything. The end of a drag is not a click.
 */
export function onGestures(stage, { pan, zoomBy, isIgnored, canPan }) {
  const pointers = new Map();
  let wasDragged = false;

  stage.addEventListener("pointerdown", (event) => {
    if (event.isPrimary) {
      pointers.clear();
      wasDragged = false;
    }
    if (event.button || isIgnored(event)) return;
    pointers.set(event.pointerId, fromMiddle(stage, event));
  });
  stage.addEventListener("pointermove", (event) => {
    const from = pointers.get(event.pointerId);
    // A button may have been released elsewhere.
    if (!from || pointers.size > 2 || !event.buttons) return;
    const to = fromMiddle(stage, event);
    const moved = [to[0] - from[0], to[1] - from[1]];
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (!other && !canPan()) return;
    if (!other && !wasDragged && Math.hypot(...moved) < CLICK) return;
    wasDragged = true;
    pointers.set(event.pointerId, to);
    // What lies under the pointer is not hovered meanwhile.
    stage.setPointerCapture(event.pointerId);
    stage.classList.add("is-dragged");
    if (!other) {
      pan(...moved);
      return;
    }
    const distance = (one) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
    pan(moved[0] / 2, moved[1] / 2);
    zoomBy(distance(to) / distance(from), [(to[0] + other[0]) / 2, (to[1] + other[1]) / 2]);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    stage.addEventListener(kind, ({ pointerId }) => {
      pointers.delete(pointerId);
      if (!pointers.size) stage.classList.remove("is-dragged");
    });
  }
  stage.addEventListener("click", (event) => wasDragged && event.stopImmediatePropagation(), { capture: true });
}

const LINE = 30;

/** The factor that a turn of the wheel zooms by. */
export function wheelFactor(event) {
  const turned = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * LINE;
  // Browsers report a pinch on a touchpad as small turns with Ctrl.
  return Math.exp(-turned * (event.ctrlKey ? 0.01 : 0.0025));
}
