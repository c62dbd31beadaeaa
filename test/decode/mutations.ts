/** Messages that no producer writes. */

export type Random = (below: number) => number;

/** A 32-bit linear congruential generator: the same bytes in every run. */
export function random(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** A copy with one to four changes: a random byte, a byte of `telling`, a moved piece, or a removed byte. */
export function mutated(seed: Uint8Array, telling: Uint8Array, next: Random): Buffer {
  const message = Buffer.from(seed);
  for (let m = next(4); m >= 0; m--) {
    const at = next(message.length);
    const kind = next(4);
    if (kind === 0) message[at] = next(256);
    else if (kind === 1) message[at] = telling[next(telling.length)]!;
    else if (kind === 2) message.copyWithin(at, next(message.length));
    else message.copyWithin(at, at + 1);
  }
  return message;
}
