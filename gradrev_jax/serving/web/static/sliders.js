// The two sliders: how strong the changes are, and what it is against how it looks.

import { byId } from "./dom.js";

const WORDS = {
  strength: (value) => `${Math.round(100 * value)} percent`,
  look: (value) => `${Math.round(50 * value)} percent how it looks`,
};

/** Sets a slider, and says in words where it stands. */
export function setSlider(name, value) {
  const slider = byId(name);
  slider.value = value;
  slider.setAttribute("aria-valuetext", WORDS[name](slider.value));
}

/** Calls onMove(value) while a slider moves, at most once a frame, and onStop(value, event) where it stops. */
export function listenToSlider(name, { onMove, onStop }) {
  const slider = byId(name);
  let frame = null;
  slider.addEventListener("input", () => {
    slider.setAttribute("aria-valuetext", WORDS[name](slider.value));
    frame ??= requestAnimationFrame(() => {
      frame = null;
      onMove(Number(slider.value));
    });
  });
  slider.addEventListener("change", (event) => onStop(Number(slider.value), event));
}
