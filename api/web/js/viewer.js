// The viewer of one photograph: a modal dialog over the grid, controlled by `photo` in the
// URL.

import { inAlbum } from "./albums.js";
import * as api from "./api.js";
import { announce, button, fill, h, iconButton, isTyping } from "./dom.js";
import { showDetails } from "./details.js";
import { nameOf, number } from "./format.js";
import { showKeys } from "./help.js";
import { onKeys, withKey } from "./keys.js";
import { canWrite } from "./session.js";
import { makeSlideshow } from "./slideshow.js";
import { makeStage } from "./stage.js";
import { go, goAfresh, state } from "./state.js";
import { makeStrip } from "./strip.js";
import { toastProblem } from "./toast.js";

// In pixels; a shorter movement is a tap.
const WIPE = 50;
// Where keys look on an enlarged photograph, in shares of the stage.
const LOOKS = { ArrowLeft: [-0.25, 0], ArrowRight: [0.25, 0], ArrowUp: [0, -0.25], ArrowDown: [0, 0.25] };
const isVideo = (asset) => (asset.duration_ms ?? null) !== null;
/** The moment of a video that a result is about, if it is. */
const momentOf = (result) => ((result.region?.time_ms ?? null) === null ? null : result.region);
// Stands for the id of what was found for the query, which is not stored.
const REFINED = "refined";

/**
 * The viewer. `results` are walked by the arrow keys; `actions`: {changed(asset), remove(asset), restore(asset),
 * unstack(asset), part(asset), focusOn(id)}.
 */
