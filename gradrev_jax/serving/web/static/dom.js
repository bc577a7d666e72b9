// Builds elements. Text is only ever set as text, so a name or a label is never markup.

export const byId = (id) => document.getElementById(id);

/** Returns a new element; a child that is a string becomes text. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Returns a button that does something. */
export function button(attributes, onClick, ...children) {
  const node = element("button", { type: "button", ...attributes }, ...children);
  node.addEventListener("click", onClick);
  return node;
}

/** Returns text for screen readers alone. */
export const unseen = (text) => element("span", { class: "unseen" }, text);

/** Replaces children, and gives the focus back to the child with the same data-key. */
export function redraw(parent, children, instead = null) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.dataset.key;
  parent.replaceChildren(...children);
  if (!focused) return;
  const again = key && [...parent.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key);
  (again || instead)?.focus({ preventScroll: true });
}

/** Shows a sentence where it matters, with a way to try again. */
export function trouble(place, error = null, again = null) {
  byId(place).replaceChildren(
    ...(error ? [error.message] : []),
    ...(error && again
      ? [
          " ",
          button(
            { class: "plain" },
            () => {
              trouble(place);
              again();
            },
            "Try again",
          ),
        ]
      : []),
  );
}

/** Whether the person asked for less motion. */
export const prefersStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Returns the file name of a gallery's image, without folders and ending, as people read it. */
export function shortName(name) {
  const last = name.split("/").pop();
  return last.replace(/\.(jpe?g|png|webp|gif|bmp)$/i, "") || name;
}

export const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
