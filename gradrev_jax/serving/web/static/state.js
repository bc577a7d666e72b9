// What the person asks for, and its form in the address.

/** Returns a state in which nothing is picked; look null is the run's own, and named null an item of any name. */
export const nothing = () => ({
  item: null,
  named: null,
  photo: null,
  changes: [],
  strength: 1,
  look: null,
  where: {},
  name: "",
});

export const isPicked = (state) => state.item !== null || state.photo !== null;

const encode = (...parts) =>
  parts
    .filter((part) => part !== null)
    .map(encodeURIComponent)
    .join(":");

/** Returns the state as the part of an address after "#". */
export function toAddress(state) {
  const words = [];
  const add = (name, ...parts) => words.push(`${name}=${encode(...parts)}`);
  if (state.item !== null) add("item", state.item, state.named);
  if (state.photo !== null) add("photo", state.photo);
  for (const { attribute, to, unwanted } of state.changes) {
    if (!unwanted.length) add("change", attribute, to);
    for (const value of unwanted) add("not", attribute, value);
  }
  for (const [attribute, values] of Object.entries(state.where)) {
    for (const value of values) add("where", attribute, value);
  }
  if (state.strength !== 1) add("strength", state.strength);
  if (state.look !== null) add("look", state.look);
  if (state.name) add("name", state.name);
  return `#${words.join("&")}`;
}

/** Returns the state of an address; what cannot be read is left out. */
export function fromAddress(hash) {
  const state = nothing();
  for (const word of hash.replace(/^#/, "").split("&")) {
    try {
      const [name, text = ""] = word.split("=", 2);
      const [first, second = null] = text.split(":", 2).map(decodeURIComponent);
      READERS[name]?.(state, first, second);
    } catch {
      /* a broken escape */
    }
  }
  return state;
}

function readNumber(state, name, text) {
  const number = Number.parseFloat(text);
  if (number >= 0 && number <= 2) state[name] = number;
}

const READERS = {
  item: (state, row, name) => {
    if (/^\d{1,9}$/.test(row)) [state.item, state.named, state.photo] = [Number(row), name, null];
  },
  photo: (state, id) => {
    if (id) [state.item, state.named, state.photo] = [null, null, id];
  },
  change: (state, attribute, to) => {
    state.changes = withChange(state.changes, attribute, to);
  },
  not: (state, attribute, value) => {
    if (value !== null) state.changes = withChange(state.changes, attribute, null, [value]);
  },
  where: (state, attribute, value) => {
    if (value !== null && !state.where[attribute]?.includes(value))
      state.where = toggled(state.where, attribute, value);
  },
  strength: (state, text) => readNumber(state, "strength", text),
  look: (state, text) => readNumber(state, "look", text),
  name: (state, text) => {
    state.name = text.slice(0, 200);
  },
};

/**
 * Returns the changes with one more; a second one of the same attribute takes the first one's place, but unwanted
 * values add up, and leave a value in place that is another.
 */
export function withChange(changes, attribute, to, unwanted = []) {
  const before = changes.find((change) => change.attribute === attribute);
  if (isGranted(before, unwanted)) return changes;
  const all = unwanted.length ? [...new Set([...(before?.unwanted ?? []), ...unwanted])] : [];
  return [
    ...changes.filter((change) => change.attribute !== attribute),
    { attribute, to, unwanted: all },
  ];
}

/** Whether a change makes sure already that an attribute has none of some unwanted values. */
export function isGranted(change, unwanted) {
  if (!change || !unwanted.length) return false;
  if (change.to !== null) return !unwanted.includes(change.to);
  return unwanted.every((value) => change.unwanted.includes(value));
}

/** Returns the filters with a value added, or taken out if it is there. */
export function toggled(where, attribute, value) {
  const now = where[attribute] || [];
  const values = now.includes(value) ? now.filter((other) => other !== value) : [...now, value];
  const { [attribute]: _, ...others } = where;
  return values.length ? { ...others, [attribute]: values } : others;
}

/** The steps since a garment was picked, for undo and redo. */
export class Steps {
  #all = [];
  #at = -1;

  get index() {
    return this.#at;
  }
  get canUndo() {
    return this.#at > 0;
  }
  get canRedo() {
    return this.#at < this.#all.length - 1;
  }

  start(state) {
    this.#all = [state];
    this.#at = 0;
  }

  add(state) {
    this.#all = [...this.#all.slice(0, this.#at + 1), state];
    this.#at += 1;
  }

  replace(state) {
    this.#all[this.#at] = state;
  }
  undo() {
    return this.#all[--this.#at];
  }
  redo() {
    return this.#all[++this.#at];
  }

  /** Follows the browser to one of its own addresses: to the step it was, or to a new beginning. */
  follow(index, state) {
    const step = this.#all[index];
    if (step && toAddress(step) === toAddress(state)) this.#at = index;
    else this.start(state);
  }
}
