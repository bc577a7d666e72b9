// Talks to the server. Whatever goes wrong becomes an error whose message is a sentence.

export class Trouble extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
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
    throw new Trouble(answer?.error || `The server answered with an error (${response.status}).`, response.status);
  }
  return answer;
}

const post = (path, body, signal) =>
  request(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });

export const getAttributes = () => request("api/attributes");
export const getItem = (row) => request(`api/items/${encodeURIComponent(row)}`);
export const getItems = (query, signal) => request(`api/items?${new URLSearchParams(query)}`, { signal });
export const readWords = (text) => post("api/words", { text });
export const pictureOf = (row, size) => `images/${row}?size=${size}`;

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
