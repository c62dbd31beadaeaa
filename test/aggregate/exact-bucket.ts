/**
 * Returns the number i of the bucket (2^(i/64), 2^((i+1)/64)] that holds a positive number, in whole numbers alone: the
 * number is m 2^e, so 2^i < (m 2^e)^64 <= 2^(i+1).
 */
export function exactBucket(value: number): number {
  let [mantissa, exponent] = [value, 0];
  for (; !Number.isInteger(mantissa); exponent--) mantissa *= 2;
  const power = BigInt(mantissa) ** 64n;
  // One less than a power of two has as many bits as the number of that power: the bound above is in the bucket.
  return (power - 1n).toString(2).length - 1 + 64 * exponent + (power === 1n ? -1 : 0);
}
