/**
 * The names by which the HTTP port may be addressed. A page in a browser can have its own name resolve to the address
 * of this service, and so read what the service answers (DNS rebinding). The browser then sends the page's name as the
 * Host. Pure.
 */
import { isIP } from 'node:net';

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

/** Whether only this machine can connect to the address. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host.toLowerCase());
}

export class AllowedHosts {
  readonly #own: string;
  readonly #more: ReadonlySet<string> | undefined;

  /** `own`: the name or address that the server listens on. `more`: HTTP_ALLOWED_HOSTS. */
  constructor(own: string, more: ReadonlySet<string> | undefined) {
    this.#own = own.toLowerCase();
    this.#more = more;
  }

  /** `host`: the header. Browsers always send one. */
  admits(host: string | undefined): boolean {
    const isLocal = isLoopback(this.#own);
    if (host === undefined || (!isLocal && this.#more === undefined)) return true;
    const name = nameOf(host);
    if (name === undefined) return false;
    if (isLoopback(name) || name === this.#own || this.#more?.has(name) === true) return true;
    // An address as the Host has been resolved from no name.
    return !isLocal && isIP(name) !== 0;
  }
}

/** Returns the name or the address, without port and brackets, in lower case; undefined if the header is malformed. */
function nameOf(host: string): string | undefined {
  const [, address, name] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s]+))(?::\d*)?$/.exec(host.toLowerCase()) ?? [];
  return address ?? name;
}
