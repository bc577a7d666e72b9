// Talks to the server. Whatever goes wrong becomes an error whose message is a sentence.

export class Trouble extends Error {}

function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer. Is it still running?");
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!response.ok || answer === null) {
    throw new Trouble(sentence(answer?.error || `the server answered with an error (${response.status})`));
  }
  return answer;
}

const post = (path, body, signal) =>
  request(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });

let version = null; // of the pictures: an address with it is never asked for again
let attributes = null;

/** Returns the gallery's name and attributes; asked for once, unless that failed. */
export function getAttributes() {
  attributes ??= request("api/attributes").then(
    (answer) => {
      version = answer.version ?? null;
      return answer;
    },
    (error) => {
      attributes = null;
      throw error;
    },
  );
  return attributes;
}

export const getItem = (row) => request(`api/items/${encodeURIComponent(row)}`);
export const getItems = (query, signal) => request(`api/items?${new URLSearchParams(query)}`, { signal });
export const readWords = (text) => post("api/words", { text });

/** Returns the address of a picture; the attributes have to be there. */
export const pictureOf = (row, size) =>
  `images/${row}?size=${size}${version === null ? "" : `&v=${encodeURIComponent(version)}`}`;

export function sendPhoto(file) {
  const body = new FormData();
  body.append("photo", file);
  return request("api/photos", { method: "POST", body });
}

/** Searches: one request at a time, and only the newest answer counts. */
export class Search {
  #number = 0;
  #running = null;
  #waiting = null;

  constructor(onAnswer, onTrouble) {
    this.onAnswer = onAnswer;
    this.onTrouble = onTrouble;
  }

  /** Sends a request at once; an answer still on its way is given up. */
  now(body, context) {
    this.stop();
    this.#send(body, context);
  }

  /** Sends a request as soon as none is on its way; of several that wait only the newest is sent. */
  whenFree(body, context) {
    if (this.#running) this.#waiting = [body, context];
    else this.#send(body, context);
  }

  /** Gives up what is on its way and what waits. */
  stop() {
    this.#running?.abort();
    this.#running = this.#waiting = null;
    this.#number += 1;
  }

  async #send(body, context) {
    const number = ++this.#number;
    const controller = (this.#running = new AbortController());
    let answer = null;
    let trouble = null;
    try {
      answer = await post("api/search", body, controller.signal);
    } catch (error) {
      trouble = error;
    }
    if (number !== this.#number) return;
    this.#running = null;
    const waiting = this.#waiting;
    this.#waiting = null;
    if (trouble) this.onTrouble(trouble, context);
    else this.onAnswer(answer, context);
    if (waiting && number === this.#number) this.#send(...waiting);
  }
}
