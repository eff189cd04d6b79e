// Panels attached to a button, closed by Escape, by a click elsewhere, or by the button. The
// browser's popovers do that; this module places them and sets the button's state.

const EDGE = 8;

/**
 * Make `panel` a popover; {open, close, toggle, isOpen}, where `open` and `toggle` take its
 * button.
 */
export function makePopover(panel, { onOpen, onClose } = {}) {
  panel.popover = "auto";
  let anchor = null;
  document.body.append(panel);

  function place() {
    const { left, right, bottom } = anchor.getBoundingClientRect();
    const width = panel.offsetWidth;
    const fromRight = left + width > innerWidth - EDGE;
    const start = fromRight ? Math.max(EDGE, Math.min(right, innerWidth - EDGE) - width) : Math.max(EDGE, left);
    panel.style.left = `${start}px`;
    panel.style.top = `${bottom + 6}px`;
    panel.style.maxHeight = `${Math.max(180, innerHeight - bottom - 6 - EDGE)}px`;
  }
  const follow = () => panel.matches(":popover-open") && place();
  addEventListener("resize", follow);
  addEventListener("scroll", follow, { passive: true });

  panel.addEventListener("toggle", (event) => {
    const isOpen = event.newState === "open";
    if (anchor?.hasAttribute("aria-expanded")) anchor.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) onClose?.();
  });
  // Pressing the button already closes the panel; the click that follows must not open it
  // again.
  let wasOpen = false;
  addEventListener("pointerdown", (event) => {
    wasOpen = panel.matches(":popover-open") && Boolean(anchor?.contains(event.target));
  }, { capture: true });
  addEventListener("keydown", () => { wasOpen = false; }, { capture: true });

  // Moving the focus out with Tab closes it.
  panel.addEventListener("focusout", (event) => {
    const to = event.relatedTarget;
    if (to && !panel.contains(to) && !anchor?.contains(to) && panel.matches(":popover-open")) panel.hidePopover();
  });

  const self = {
    open(from) {
      anchor = from;
      if (!panel.matches(":popover-open")) panel.showPopover();
      onOpen?.();
      place();
    },
    close() {
      if (!panel.matches(":popover-open")) return;
      const had = panel.contains(document.activeElement);
      panel.hidePopover();
      if (had && anchor?.isConnected) anchor.focus();
    },
    toggle(from) {
      if (panel.matches(":popover-open")) self.close();
      else if (!wasOpen) self.open(from);
      wasOpen = false;
    },
    isOpen: () => panel.matches(":popover-open"),
    place: follow,
  };
  return self;
}
