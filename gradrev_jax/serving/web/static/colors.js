// Swatches for values that name a colour.

import { element } from "./dom.js";

// Names of shops that CSS does not know.
const COMMON = {
  burgundy: "#6d1a2d",
  charcoal: "#3f4347",
  cream: "#f7efd9",
  denim: "#3d5a80",
  copper: "#b06a3b",
  "dark blue": "#1d3461",
  "light blue": "#a9cfe8",
  mauve: "#b784a7",
  mustard: "#d5a021",
  "navy blue": "#1f2a4d",
  nude: "#e6c3a9",
  "off white": "#f5f2e8",
  peach: "#fbc9a7",
  rose: "#e38aa4",
  rust: "#a8482a",
  sand: "#d9c5a0",
  steel: "#8b949c",
  taupe: "#8b7d72",
  wine: "#6b1f33",
  bronze: "#a1703d",
  camel: "#c19a6b",
  apricot: "#f7b57d",
};
const MANY = new Set(["multi", "multicolor", "multicolour", "multi-color", "colorful", "colourful", "mixed"]);

function colorOf(value) {
  const name = value.trim().toLowerCase().replaceAll("_", " ");
  if (COMMON[name]) return COMMON[name];
  if (MANY.has(name)) return "many";
  const css = name.replaceAll(/[\s-]/g, "");
  return /^[a-z]+$/.test(css) && css !== "transparent" && CSS.supports("color", css) && !KEYWORDS.has(css)
    ? css
    : null;
}

// Words that CSS takes for a colour and people do not.
const KEYWORDS = new Set([
  "inherit",
  "initial",
  "unset",
  "revert",
  "currentcolor",
  "canvas",
  "field",
  "mark",
  "highlight",
  "linktext",
  "graytext",
  "buttonface",
  "accentcolor",
]);

/** Returns a function from a value to its swatch, or to null; only where half of the values are colours. */
export function swatches(values) {
  const colors = new Map(values.map((value) => [value, colorOf(value)]));
  const known = [...colors.values()].filter(Boolean).length;
  if (known < 2 || known * 2 < values.length) return () => null;
  return (value) => {
    const color = colors.get(value);
    if (!color) return null;
    const node = element("span", {
      class: color === "many" ? "swatch many" : "swatch",
      "aria-hidden": "true",
    });
    if (color !== "many") node.style.backgroundColor = color;
    return node;
  };
}
