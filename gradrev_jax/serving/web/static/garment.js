// What was picked: its picture, its attributes, and the two sliders.

import { picture, valuesOf } from "./cards.js";
import { swatches } from "./colors.js";
import { button, byId, element, redraw, shortName, unseen } from "./dom.js";
import { Panel } from "./panels.js";

const LIKELY = 0.5;
const UNKNOWN = 0.15; // probabilities below say nothing, or that there is nothing to be labelled
const surely = (probability) => (probability < LIKELY ? "perhaps" : "likely");
const percent = (probability) => `${Math.round(100 * probability)} %`;

export class Garment {
  /** shop: the answer of api/attributes; choose(attribute, value, event) is called for a value that is chosen. */
  constructor(shop, choose) {
    this.shop = shop;
    this.choose = choose;
    this.counts = null;
    this.panel = new Panel("values");
    this.swatch = new Map(
      shop.attributes.map(({ name, values }) => [name, swatches(values.map((value) => value.name))]),
    );
  }

  /** Draws what was picked, and what is asked of it. */
  draw(item, changes) {
    if (item !== this.item) {
      this.panel.close({ focus: false });
      this.#drawPicture(item);
    }
    Object.assign(this, { item, changes });
    redraw(
      byId("attributes"),
      this.shop.attributes.map(({ name }) => this.#row(name)),
    );
    if (this.panel.isOpen) this.panel.refresh(this.#chip(this.open));
  }

  /** Takes the number of exact matches per value; null: not known yet. */
  take(counts) {
    this.counts = counts;
    this.panel.refresh();
  }

  /** Returns the value of an attribute that exact results have; null: any that is not unwanted. */
  wanted(attribute) {
    const change = this.change(attribute);
    if (change) return change.to;
    return this.item.canvas ? (this.item.predicted[attribute]?.value ?? null) : this.label(attribute);
  }

  /** Whether the value that the garment has of an attribute was removed. */
  isRemoved(attribute) {
    const change = this.change(attribute);
    return change?.to === null && !change.unwanted.length;
  }

  /** Returns a change in words: the value, or those that results must not have. */
  inWords({ attribute, to, unwanted = [] }) {
    if (to !== null) return to;
    if (unwanted.length) return `not ${unwanted.join(" or ")}`;
    return `not ${this.label(attribute) ?? this.item.predicted[attribute]?.value ?? attribute}`;
  }

  /** Returns the change of an attribute, if there is one. */
  change(attribute) {
    return this.changes.find((other) => other.attribute === attribute);
  }

  /** Returns the value that the garment is labelled with, or null. */
  label(attribute) {
    return this.item.labels[attribute] ?? null;
  }

  /** Returns the value that the garment has, or seems to have: then with a probability. */
  own(attribute) {
    const label = this.label(attribute);
    if (label !== null) return { value: label, probability: null };
    const predicted = this.item.predicted?.[attribute];
    return predicted && predicted.probability >= UNKNOWN ? predicted : { value: null, probability: null };
  }

  /** Returns the swatch of a value, or null. */
  swatchOf(attribute, value) {
    return value === null ? null : (this.swatch.get(attribute)?.(value) ?? null);
  }

  /** Whether any garment is labelled for an attribute; otherwise nothing can match. */
  isLabelled(attribute) {
    return this.#valuesOf(attribute).some((value) => value.count > 0);
  }

  /** Whether garments are labelled at all. */
  get areLabelled() {
    return this.shop.attributes.some(({ name }) => this.isLabelled(name));
  }

  /** Whether other attributes have a value of the same name, so that it says too little by itself. */
  isShared(value) {
    return this.shop.attributes.filter(({ values }) => values.some(({ name }) => name === value)).length > 1;
  }

  #valuesOf(attribute) {
    return this.shop.attributes.find((other) => other.name === attribute).values;
  }

  #drawPicture(item) {
    const label = [shortName(item.name), valuesOf(item)].filter(Boolean).join(": ");
    byId("garment-name").textContent = shortName(item.name);
    byId("garment-name").title = item.name;
    byId("photo-note").hidden = !item.canvas;
    const shown =
      item.canvas ??
      picture(item.item, label, {
        widths: [256, 512, 768],
        sizes: "(max-width: 640px) 40vw, 360px",
        lazy: false,
      });
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
    const change = this.change(attribute);
    const parts = [element("span", { class: "attribute" }, attribute)];
    if (change) {
      const isUnwanted = change.to === null; // the words say what it is not
      parts.push(
        element(
          "span",
          { class: "value" },
          this.swatchOf(attribute, change.to),
          element("strong", {}, this.inWords(change)),
          value === null || isUnwanted
            ? null
            : element("span", { class: "was soft" }, unseen("instead of "), element("s", {}, value)),
        ),
      );
    } else {
      const likely =
        probability === null
          ? null
          : element(
              "span",
              { class: "soft", title: `predicted, ${percent(probability)}` },
              ` ${surely(probability)}`,
            );
      const text = value ?? element("span", { class: "soft unlabelled" }, "not labelled");
      parts.push(element("span", { class: "value" }, this.swatchOf(attribute, value), text, likely));
    }
    const classes = [
      "chip",
      change ? "changed" : "",
      this.isShared(change ? change.to : value) || (value ?? change?.to ?? null) === null ? "named" : "",
    ];
    const chip = button(
      {
        class: classes.filter(Boolean).join(" "),
        "data-key": attribute,
        "aria-haspopup": "dialog",
        "aria-expanded": "false",
      },
      (event) => this.#openValues(attribute, event.currentTarget),
      ...parts,
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
    const { value: own, probability } = this.own(attribute);
    const wanted = this.wanted(attribute);
    const values = this.#valuesOf(attribute);
    const isLabelled = this.isLabelled(attribute);
    const offered = values
      .map((value) => value.name)
      .filter((value) => !isLabelled || counts[value] > 0 || value === wanted || value === own);
    const rows = offered.map((value) =>
      this.#option(attribute, value, {
        count: value === this.label(attribute) ? 0 : (counts[value] ?? 0), // its own would count itself
        note: value !== own ? "" : probability === null ? "as it is" : surely(probability),
        isCurrent: value === wanted,
      }),
    );
    rows.push(this.#option(attribute, null, { isCurrent: this.isRemoved(attribute) }));
    const note = offered.some((value) => value !== own && counts[value] > 0)
      ? null
      : element(
          "p",
          { class: "soft small" },
          isLabelled
            ? `With another ${attribute}, nothing matches exactly.`
            : `No garment here is labelled for ${attribute}: the likeliest are shown.`,
        );
    return [title, element("ul", { class: "options" }, ...rows), ...(note ? [note] : [])];
  }

  #option(attribute, value, { count = 0, note = "", isCurrent }) {
    const text = this.inWords({ attribute, to: value });
    const choose = (event) => {
      this.panel.close();
      this.choose(attribute, value, event);
    };
    return element(
      "li",
      {},
      button(
        { class: "option", "data-key": text, "aria-current": isCurrent ? "true" : null },
        choose,
        this.swatchOf(attribute, value),
        element("span", {}, text),
        note ? element("span", { class: "soft small" }, ` ${note}`) : null,
        count === 0
          ? null
          : element(
              "span",
              { class: "count soft" },
              count.toLocaleString("en"),
              unseen(count === 1 ? " exact match" : " exact matches"),
            ),
      ),
    );
  }
}
