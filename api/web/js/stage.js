// The large photograph with outlined regions, enlarged at will. The hovered or selected region is
// highlighted by dimming everything outside its mask.

import { whyNoPicture } from "./api.js";
import { fill, h, writing } from "./dom.js";
import { nameOf } from "./format.js";
import { traceMask } from "./outline.js";
import { regionName } from "./why.js";
import { makeZoom } from "./zoom.js";

// The longer side of the picture that is loaded at first.
const FIRST = 1024;
const UNSEEN = "This picture can't be shown.";
const UNPLAYED_MOTION = "This browser can't play the video in the photo. The original can be downloaded.";
const UNPLAYED = "This browser can't play the video. Its moments are beside it, and the original can be downloaded.";

/**
 * The stage; `onPoint(id | null)` and `onChoose(id)` report hovered and selected regions, `onMotion(isPlaying)` whether
 * the video of a motion photo plays, and `isScrolled()` says whether the wheel scrolls what is around.
 */
export function makeStage({ onPoint, onChoose, onMotion, isScrolled }) {
  const image = h("img", { class: "stage-image", alt: "", draggable: "false", data: { testid: "viewer-image" } });
  const preview = h("img", { class: "stage-preview", alt: "", "aria-hidden": "true", draggable: "false" });
  // Over the picture of a video or a motion photo, which stays where the browser can't play it.
  const player = h("video", {
    class: "stage-video", controls: true, playsinline: true, preload: "metadata", hidden: true, data: { testid: "player" },
    // Its controls are not the picture's.
    on: Object.fromEntries(["pointerdown", "dblclick", "click"].map((kind) => [kind, (event) => event.stopPropagation()])),
  });
  const unplayed = h("p", { class: "stage-unplayed", hidden: true, role: "status", data: { testid: "unplayed" } });
  const veil = h("div", { class: "stage-veil", hidden: true });
  const outlines = h("div", { class: "stage-outlines", "aria-hidden": "true" });
  const texts = h("div", { class: "stage-texts", data: { testid: "texts" } });
  const frame = h("div", { class: "stage-frame" }, preview, image, veil, outlines, texts, player, unplayed);
  const failure = h("p", { class: "stage-failure", hidden: true });
  const element = h("div", { class: "stage" }, frame, failure);
  const zoom = makeZoom(element, frame, { changed: sharpen, isScrolled });
  // What is shown, and the photograph whose largest picture was asked for.
  let photograph = null;
  let sharpened = null;
  let size = [4, 3];
  let marks = new Map();
  let pointed = null;
  let isMotion = false;

  function pointAt(id) {
    if (id === pointed) return;
    pointed = id;
    onPoint(id);
  }

  // Load the largest picture once more of it is shown than there is; if that fails, this one stays.
  async function sharpen() {
    const wanted = photograph;
    if (wanted === null || wanted === sharpened || !zoom.isZoomed() || zoom.longer() <= FIRST || Math.max(...size) <= FIRST) return;
    sharpened = wanted;
    const larger = h("img", { src: wanted.urls.thumbnail_4096 });
    try {
      await larger.decode();
    } catch {
      return;
    }
    if (photograph === wanted) image.src = larger.src;
  }

  // The address that is loaded once more after it failed.
  let retried = null;
  image.addEventListener("load", () => {
    retried = null;
    frame.classList.add("is-sharp");
  });
  image.addEventListener("error", async () => {
    fail(true);
    const source = image.src;
    const problem = await whyNoPicture(source);
    if (image.src !== source) return;
    if (problem) {
      failure.textContent = [UNSEEN, problem.message, problem.remedy].filter(Boolean).join(" ");
    } else if (retried !== source) {
      retried = source;
      fail(false);
      image.src = source;
    }
  });

  // The video that was loaded again, and where it had failed: once more there, and it can't be played.
  let resumed = null;
  player.addEventListener("error", async () => {
    const source = player.getAttribute("src");
    if (source === null) return;
    const [at, wasPlaying] = [player.currentTime, !player.paused];
    const problem = await whyNoPicture(source);
    if (player.getAttribute("src") !== source) return;
    if (!problem && (resumed?.source !== source || at > resumed.at + 1)) {
      // The session had ended, or the server was away.
      resumed = { source, at };
      player.src = source;
      if (at > 0) player.currentTime = at;
      if (wasPlaying) player.play().catch(() => {});
      return;
    }
    const words = isMotion ? UNPLAYED_MOTION : UNPLAYED;
    stopPlayer();
    unplayed.textContent = problem ? [problem.message, problem.remedy].filter(Boolean).join(" ") : words;
    unplayed.hidden = false;
  });
  // Until there is a frame to show, the photograph is shown.
  player.addEventListener("loadeddata", () => {
    if (isMotion) player.hidden = false;
  });
  player.addEventListener("ended", () => isMotion && stopPlayer());

  function stopPlayer() {
    resumed = null;
    if (isMotion) {
      isMotion = false;
      onMotion(false);
    }
    player.pause();
    player.hidden = true;
    unplayed.hidden = true;
    if (!player.hasAttribute("src")) return;
    player.removeAttribute("src");
    // Without this the browser goes on loading.
    player.load();
  }

  /** Show the frame of a moment, and the player that begins there. */
  function showVideo(asset, moment) {
    if (moment) image.src = `${moment.urls.crop}&size=1024`;
    player.setAttribute("aria-label", nameOf(asset));
    player.hidden = false;
    // The fragment is where it begins.
    player.src = `${asset.urls.original}#t=${((moment?.time_ms ?? 0) / 1000).toFixed(3)}`;
  }

  function fail(hasFailed) {
    frame.hidden = hasFailed;
    failure.hidden = !hasFailed;
    failure.textContent = UNSEEN;
  }

  return {
    element,
    zoom,
    /** Resolves once the photograph is loaded, or can't be. */
    ready: () => image.decode().catch(() => {}),
    /** Show a photograph of a list at once, a video from a `moment` on; `outline` adds its regions later. */
    show(asset, moment = null) {
      stopPlayer();
      photograph = asset.state === "failed" ? null : asset;
      size = asset.width ? [asset.width, asset.height] : [4, 3];
      sharpened = null;
      zoom.begin(size);
      fail(asset.state === "failed");
      frame.classList.remove("is-sharp");
      image.alt = asset.caption ? `${nameOf(asset)}: ${asset.caption}` : nameOf(asset);
      for (const each of [preview, image]) each.removeAttribute("src");
      if (asset.state !== "failed") {
        preview.src = asset.urls.thumbnail;
        image.src = asset.urls.thumbnail_1024;
        if ((asset.duration_ms ?? null) !== null) showVideo(asset, moment);
      }
      marks = new Map();
      pointed = null;
      fill(outlines);
      fill(texts);
      veil.hidden = true;
    },

    /** Go to a moment of the video that is shown. */
    seek(moment) {
      image.src = `${moment.urls.crop}&size=1024`;
      if (!player.hidden) player.currentTime = moment.time_ms / 1000;
    },

    /** Play the video of a motion photo over its picture, once. */
    playMotion(asset) {
      stopPlayer();
      isMotion = true;
      onMotion(true);
      player.setAttribute("aria-label", nameOf(asset));
      player.src = `${asset.urls.self}/motion`;
      // What fails is reported by its event.
      player.play().catch(() => {});
    },

    /** Stop the video that is shown. */
    stop: stopPlayer,

    /** Clear the stage, because there is no such photograph. */
    clear() {
      stopPlayer();
      photograph = null;
      fail(true);
      failure.hidden = true;
      fill(outlines);
      fill(texts);
      veil.hidden = true;
    },

    /** Outline regions, small ones above the large ones that contain them. */
    outline(regions) {
      const [wide, high] = size;
      const numbered = regions.map((region, position) => ({ region, position: position + 1 }));
      numbered.sort((one, other) => other.region.bbox[2] * other.region.bbox[3] - one.region.bbox[2] * one.region.bbox[3]);
      marks = new Map(numbered.map(({ region, position }) => {
        const [x, y, w, h_] = region.bbox;
        const mark = h(
          "div",
          {
            class: "stage-region", data: { testid: "region-outline", region: region.id }, title: regionName(region, position),
            style: { left: `${(x / wide) * 100}%`, top: `${(y / high) * 100}%`, width: `${(w / wide) * 100}%`, height: `${(h_ / high) * 100}%` },
            // Not on pointerenter: a photograph that opens under a resting pointer is not
            // hovered.
            on: {
              pointermove: ({ pointerType }) => pointerType === "mouse" && pointAt(region.id),
              pointerleave: () => pointAt(null), click: () => onChoose(region.id),
            },
          },
        );
        traceMask(mark, region);
        return [region.id, { mark, region }];
      }));
      fill(outlines, [...marks.values()].map(({ mark }) => mark));
    },

    /** Lay lines of text over the photograph, so that they can be selected and copied. */
    write(lines) {
      fill(texts, lines.length > 0 && writing("stage-writing", size, lines));
    },

    /** Highlight one region, or none; `isVeiled` dims the rest of the photograph. */
    highlight(id, isVeiled) {
      for (const [other, { mark }] of marks) mark.classList.toggle("is-lit", other === id);
      const found = marks.get(id);
      // What was found for a query has no mask to load.
      veil.hidden = !found?.region.urls || !isVeiled;
      if (veil.hidden) return;
      // Everything outside the region: a full layer, with the white of the mask cut out by the
      // stylesheet.
      veil.style.maskImage = `linear-gradient(#fff, #fff), url(${JSON.stringify(found.region.urls.mask)})`;
    },

    setOutlined(isOn) {
      element.classList.toggle("is-plain", !isOn);
    },
  };
}
