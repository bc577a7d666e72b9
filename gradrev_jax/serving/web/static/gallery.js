// The gallery: pages of garments that are loaded as one comes near them.

import { getAttributes, getItems } from "./api.js";
import { card, valuesOf } from "./cards.js";
import { byId, element, plural } from "./dom.js";

const PAGE = 60;

export class Gallery {
  #name = null;
  #offset = 0;
  #total = null;
  #loading = null;
  scroll = 0; // where it was left

  /** onItems is told of all items that were loaded, onTrouble of an error and how to try again. */
  constructor(onItems, onTrouble) {
    this.onItems = onItems;
    this.onTrouble = onTrouble;
    this.list = byId("gallery-list");
    this.end = byId("gallery-end");
    new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) this.#more();
      },
      { rootMargin: "0px 0px 1200px 0px" },
    ).observe(this.end);
  }

  /** Shows the garments whose name contains some text; returns when the first ones are there. */
  async show(name) {
    if (name === this.#name) return;
    this.#loading?.abort();
    [this.#name, this.#offset, this.#total, this.#loading] = [name, 0, null, null];
    await this.#more();
  }

  get isNear() {
    const box = this.end.getBoundingClientRect();
    return this.list.offsetParent !== null && box.top < innerHeight + 1200;
  }

  async #more() {
    if (this.#name === null || this.#loading || (this.#total !== null && this.#offset >= this.#total)) return;
    const loading = (this.#loading = new AbortController());
    const [name, offset] = [this.#name, this.#offset];
    try {
      const [answer] = await Promise.all([
        getItems({ offset, limit: PAGE, name }, loading.signal),
        getAttributes(),
      ]);
      if (loading !== this.#loading) return;
      this.#draw(answer, offset);
      this.#loading = null;
    } catch (error) {
      if (error.name === "AbortError" || loading !== this.#loading) return;
      this.#loading = null;
      this.onTrouble(error, () => this.#more());
      return;
    }
    if (this.isNear) await this.#more();
  }

  #draw(answer, offset) {
    this.onItems(answer.items);
    const cards = answer.items.map((item, i) =>
      card(item, element("span", { class: "notes soft" }, valuesOf(item)), { lazy: offset + i >= 12 }),
    );
    if (offset === 0) this.list.replaceChildren(...cards);
    else this.list.append(...cards);
    this.#total = answer.total;
    this.#offset = answer.items.length ? offset + answer.items.length : answer.total;
    const count = byId("gallery-count");
    if (offset === 0) {
      count.textContent =
        answer.total || !this.#name
          ? plural(answer.total, "garment", "garments")
          : `No name contains “${this.#name}”.`;
    }
  }
}