export function makeViewer({ results, actions }) {
  // The region highlighted while none is hovered: the one that matched, or the selected one.
  let found = null;
  let chosen = null;
  let controller = null;
  let open = null;
  let nextResult = null;
  let drawn = null;
  // Whether the details were drawn for somebody who may change them.
  let isEditable = false;

  const stage = makeStage({ onPoint: (id) => point(id), onChoose: choose, onMotion: showMotion, isScrolled: () => dialog.scrollHeight > dialog.clientHeight });
  const strip = makeStrip({ onOpen: visitFile, onLoad: () => showPlace(open), elsewhere: () => stops().find((stop) => !stop.disabled) });
  const side = h("div", { class: "viewer-side", tabindex: "0", role: "region", "aria-label": "Details" });
  const previous = iconButton("left", withKey("Previous", "viewer", "previous"), () => walk(-1), { class: "viewer-previous", "data-testid": "previous" });
  const next = iconButton("right", withKey("Next", "viewer", "next"), () => walk(1), { class: "viewer-next", "data-testid": "next" });
  const outlines = iconButton("outlines", withKey("Outline the things in it", "viewer", "outlines"), () => setOutlined(!isOutlined), { "data-testid": "outlines", "aria-pressed": "true" });
  const motion = iconButton("motion", "Play the motion", () => (isMoving() ? stage.stop() : stage.playMotion(drawn)), { "data-testid": "motion", "aria-pressed": "false", hidden: true });
  const zoomOut = iconButton("zoom-out", withKey("Zoom out", "viewer", "zoomOut"), () => zoom("out"), { "data-testid": "zoom-out" });
  const zoomIn = iconButton("zoom-in", withKey("Zoom in", "viewer", "zoomIn"), () => zoom("in"), { "data-testid": "zoom-in" });
  const play = iconButton("play", withKey("Slideshow", "viewer", "slideshow"), () => slideshow.start(), { "data-testid": "viewer-slideshow" });
  const count = h("span", { class: "viewer-count" });
  const dialog = h(
    "dialog", { class: "viewer", "aria-label": "Photo", data: { testid: "viewer" } },
    h("div", { class: "viewer-main" },
      h("div", { class: "viewer-bar" }, iconButton("close", withKey("Close", "escape", "close"), () => close(), { "data-testid": "viewer-close" }), count, h("span", { class: "spring" }),
        motion, play, zoomOut, zoomIn, outlines),
      stage.element, strip.element, previous, next),
    side,
  );
  document.body.append(dialog);

  const slideshow = makeSlideshow(dialog, stage.element, {
    ready: stage.ready,
    // After the last comes the first; one photograph alone stays.
    async next() {
      const result = (await results.reach(place(open) + 1)) ?? (await results.reach(0));
      if (result && result !== nextResult && dialog.open) visit(result);
    },
    stopped: () => dialog.open && play.focus(),
  });
  dialog.append(slideshow.bar);

  let isOutlined = true;
  function setOutlined(isOn) {
    isOutlined = isOn;
    outlines.setAttribute("aria-pressed", String(isOn));
    stage.setOutlined(isOn);
  }

  const isMoving = () => motion.getAttribute("aria-pressed") === "true";

  function showMotion(isPlaying) {
    motion.setAttribute("aria-pressed", String(isPlaying));
  }

  /** Show a photograph, or a video, which has its own controls. */
  function stageOf(asset, moment) {
    const focused = document.activeElement;
    stage.show(asset, moment);
    for (const tool of [zoomOut, zoomIn, outlines]) tool.hidden = isVideo(asset);
    // The details say whether it has one.
    motion.hidden = true;
    // A hidden button loses the focus, and the viewer would no longer receive keys.
    if (focused?.hidden && dialog.contains(focused)) stops().find((stop) => !stop.disabled).focus();
  }

  function zoom(deed) {
    if (zoomIn.hidden) return;
    stage.zoom[deed]();
    announce(stage.zoom.isZoomed() ? `Zoom ${number(Math.round(stage.zoom.scale() * 10) / 10)}` : "Whole photo");
  }

  function point(id) {
    const lit = id ?? chosen ?? found;
    stage.highlight(lit, Boolean(id ?? chosen));
    for (const row of side.querySelectorAll(".region")) row.classList.toggle("is-lit", row.dataset.region === lit);
  }

  function choose(id) {
    chosen = chosen === id ? null : id;
    point(null);
    const row = [...side.querySelectorAll(".region")].find((each) => each.dataset.region === id);
    row?.querySelector("button").focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  }

  const position = (id, region) => {
    const exact = nextResult?.asset.id === id ? results.find((item) => item === nextResult) : -1;
    return exact >= 0 ? exact : results.find((item) => item.asset.id === id && (!region || item.region?.id === region));
  };

  /** The same, of the result that stands for a file of its stack. */
  const place = (id) => {
    const exact = position(id);
    return exact < 0 && strip.has(id) ? results.find((item) => item.asset.stack?.id === strip.stack()) : exact;
  };

  async function walk(step) {
    const here = place(open);
    if (here < 0) return;
    // In results of regions a photograph may occur several times in a row; each is a separate
    // stop.
    const result = await results.reach(here + step);
    if (result) visit(result);
  }

  function visit(result) {
    nextResult = result;
    if (result.asset.id === open) load(open, result);
    else go({ photo: result.asset.id }, { replace: true });
  }

  /** What takes the focus that something loses. */
  const stops = () => [next, previous, dialog.querySelector('[data-testid="viewer-close"]')];

  /** Open a file of the stack; its place among the results stays. */
  function visitFile(asset) {
    nextResult = results.at(position(asset.id)) ?? { asset, region: null, channels: null, score: null, rank: null };
    go({ photo: asset.id }, { replace: true });
  }

  function walkStack(step) {
    const asset = strip.beside(step);
    if (asset) visitFile(asset);
  }

  function close() {
    if (history.state?.opened) history.back();
    else go({ photo: "" });
  }

  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (slideshow.isRunning()) slideshow.stop();
    else close();
  });
  onKeys(dialog, "viewer", {
    next: () => walk(1), previous: () => walk(-1),
    nextOfStack: () => walkStack(1), previousOfStack: () => walkStack(-1),
    zoomIn: () => zoom("in"), zoomOut: () => zoom("out"), whole: () => zoom("whole"), look: (_, key) => stage.zoom.look(...LOOKS[key]),
    outlines: () => outlines.hidden || setOutlined(!isOutlined),
    rate: (_, key) => side.querySelector(`[data-testid="star"][value="${key}"]`)?.click(),
    similar: () => side.querySelector('[data-testid="similar"]')?.click(),
    remove: () => side.querySelector('[data-testid="delete"]')?.click(),
    slideshow: () => slideshow.start(),
    help: showKeys,
  }, (event) => isTyping(event) || event.target.localName === "video");
  // Swiping shows the next picture, or the previous one.
  let touch = null;
  stage.element.addEventListener("touchstart", ({ touches }) => {
    touch = touches.length === 1 && !stage.zoom.isZoomed() ? { x: touches[0].clientX, y: touches[0].clientY } : null;
  }, { passive: true });
  stage.element.addEventListener("touchend", ({ changedTouches: [end] }) => {
    if (!touch) return;
    const [dx, dy] = [end.clientX - touch.x, end.clientY - touch.y];
    if (Math.abs(dx) > WIPE && Math.abs(dx) > 2 * Math.abs(dy)) walk(dx < 0 ? 1 : -1);
    touch = null;
  }, { passive: true });
  // A tap beside the picture closes the viewer.
  stage.element.addEventListener("click", (event) => event.target === stage.element && close());

  /** Say where among the results it is, and what is before and after it. */
  function showPlace(id) {
    const index = place(id);
    count.textContent = index >= 0 ? `${number(index + 1)} of ${results.total()}` : "";
    previous.disabled = index <= 0;
    next.disabled = index < 0 || (index === results.length() - 1 && !results.hasMore());
    // A disabled button loses the focus, and the viewer would no longer receive keys.
    if (stops().includes(document.activeElement) && document.activeElement.disabled) stops().find((stop) => !stop.disabled).focus();
  }

  async function load(id, result) {
    controller?.abort();
    controller = new AbortController();
    chosen = null;
    found = null;
    open = id;
    const index = position(id);
    nextResult = index >= 0 ? results.at(index) : result?.asset.id === id ? result : null;
    showPlace(id);
    if (nextResult) {
      stageOf(nextResult.asset, momentOf(nextResult));
      fill(side, h("div", { class: "detail-title" }, h("h2", {}, nameOf(nextResult.asset))), h("p", { class: "hint" }, "Loading the details…"));
    }
    side.scrollTop = 0;
    try {
      const asset = await api.asset(id, controller.signal);
      if (open !== id) return;
      if (!nextResult) stageOf(asset);
      present(asset);
      strip.show(asset);
      announce(nameOf(asset));
      settle();
    } catch (problem) {
      if (problem.name === "AbortError" || open !== id) return;
      if (!nextResult) stage.clear();
      const isGone = problem.status === 404;
      fill(side, h("div", { class: "notice is-small", role: "alert" }, h("h2", {}, isGone ? "This photo is not there" : "The details can't be loaded"),
        h("p", {}, isGone ? "It was deleted for good, or the link is wrong." : [problem.message, problem.remedy].filter(Boolean).join(" ")),
        isGone ? button("Close", close, { "data-testid": "gone-close" }) : button("Try again", () => load(id, result))));
    }
  }

  /** Show the details of a photograph, and what of it the result is about. */
  function present(asset) {
    const refined = nextResult?.refined && { ...nextResult.refined, id: REFINED, caption: state().q };
    const lit = nextResult?.region;
    const texts = asset.texts ?? [];
    // Those of a video are whole frames at other times.
    const shown = [...(isVideo(asset) ? [] : asset.regions), ...texts.filter((line) => line.id === lit?.id)];
    stage.outline(refined && !isVideo(asset) ? [...shown, refined] : shown);
    stage.write(texts);
    draw(asset);
    motion.hidden = !Number.isFinite(asset.facts?.motion_video_offset);
    if (refined && !isVideo(asset)) {
      found = REFINED;
      point(null);
    } else if (lit && shown.some((region) => region.id === lit.id)) {
      found = lit.id;
      point(null);
    }
  }

  /** Find the place of the open photograph among results that arrived after it. */
  async function settle() {
    const id = open;
    if (id === null || id !== state().photo) return;
    showPlace(id);
    if (drawn?.id !== id) return;
    if (place(id) < 0) {
      // Without its place, it can still be looked at.
      await results.locate(drawn).catch(() => {});
      if (open !== id) return;
      showPlace(id);
    }
    const result = results.at(position(id));
    if (nextResult || !result) return;
    nextResult = result;
    // Only a search says more of it.
    if (result.channels) present(drawn);
  }

  function draw(asset) {
    drawn = asset;
    isEditable = canWrite();
    dialog.setAttribute("aria-label", nameOf(asset));
    showDetails(side, asset, nextResult, {
      point,
      seek: stage.seek,
      similar: (like, target) => goAfresh({ like, target, filters: state().filters }),
      filter: (name, value) => goAfresh({ filters: { [name]: value } }),
      album: (name) => goAfresh({ q: inAlbum(name) }),
      changed: (changed) => {
        dialog.setAttribute("aria-label", nameOf(changed));
        actions.changed(changed);
      },
      part: actions.part,
      async remove(of) {
        const here = place(of.id);
        const after = (await results.reach(here + 1)) ?? results.at(here - 1);
        try {
          await actions.remove(of);
        } catch (problem) {
          toastProblem(problem);
          return;
        }
        nextResult = null;
        if (after && after.asset.id !== of.id) go({ photo: after.asset.id }, { replace: true });
        else close();
      },
      async unstack(of) {
        try {
          await actions.unstack(of);
        } catch (problem) {
          toastProblem(problem);
          return;
        }
        if (open !== of.id) return;
        await load(of.id, nextResult);
        // The button that had it is gone.
        if (document.activeElement === document.body) stops().find((stop) => !stop.disabled).focus();
      },
      async restore(of) {
        try {
          await actions.restore(of);
          close();
        } catch (problem) {
          toastProblem(problem);
        }
      },
    });
  }

  return {
    /** Redraw the details once the permissions are known. */
    renew() {
      if (open === null || drawn?.id !== open || isEditable === canWrite()) return;
      draw(drawn);
      point(null);
    },
    settle,
    /** Begin the slideshow at the open photograph. */
    play: () => slideshow.start(),
    /** Which result to open next, if a photograph occurs several times. */
    expect(result) {
      nextResult = result;
    },
    show(current) {
      if (!current.photo) {
        if (!dialog.open) return;
        const was = open;
        open = null;
        controller?.abort();
        slideshow.stop();
        stage.stop();
        strip.clear();
        dialog.close();
        actions.focusOn(was);
        return;
      }
      if (!dialog.open) {
        dialog.showModal();
        setOutlined(isOutlined);
        dialog.querySelector('[data-testid="viewer-close"]').focus();
      }
      if (open !== current.photo) load(current.photo, nextResult);
    },
  };
}
