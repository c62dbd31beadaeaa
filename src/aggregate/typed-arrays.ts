/** Typed arrays that grow, and copies of them in memory that threads share. */

type Numbers = Float64Array | Int32Array | Uint32Array | Uint8Array;

/** Copies `short` to the beginning of `long`, and returns that. */
export function longer<A extends Numbers>(short: A, long: A): A {
  long.set(short);
  return long;
}

/** Returns a copy in memory that threads share. */
export function sharedCopy<A extends Numbers>(array: A): A {
  const made = array.constructor as new (buffer: SharedArrayBuffer) => A;
  return longer(array, new made(new SharedArrayBuffer(array.byteLength)));
}
