/**
 * Agents for HTTP to other machines: connections are kept, and go through the proxy that HTTP_PROXY and HTTPS_PROXY
 * name, except to what NO_PROXY names.
 *
 * What NO_PROXY means differs from tool to tool. Here a domain stands for its subdomains too, as with curl, an address
 * block for its addresses, and this machine is never reached through a proxy. Node.js, which does the work, takes a
 * bare domain for itself alone, and knows ranges of IPv4 addresses, but no blocks: NO_PROXY is rewritten for it.
 */
import type { Agent } from 'node:http';
import type { Agent as SecureAgent } from 'node:https';
import { isIPv4, isIPv6 } from 'node:net';
import { http, loadHttps } from './node-http.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Name a proxy by URL, in upper or lower case. */
export const PROXY_VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY'] as const;
const LOOPBACK = ['localhost', '127.0.0.0/8', '::1', '[::1]'];
const IPV4_BITS = 32;

/** `protocol`: such as `https:`. At most `maxSockets` connections. */
export function makeAgent(
  protocol: string,
  maxSockets: number,
  env: Environment = process.env,
): Agent | SecureAgent {
  const proxyEnv = proxyEnvironment(env);
  const isSecure = protocol === 'https:';
  // Some proxies, such as tinyproxy, end a connection after one request without saying so: the next one would be lost.
  // A tunnel stays.
  const keepAlive = isSecure || proxyEnv?.http_proxy === undefined;
  const options = { keepAlive, maxSockets, ...(proxyEnv && { proxyEnv }) };
  return isSecure ? new (loadHttps().Agent)(options) : new http.Agent(options);
}

/** Both agents, as the AWS SDK takes them. */
export function makeAgents(maxSockets: number) {
  return {
    httpAgent: makeAgent('http:', maxSockets),
    httpsAgent: makeAgent('https:', maxSockets) as SecureAgent,
  };
}

/** Returns what Node.js is given; undefined if there is no proxy. */
export function proxyEnvironment(env: Environment): NodeJS.ProcessEnv | undefined {
  const [forHttp, forHttps] = PROXY_VARIABLES.map((name) => proxyOf(env, name));
  if (forHttp === undefined && forHttps === undefined) return undefined;
  return {
    ...(forHttp !== undefined && { http_proxy: forHttp }),
    ...(forHttps !== undefined && { https_proxy: forHttps }),
    no_proxy: [...LOOPBACK, ...entriesOf(variable(env, 'NO_PROXY') ?? '')].flatMap(forNode).join(','),
  };
}

/** Returns what of these variables has no effect, without the values of proxies. `version`: of Node.js. */
export function proxyProblems(env: Environment, version: string = process.versions.node): string[] {
  if (proxyEnvironment(env) !== undefined && !knowsProxies(version))
    return [
      `${PROXY_VARIABLES.join(', ')}: Node.js ${version} ignores them. Use 22.21, 24.5 or a newer one.`,
    ];
  const bad = PROXY_VARIABLES.filter((name) => {
    const value = proxyOf(env, name);
    return value !== undefined && !/^https?:$/.test(URL.parse(value)?.protocol ?? '');
  });
  const blocks = entriesOf(variable(env, 'NO_PROXY') ?? '').filter(
    (entry) => entry.includes('/') && rangeOf(entry) === undefined,
  );
  return [
    ...bad.map((name) => `${name}: a proxy is named by a URL with http or https. Requests will fail.`),
    ...blocks.map(
      (entry) => `NO_PROXY: ${entry} has no effect: blocks are those of IPv4, such as 10.0.0.0/8.`,
    ),
  ];
}

function knowsProxies(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
}

/** As with curl, `proxy:3128` is an address to which HTTP is spoken. */
function proxyOf(env: Environment, name: string): string | undefined {
  const value = variable(env, name);
  return value === undefined || value.includes('://') ? value : `http://${value}`;
}

/** As with curl, the name in lower case comes first. */
function variable(env: Environment, name: string): string | undefined {
  return env[name.toLowerCase()] || env[name] || undefined;
}

function entriesOf(list: string): string[] {
  return list.split(/[\s,]+/).filter((entry) => entry !== '');
}

function forNode(entry: string): string[] {
  const range = rangeOf(entry);
  if (range !== undefined) return [range];
  const [, host = '', port = ''] = /^(.*?)(:\d+)?$/.exec(entry)!;
  if (entry === '*' || isIPv4(host) || isIPv6(entry) || entry.startsWith('[')) return [entry];
  const domain = host.replace(/^\*?\./, '');
  return [`${domain}${port}`, `.${domain}${port}`];
}

/** Returns an IPv4 block as a range; undefined if it is none. */
function rangeOf(entry: string): string | undefined {
  const [, address = '', bits = ''] = /^([\d.]+)\/(\d{1,2})$/.exec(entry) ?? [];
  if (!isIPv4(address) || Number(bits) > IPV4_BITS) return undefined;
  const size = 2 ** (IPV4_BITS - Number(bits));
  const number = address.split('.').reduce((sum, part) => 256 * sum + Number(part), 0);
  const first = Math.floor(number / size) * size;
  return `${addressOf(first)}-${addressOf(first + size - 1)}`;
}

function addressOf(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.');
}
