// Panels that open at a button: the values of an attribute, and the filters.

import { element } from "./dom.js";

const KEYS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

export class Panel {
  /** draw(panel) fills the panel each time that it opens or is refreshed. */
  constructor(id) {
    this.node = element("div", { id, class: "panel", popover: "auto", role: "dialog" });
    this.anchor = null;
    document.body.append(this.node);
    this.node.addEventListener("toggle", (event) => {
      if (event.newState === "closed") this.#closed();
    });
    this.node.addEventListener("keydown", (event) => this.#move(event));
    for (const name of ["scroll", "resize"])
      addEventListener(name, () => this.#place(), { passive: true, capture: true });
  }

  get isOpen() {
    return this.anchor !== null;
  }

  /** Opens at a button, or closes where it is open there. */
  toggle(anchor, label, draw) {
    const again = anchor === this.anchor; // the press has hidden the panel, and its toggle event is still to come
    this.close();
    if (again) return;
    this.draw = draw;
    this.anchor = anchor;
    anchor.setAttribute("aria-expanded", "true");
    this.node.setAttribute("aria-label", label);
    this.node.replaceChildren(...draw());
    this.node.showPopover();
    this.node.scrollTop = 0;
    this.#place();
    (this.node.querySelector("[aria-current]") || this.#stops()[0])?.focus({ preventScroll: true });
  }

  /** Draws anew what the panel shows, if it is open, at another button if its own is gone. */
  refresh(anchor = this.anchor) {
    if (!this.isOpen) return;
    this.anchor = anchor;
    anchor.setAttribute("aria-expanded", "true");
    const stops = this.#stops();
    const at = stops.indexOf(document.activeElement);
    const key = document.activeElement?.dataset?.key;
    this.node.replaceChildren(...this.draw());
    const now = this.#stops();
    if (at >= 0) (now.find((stop) => stop.dataset.key === key) || now[Math.min(at, now.length - 1)])?.focus();
    this.#place();
  }

  close({ focus = true } = {}) {
    if (!this.isOpen) return;
    const anchor = this.anchor;
    this.node.hidePopover();
    this.#closed();
    if (focus) anchor.focus({ preventScroll: true });
  }

  #closed() {
    this.anchor?.setAttribute("aria-expanded", "false");
    this.anchor = null;
  }

  #stops() {
    return [...this.node.querySelectorAll("button, input, summary")].filter((node) => node.checkVisibility());
  }

  #move(event) {
    const stops = this.#stops();
    const at = stops.indexOf(document.activeElement);
    let next = null;
    if (event.key in KEYS) next = stops[(at + KEYS[event.key] + stops.length) % stops.length];
    else if (event.key === "Home") next = stops[0];
    else if (event.key === "End") next = stops.at(-1);
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  // On a phone the stylesheet puts it at the bottom of the screen.
  #place() {
    if (!this.isOpen || !this.anchor.isConnected) return;
    const at = this.anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const below = at.bottom + 6;
    const top =
      below + height > innerHeight - 8
        ? Math.max(8, Math.min(at.top - height - 6, innerHeight - height - 8))
        : below;
    const fits = below + height <= innerHeight - 8 || at.top - height - 6 >= 8;
    const left = fits ? at.left : at.right + 8;
    this.node.style.setProperty("--left", `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`);
    this.node.style.setProperty("--top", `${top}px`);
  }
}
