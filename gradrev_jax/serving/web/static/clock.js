// The time from a click to the pictures on the screen.

const MOST = 200;

export class Clock {
  #times = [];
  #started = null;

  constructor(node) {
    this.node = node;
  }

  /** Starts at a click, or at the key that stands for one. */
  start(event) {
    this.#started = event?.timeStamp ?? performance.now();
  }

  /** Waits for the visible pictures of a list, and shows the median of all times so far. */
  async shown(list) {
    const started = this.#started;
    if (started === null) return;
    const visible = [...list.querySelectorAll("img")].filter((picture) => {
      const box = picture.getBoundingClientRect();
      return box.bottom > 0 && box.top < innerHeight && box.width > 0;
    });
    await Promise.all(visible.map(loaded));
    if (started !== this.#started) return; // another click came in between
    this.#started = null;
    this.#times = [...this.#times, performance.now() - started].slice(-MOST);
    const sorted = [...this.#times].sort((a, b) => a - b);
    const median = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
    this.node.textContent = `${Math.round(median)} ms from click to pictures`;
    this.node.title = `Median of ${sorted.length}`;
    this.node.dataset.count = sorted.length;
  }
}

function loaded(picture) {
  if (picture.complete) return null;
  return new Promise((resolve) => {
    picture.addEventListener("load", resolve, { once: true });
    picture.addEventListener("error", resolve, { once: true });
  });
}
