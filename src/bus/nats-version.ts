/** Versions of nats-server, such as 2.9.10. */

/** Returns whether `have` is older than `than`, such as 2.9.10 than 2.10. What `than` does not say does not count. */
export function isNatsOlder(have: string, than: string): boolean {
  const [ours, other] = [have, than].map((text) => text.split('.').map((part) => Number.parseInt(part, 10)));
  const at = other!.findIndex((number, i) => number !== ours![i]);
  return at >= 0 && ours![at]! < other![at]!;
}
