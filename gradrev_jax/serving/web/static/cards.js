// The cards of the gallery and of the results.

import { pictureOf } from "./api.js";
import { element, shortName } from "./dom.js";
import { nothing, toAddress } from "./state.js";

/** Returns the picture of a garment in a tile, at the sizes that screens need. */
export function picture(
  row,
  alt,
  { widths = [256, 512], sizes = "(max-width: 640px) 46vw, 260px", lazy = true } = {},
) {
  const image = element("img", {
    alt,
    decoding: "async",
    loading: lazy ? "lazy" : "eager",
    width: 256,
    height: 256,
    sizes,
  });
  image.addEventListener("error", () => image.parentElement?.classList.add("missing"));
  image.srcset = widths.map((width) => `${pictureOf(row, width)} ${width}w`).join(", ");
  image.src = pictureOf(row, widths[0]);
  return image;
}

/** Returns the known values of a garment in one line. */
export const valuesOf = (item) =>
  Object.values(item.labels)
    .filter((value) => value !== null)
    .join(" · ");

/** Returns the address of a garment: with its name, because a gallery that changes has others in its rows. */
function addressOf({ item, name }) {
  try {
    return toAddress({ ...nothing(), item, named: name });
  } catch {
    return toAddress({ ...nothing(), item }); // a name that is no text
  }
}

/** Returns a list item with a link to a garment; the filters and the look of a state stay. */
export function card(item, notes, { lazy = true } = {}) {
  const link = element(
    "a",
    { class: "card", href: addressOf(item), "data-item": item.item },
    element("span", { class: "tile" }, picture(item.item, "", { lazy })),
    element("span", { class: "name", title: item.name }, shortName(item.name)),
    notes,
  );
  return element("li", {}, link);
}
