// One picture: the file, as it was given, and what has become of it.

let next = 1;

/** `state` is waiting, asking, answered or failed; `answer` is that of the service, `stages` where its time went. */
export class Picture {
  constructor({ file, name }) {
    this.id = next++;
    this.file = file;
    this.name = name || "pasted picture";
    this.explanations = new Map(); // by index of the label
    this.wait();
  }

  /** To be asked for, as if for the first time. */
  wait() {
    this.state = "waiting";
    this.answer = null;
    this.error = null;
    this.stages = [];
    this.totalMs = null;
    this.explanations.clear();
  }

  get best() {
    return this.answer?.predictions[0] ?? null;
  }

  get isDone() {
    return this.state === "answered" || this.state === "failed";
  }

  get isUnsure() {
    return this.answer?.uncertain === true;
  }

  /** What the body is said to be. The service looks at the bytes alone, and takes no text. */
  get type() {
    return this.file.type.startsWith("image/") ? this.file.type : "application/octet-stream";
  }

  /** Its bytes. Raises where the file has gone or changed since it was chosen. */
  async bytes() {
    try {
      return await this.file.arrayBuffer();
    } catch {
      throw new Error("The file can no longer be read: it has been moved or changed. Choose it again.");
    }
  }
}
