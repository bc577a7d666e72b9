// The sentence that is asked: changes with words, questions back, undo and redo, the link.

import { readWords } from "./api.js";
import { button, byId, element, redraw, unseen } from "./dom.js";
import { isGranted } from "./state.js";

export class Asking {
  /** garment: what was picked; apply(changes, event), remove(attribute, event) change what is asked. */
  constructor(garment, { apply, remove }) {
    Object.assign(this, { garment, apply, remove, questions: [] });
    this.input = byId("words");
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#read(event);
    });
  }

  /** Draws the changes. */
  draw(changes) {
    byId("changes").hidden = changes.length === 0;
    redraw(
      byId("changes"),
      changes.map((change) => this.#tag(change)),
      byId("ask-title"),
    );
    this.input.placeholder = changes.length ? "and …" : "red, with long sleeves";
  }

  /** Forgets questions and answers of what was asked before. */
  clear() {
    this.reading = null;
    this.questions = [];
    byId("replies").replaceChildren();
    this.input.value = "";
  }

  #tag(change) {
    const { attribute, to } = change;
    const text = this.garment.inWords(change);
    return element(
      "li",
      { class: "tag" },
      this.garment.swatchOf(attribute, to),
      element(
        "span",
        { class: "to" },
        to === null || this.garment.isShared(to)
          ? element("span", { class: "soft" }, `${attribute} `)
          : unseen(`${attribute} `),
        text,
      ),
      button(
        {
          "data-key": attribute,
          class: "remove",
          "aria-label": `Remove ${attribute} ${text}`,
        },
        (event) => this.remove(attribute, event),
        "×",
      ),
    );
  }

  async #read(event) {
    const text = this.input.value.trim();
    if (!text) return;
    const reading = (this.reading = {});
    let answer;
    try {
      answer = await readWords(text);
    } catch (error) {
      if (reading === this.reading) this.#reply([error.message]);
      return;
    }
    if (reading !== this.reading) return;
    this.questions = answer.questions;
    const isThere = ({ attribute, to, unwanted }) => {
      if (to !== null) return to === this.garment.wanted(attribute);
      if (!unwanted.length) return this.garment.isRemoved(attribute);
      return isGranted(this.garment.change(attribute), unwanted);
    };
    const kept = answer.changes.filter((change) => !isThere(change));
    const sentences = answer.changes
      .filter(isThere)
      .map((change) => `The ${change.attribute} is ${this.garment.inWords(change)} already.`);
    if (answer.unknown.length) {
      const words = answer.unknown.map((word) => `“${word}”`).join(", ");
      sentences.push(`No value of this gallery is called ${words}.`);
    }
    if (!answer.changes.length && !answer.questions.length && !answer.unknown.length) {
      sentences.push("Nothing in this names a value of the gallery.");
    }
    this.input.value = "";
    this.#reply(sentences);
    if (kept.length) this.apply(kept, event);
  }

  #reply(sentences) {
    const asked = this.questions.map((question) =>
      element(
        "div",
        { class: "question", role: "group", "aria-label": `Which “${question.words}”?` },
        element("p", {}, `Which “${question.words}”?`),
        ...question.options.map((change) =>
          button(
            { class: "button small" },
            (event) => {
              this.questions = this.questions.filter((other) => other !== question);
              this.#reply([]);
              this.apply([change], event);
              if (!byId("replies").contains(document.activeElement))
                this.input.focus({ preventScroll: true });
            },
            element("span", { class: "soft" }, `${change.attribute} `),
            this.garment.swatchOf(change.attribute, change.to),
            this.garment.inWords(change),
          ),
        ),
      ),
    );
    byId("replies").replaceChildren(...sentences.map((sentence) => element("p", {}, sentence)), ...asked);
  }
}
