/** Every address of this machine, as one to listen on. */
const EVERY_IPV4 = '0.0.0.0';
/** Those of IPv6 and of IPv4, with one socket. Where the machine has no IPv6: those of IPv4. */
export const EVERY_ADDRESS = '::';

export function isEveryAddress(host: string): boolean {
  return host === EVERY_ADDRESS || host === EVERY_IPV4;
}

/** The addresses to listen on: one after the other, until one exists here. */
export function addressesOf(host: string): readonly string[] {
  return host === EVERY_ADDRESS ? [EVERY_ADDRESS, EVERY_IPV4] : [host];
}
