const SECOND_MS = 1000;

/** Lets a fixed number of items through each second, and counts the others. */
export class Pace {
  /** How many were held back since the last `takeHeld`. */
  #held = 0;
  #second = Number.NEGATIVE_INFINITY;
  #passed = 0;
  readonly #perSecond: number;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  admit(now: number): boolean {
    const second = Math.floor(now / SECOND_MS);
    if (second !== this.#second) {
      this.#second = second;
      this.#passed = 0;
    }
    if (this.#passed >= this.#perSecond) {
      this.hold();
      return false;
    }
    this.#passed += 1;
    return true;
  }

  /** Counts an item that is held back for another reason. */
  hold(): void {
    this.#held += 1;
  }

  takeHeld(): number {
    const held = this.#held;
    this.#held = 0;
    return held;
  }
}
