/** Takes known secrets out of a text that comes in pieces. Pure. */

const MASK = '***';
/** A shorter one is found everywhere, and protects nothing. */
const MIN_SECRET_CHARACTERS = 4;

const inJson = (text: string) => JSON.stringify(text).slice(1, -1);
const hex = (unit: string) => unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');

export class Masker {
  readonly #forms: readonly string[];
  readonly #longest: number;
  #carry = '';

  /** What is masked is each as it is, as JSON writes it, and as URLs do. */
  constructor(secrets: readonly string[]) {
    const long = secrets.filter(({ length }) => length >= MIN_SECRET_CHARACTERS);
    const forms = long.flatMap((secret) => [
      secret,
      inJson(secret),
      // As V8 writes heap snapshots.
      inJson(secret).replace(/[^ -~]/g, (unit) => `\\u${hex(unit)}`),
      encodeURIComponent(secret.toWellFormed()),
    ]);
    // The longest first: one that holds another is not to be cut.
    this.#forms = [...new Set(forms)].sort((a, b) => b.length - a.length);
    this.#longest = this.#forms[0]?.length ?? 1;
  }

  /** What can be given on; the rest is kept, for a secret may go on in the next piece. */
  push(piece: string): string {
    const text = this.#masked(this.#carry + piece);
    const end = Math.max(0, text.length - (this.#longest - 1));
    this.#carry = text.slice(end);
    return text.slice(0, end);
  }

  end(): string {
    const text = this.#carry;
    this.#carry = '';
    return text;
  }

  #masked(text: string): string {
    return this.#forms.reduce((masked, form) => masked.replaceAll(form, MASK), text);
  }
}
