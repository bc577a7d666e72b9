// The results: marked where they are exactly what was asked, with what differs spelled out.

import { card } from "./cards.js";
import { byId, element, plural, prefersStill } from "./dom.js";

const EAGER = 12; // pictures that do not wait until one comes near
const QUIET = 600; // milliseconds without a new answer before it is read out

export class Results {
  #cards = new Map();

  constructor(garment) {
    this.garment = garment;
    this.list = byId("results");
  }

  /** Shows an answer; cards of garments that stay move to their new place. */
  show(answer, { isMoving = true } = {}) {
    const before = isMoving && !prefersStill() ? this.#places() : new Map();
    const cards = answer.items.map((item, i) => this.#card(item, i));
    this.#cards = new Map(answer.items.map((item, i) => [item.item, cards[i]]));
    cards.forEach((node, i) => {
      if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null);
    });
    while (this.list.children.length > cards.length) this.list.lastElementChild.remove();
    this.#move(before);
    this.#say(answer.items);
  }

  /** Takes all results away. */
  clear() {
    this.#cards = new Map();
    this.list.replaceChildren();
    byId("summary").textContent = "";
  }

  #card(item, i) {
    const notes = this.#notes(item);
    let node = this.#cards.get(item.item);
    if (node) node.querySelector(".notes").replaceWith(notes);
    else node = card(item, notes, { lazy: i >= EAGER });
    node.classList.toggle("exact", item.matches);
    return node;
  }

  #notes(item) {
    if (item.matches) {
      return element(
        "span",
        { class: "notes match" },
        element("span", { "aria-hidden": "true" }, "✓ "),
        this.#words().each,
      );
    }
    const lines = item.differs.filter((attribute) => this.garment.isLabelled(attribute)).map((attribute) => {
      const has = item.labels[attribute] ?? null;
      const wanted = this.garment.wanted(attribute);
      const words = has === null ? "not labelled" : wanted === null ? has : `${has}, not ${wanted}`;
      return element(
        "span",
        { class: "differs" },
        element("span", { class: "soft" }, `${attribute} `),
        words,
      );
    });
    return element("span", { class: "notes" }, ...lines);
  }

  #words() {
    return this.garment.changes.length
      ? { each: "exactly as asked", all: "exactly as asked" }
      : { each: "the same attributes", all: "with the same attributes" };
  }

  #places() {
    return new Map([...this.#cards].map(([row, node]) => [row, node.getBoundingClientRect()]));
  }

  #move(before) {
    for (const [row, node] of this.#cards) {
      const from = before.get(row);
      if (!from) continue;
      for (const moving of node.getAnimations()) moving.cancel();
      const to = node.getBoundingClientRect();
      const [x, y] = [from.left - to.left, from.top - to.top];
      if (x || y)
        node.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], {
          duration: 220,
          easing: "ease-out",
        });
    }
  }

  #summary(items) {
    const exact = items.filter((item) => item.matches).length;
    if (!items.length) return "Nothing in the gallery fits these filters.";
    if (!this.garment.areLabelled) return "No garment here is labelled; these come nearest";
    if (!exact) return `None ${this.#words().all}; these come nearest`;
    return `${exact === items.length ? "All " : ""}${exact} ${this.#words().all}`;
  }

  #say(items) {
    const text = this.#summary(items);
    byId("summary").textContent = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      byId("announcement").textContent = items.length
        ? `${plural(items.length, "result", "results")}. ${text}.`
        : text;
    }, QUIET);
  }
}
