// What was picked: its picture, its attributes, and the two sliders.

import { picture, valuesOf } from "./cards.js";
import { swatches } from "./colors.js";
import { button, byId, element, redraw, shortName, unseen } from "./dom.js";
import { Panel } from "./panels.js";

const percent = (probability) => `${Math.round(100 * probability)} %`;

export class Garment {
  /** shop: the answer of api/attributes; choose(attribute, value, event) is called for a value that is chosen. */
  constructor(shop, choose) {
    this.shop = shop;
    this.choose = choose;
    this.counts = null;
    this.panel = new Panel("values");
    this.swatch = new Map(shop.attributes.map(({ name, values }) => [name, swatches(values.map((value) => value.name))]));
  }

  /** Draws what was picked, and what is asked of it. */
  draw(item, changes) {
    if (item !== this.item) {
      this.panel.close({ focus: false });
      this.#drawPicture(item);
    }
    Object.assign(this, { item, changes });
    redraw(byId("attributes"), this.shop.attributes.map(({ name }) => this.#row(name)));
    if (this.panel.isOpen) this.panel.refresh(this.#chip(this.open));
  }

  /** Takes the number of exact matches per value; null: not known yet. */
  take(counts) {
    this.counts = counts;
    this.panel.refresh();
  }

  /** Returns the value of an attribute that results should have; null: any, or not known. */
  wanted(attribute) {
    const change = this.changes.find((other) => other.attribute === attribute);
    return change ? change.to : this.own(attribute).value;
  }

  /** Returns the value that the garment itself has, and how likely if that is a prediction. */
  own(attribute) {
    const label = this.item.labels[attribute] ?? null;
    if (label !== null) return { value: label, probability: null };
    return this.item.predicted?.[attribute] ?? { value: null, probability: null };
  }

  /** Returns the swatch of a value, or null. */
  swatchOf(attribute, value) {
    return value === null ? null : this.swatch.get(attribute)?.(value) ?? null;
  }

  /** Whether other attributes have a value of the same name, so that it says too little by itself. */
  isShared(value) {
    return this.shop.attributes.filter(({ values }) => values.some(({ name }) => name === value)).length > 1;
  }

  /** Whether anything is asked of results: a change, or a label. */
  get asks() {
    return this.changes.length > 0 || Object.values(this.item.labels).some((label) => label !== null);
  }

  #drawPicture(item) {
    const label = [shortName(item.name), valuesOf(item)].filter(Boolean).join(": ");
    byId("garment-name").textContent = shortName(item.name);
    byId("garment-name").title = item.name;
    byId("photo-note").hidden = !item.canvas;
    const shown = item.canvas ?? picture(item.item, label, { widths: [256, 512, 768], sizes: "(max-width: 640px) 40vw, 360px", lazy: false });
    if (item.canvas) {
      item.canvas.setAttribute("role", "img");
      item.canvas.setAttribute("aria-label", label);
    }
    byId("garment-picture").replaceChildren(shown);
    byId("garment-picture").classList.remove("missing");
  }

  #chip(attribute) {
    return [...byId("attributes").querySelectorAll("button")].find((node) => node.dataset.key === attribute);
  }

  #row(attribute) {
    const { value, probability } = this.own(attribute);
    const change = this.changes.find((other) => other.attribute === attribute);
    const parts = [element("span", { class: "attribute" }, attribute)];
    if (change) {
      const to = change.to ?? "any";
      parts.push(element("span", { class: "value" }, this.swatchOf(attribute, change.to), element("strong", {}, to),
        value === null ? null : element("span", { class: "was soft" }, unseen("instead of "), element("s", {}, value))));
    } else {
      const likely = probability === null ? null
        : element("span", { class: "soft", title: `predicted, ${percent(probability)}` }, " likely");
      parts.push(element("span", { class: "value" }, this.swatchOf(attribute, value), value ?? "not known", likely));
    }
    const classes = ["chip", change ? "changed" : "", this.isShared(change ? change.to : value) ? "named" : ""];
    const chip = button(
      { class: classes.filter(Boolean).join(" "), "data-key": attribute, "aria-haspopup": "dialog", "aria-expanded": "false" },
      (event) => this.#openValues(attribute, event.currentTarget), ...parts,
    );
    return element("li", {}, chip);
  }

  #openValues(attribute, chip) {
    this.open = attribute;
    this.panel.toggle(chip, `Another ${attribute}`, () => this.#values(attribute));
  }

  #values(attribute) {
    const title = element("p", { class: "panel-title" }, attribute);
    if (!this.counts) return [title, element("p", { class: "soft", role: "status" }, "Counting …")];
    const counts = this.counts[attribute] ?? {};
    const { value: own } = this.own(attribute);
    const wanted = this.wanted(attribute);
    const values = this.shop.attributes.find((other) => other.name === attribute).values.map((value) => value.name);
    const offered = values.filter((value) => counts[value] > 0 || value === wanted || value === own);
    const rows = offered.map((value) => this.#option(attribute, value, { count: counts[value] ?? 0, isOwn: value === own, isCurrent: value === wanted }));
    rows.push(this.#option(attribute, null, { isCurrent: wanted === null && own !== null }));
    const note = offered.some((value) => value !== own && counts[value] > 0) ? null
      : element("p", { class: "soft small" }, `With another ${attribute}, nothing matches exactly.`);
    return [title, element("ul", { class: "options" }, ...rows), ...(note ? [note] : [])];
  }

  #option(attribute, value, { count = 0, isOwn = false, isCurrent }) {
    const text = value ?? "any";
    const choose = (event) => {
      this.panel.close();
      this.choose(attribute, value, event);
    };
    return element("li", {}, button(
      { class: "option", "data-key": text, "aria-current": isCurrent ? "true" : null }, choose,
      this.swatchOf(attribute, value), element("span", {}, text),
      isOwn ? element("span", { class: "soft small" }, " as it is") : null,
      count === 0 ? null : element("span", { class: "count soft" }, count.toLocaleString("en"), unseen(count === 1 ? " exact match" : " exact matches")),
    ));
  }
}
