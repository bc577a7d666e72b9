// Filters: only garments that are labelled with one of the values chosen.

import { button, byId, element, redraw } from "./dom.js";
import { Panel } from "./panels.js";

export class Filters {
  /** toggle(attribute, value, event) is called for a value that is chosen or taken back. */
  constructor(shop, garment, toggle) {
    Object.assign(this, { shop, garment, toggle, where: {}, opened: new Set() });
    this.panel = new Panel("filter-panel");
    byId("filter").addEventListener("click", (event) =>
      this.panel.toggle(event.currentTarget, "Show only", () => this.#draw()),
    );
  }

  /** Draws the filters that are on. */
  draw(where) {
    this.where = where;
    const tags = Object.entries(where).flatMap(([attribute, values]) =>
      values.map((value) =>
        element(
          "li",
          { class: "tag quiet" },
          element("span", {}, element("span", { class: "soft" }, `${attribute} `), value),
          button(
            {
              class: "remove",
              "data-key": `${attribute}:${value}`,
              "aria-label": `Remove the filter ${attribute} ${value}`,
            },
            (event) => this.toggle(attribute, value, event),
            "×",
          ),
        ),
      ),
    );
    byId("filters").hidden = tags.length === 0;
    redraw(byId("filters"), tags, byId("filter"));
    this.panel.refresh();
  }

  #draw() {
    return [
      element("p", { class: "panel-title" }, "Show only"),
      ...this.shop.attributes.map((attribute) => this.#attribute(attribute)),
    ];
  }

  #attribute({ name, values }) {
    const chosen = this.where[name] ?? [];
    const rows = values
      .filter((value) => value.count > 0 || chosen.includes(value.name))
      .map((value) => {
        const box = element("input", {
          type: "checkbox",
          "data-key": `${name}:${value.name}`,
          checked: chosen.includes(value.name),
        });
        box.addEventListener("change", (event) => this.toggle(name, value.name, event));
        return element(
          "li",
          {},
          element(
            "label",
            { class: "option" },
            box,
            this.garment.swatchOf(name, value.name),
            element("span", {}, value.name),
            element("span", { class: "count soft" }, value.count.toLocaleString("en")),
          ),
        );
      });
    const node = element(
      "details",
      { open: this.opened.has(name) || chosen.length > 0 },
      element(
        "summary",
        { "data-key": name },
        name,
        chosen.length ? element("span", { class: "soft" }, ` ${chosen.length}`) : null,
      ),
      element("ul", { class: "options" }, ...rows),
    );
    node.addEventListener("toggle", () => {
      this.opened[node.open ? "add" : "delete"](name);
    });
    return node;
  }
}
