// Photographs of the person's own: chosen, or dropped anywhere on the page.

import { sendPhoto } from "./api.js";
import { byId, element } from "./dom.js";

const LARGEST = 768;

/** Photographs that this page has sent; their pictures never come back from the server. */
export class Photos {
  #sent = new Map();

  /** onPhoto(id, event) is called when a photograph has arrived, onTrouble(error) when it has not. */
  constructor(onPhoto, onTrouble) {
    Object.assign(this, { onPhoto, onTrouble });
    const input = byId("photo");
    input.addEventListener("change", (event) => {
      const [file] = input.files;
      input.value = ""; // so that the same file can be chosen again
      if (file) this.#use(file, event);
    });
    this.#listenToDrops();
  }

  get(id) {
    return this.#sent.get(id);
  }

  async #use(file, event) {
    byId("doing").textContent = "Reading the photograph …";
    try {
      const [answer, canvas] = await Promise.all([sendPhoto(file), drawn(file)]);
      this.#sent.set(answer.photo, {
        item: null,
        name: file.name,
        labels: answer.labels,
        predicted: answer.predicted,
        canvas,
      });
      this.onPhoto(answer.photo, event);
    } catch (error) {
      this.onTrouble(error);
    } finally {
      byId("doing").textContent = "";
    }
  }

  #listenToDrops() {
    const over = byId("drop");
    let isOwn = false; // a picture of the page itself is dragged
    addEventListener("dragstart", () => {
      isOwn = true;
    });
    addEventListener("dragend", () => {
      isOwn = false;
    });
    const hasFile = (event) => !isOwn && event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!hasFile(event)) return;
      event.preventDefault();
      over.hidden = false;
    });
    addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) over.hidden = true;
    });
    addEventListener("drop", (event) => {
      over.hidden = true;
      if (!hasFile(event)) return;
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) this.#use(file, event);
    });
  }
}

/** Returns a canvas with the picture; empty where the browser cannot read the file, whatever the server can. */
async function drawn(file) {
  const canvas = element("canvas", { width: 1, height: 1 });
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
  } catch {
    /* shown empty */
  }
  return canvas;
}
