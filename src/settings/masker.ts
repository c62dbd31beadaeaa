/** Masks known secrets in a text, whole or in pieces. Pure. */
import { MASK } from './url-secrets.ts';

/** A shorter secret would match everywhere, and protects nothing. */
const MIN_SECRET_CHARACTERS = 4;

/** Too little of a shorter secret survives in base64: it would match everywhere. */
const MIN_BASE64_CHARACTERS = 6;

const inJson = (text: string) => JSON.stringify(text).slice(1, -1);
const hex = (unit: string) => unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');

/**
 * Returns the three base64 forms of the secret, one per offset within a group of 3 bytes, without the characters that
 * also hold bits of the bytes around it.
 */
function inBase64(secret: string): string[] {
  if (secret.length < MIN_BASE64_CHARACTERS) return [];
  return [0, 1, 2].map((before) => {
    const bytes = Buffer.from(' '.repeat(before) + secret);
    const whole = bytes.toString('base64').replace(/=+$/, '');
    return whole.slice(Math.ceil((before * 8) / 6), bytes.length % 3 === 0 ? undefined : -1);
  });
}

/**
 * Returns how many characters at the end of the text are the beginning of the form; 0 if these would be the whole form,
 * or fewer than a secret has.
 */
function overlap(text: string, form: string): number {
  for (let length = Math.min(form.length - 1, text.length); length >= MIN_SECRET_CHARACTERS; length--) {
    if (text.endsWith(form.slice(0, length))) return length;
  }
  return 0;
}

export class Masker {
  readonly #forms: readonly string[];
  readonly #longest: number;
  #carry = '';

  /** Masks each secret as it is, as JSON and URLs write it, and in base64, even among other bytes. */
  constructor(secrets: readonly string[]) {
    const long = secrets.filter(({ length }) => length >= MIN_SECRET_CHARACTERS);
    const forms = long.flatMap((secret) => [
      secret,
      inJson(secret),
      // As V8 writes it in heap snapshots.
      inJson(secret).replace(/[^ -~]/g, (unit) => `\\u${hex(unit)}`),
      encodeURIComponent(secret.toWellFormed()),
      ...inBase64(secret),
    ]);
    this.#forms = [...new Set(forms)];
    this.#longest = Math.max(1, ...this.#forms.map(({ length }) => length));
  }

  /** Returns the whole text, masked. If the text was cut inside a secret, its last part is masked too. */
  mask(text: string): string {
    // The longest overlap of any form: the beginning of one form may be the end of another's.
    const cut = Math.max(0, ...this.#forms.map((form) => overlap(text, form)));
    return covered(text, [...this.#spans(text), { start: text.length - cut, end: text.length }]);
  }

  /** Returns what can be passed on, masked. Keeps the rest, because a secret may continue in the next piece. */
  push(piece: string): string {
    const text = this.#carry + piece;
    const spans = this.#spans(text);
    const safe = Math.max(0, text.length - (this.#longest - 1));
    // Do not cut inside a secret: the part that is left would not be recognized.
    const end = Math.min(safe, ...spans.filter(({ end }) => end > safe).map(({ start }) => start));
    this.#carry = text.slice(end);
    return covered(text.slice(0, end), spans);
  }

  end(): string {
    const text = this.#carry;
    this.#carry = '';
    return covered(text, this.#spans(text));
  }

  /** Returns where the secrets are. One may contain another. */
  #spans(text: string): Span[] {
    const spans: Span[] = [];
    for (const form of this.#forms) {
      for (let start = text.indexOf(form); start >= 0; start = text.indexOf(form, start + form.length))
        spans.push({ start, end: start + form.length });
    }
    return spans;
  }
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** Returns the text with one mask for each run of overlapping spans. */
function covered(text: string, spans: readonly Span[]): string {
  let masked = '';
  let at = 0;
  for (const { start, end } of [...spans].sort((a, b) => a.start - b.start)) {
    if (start >= text.length) break;
    if (start >= at) masked += text.slice(at, start) + MASK;
    at = Math.max(at, end);
  }
  return masked + text.slice(at);
}
