// The slideshow: the viewer shows one photograph of the list after another, with nothing around it, until
// somebody presses a key or the photograph.

import { announce, button, h, iconButton } from "./dom.js";
import { onKeys, withKey } from "./keys.js";

const STORED = "regard.slideshow.seconds";
const SECONDS = [3, 5, 10, 20, 60];
const USUAL = 5;

/**
 * The slideshow in the viewer's `dialog`, on its `stage`. `actions`: {next() shows the next photograph, ready() resolves once
 * the present one is loaded, stopped()}.
 */
export function makeSlideshow(dialog, stage, actions) {
  let isRunning = false;
  let isPaused = false;
  let timer = null;
  let wakeLock = null;
  // Counts what ends a wait.
  let turn = 0;

  const pause = button("Pause", () => setPaused(!isPaused), { class: "is-small", title: withKey("Pause or continue", "slideshow", "pause"), "data-testid": "slideshow-pause" });
  const seconds = h("select", {
    "aria-label": "Seconds for a photo", data: { testid: "slideshow-seconds" },
    on: {
      change() {
        store(seconds.value);
        wait();
      },
    },
  }, SECONDS.map((each) => h("option", { value: each }, `${each} seconds`)));
  seconds.value = stored();
  const bar = h("div", { class: "slideshow-bar", role: "group", "aria-label": "Slideshow", hidden: true, data: { testid: "slideshow" } },
    pause, seconds, iconButton("close", "Stop the slideshow (any other key)", stop, { "data-testid": "slideshow-stop" }));

  /** Show the next photograph when this one was there for the chosen time. */
  async function wait() {
    turn += 1;
    clearTimeout(timer);
    if (isPaused) return;
    const mine = turn;
    await actions.ready();
    if (mine !== turn) return;
    timer = setTimeout(async () => {
      await actions.next();
      if (mine === turn) wait();
    }, seconds.value * 1000);
  }

  function setPaused(isOn) {
    isPaused = isOn;
    pause.querySelector("span").textContent = isOn ? "Continue" : "Pause";
    announce(isOn ? "Paused" : "Continued");
    wait();
  }

  async function stayAwake() {
    try {
      wakeLock = (await navigator.wakeLock?.request("screen")) ?? null;
    } catch {
      // The system refuses, to save its battery for one.
    }
    if (!isRunning) wakeLock?.release();
  }
  // A hidden page loses it.
  document.addEventListener("visibilitychange", () => isRunning && !document.hidden && stayAwake());

  function stop() {
    if (!isRunning) return;
    isRunning = false;
    turn += 1;
    clearTimeout(timer);
    wakeLock?.release();
    dialog.classList.remove("is-slideshow");
    bar.hidden = true;
    actions.stopped();
  }

  const take = (deed) => (event) => {
    event.stopImmediatePropagation();
    deed();
  };
  onKeys(dialog, "slideshow", { pause: take(() => setPaused(!isPaused)), stop: take(stop) },
    ({ target, key }) => !isRunning || target === seconds || ([" ", "Enter"].includes(key) && target.closest("button") !== null));
  stage.addEventListener("click", (event) => isRunning && take(stop)(event), { capture: true });

  return {
    bar,
    isRunning: () => isRunning,
    start() {
      isRunning = true;
      isPaused = false;
      dialog.classList.add("is-slideshow");
      bar.hidden = false;
      pause.querySelector("span").textContent = "Pause";
      pause.focus();
      stayAwake();
      wait();
    },
    stop,
  };
}

function stored() {
  try {
    const known = Number(localStorage.getItem(STORED));
    return SECONDS.includes(known) ? known : USUAL;
  } catch {
    return USUAL;
  }
}

function store(value) {
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // Storage is disabled: the choice lasts until a reload.
  }
}
