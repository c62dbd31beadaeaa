/**
 * A process that asks for the routes of health at a steady pace, whatever becomes of earlier requests, each over a new
 * connection, as a kubelet does. It also asks a server that has nothing else to do: so much of it is the machine.
 */
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface RouteHealth {
  readonly asked: number;
  /** No 200, or no answer in time. */
  readonly failures: number;
  /** Milliseconds; where there was no answer, what was waited. */
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
}

export type Health = Readonly<Record<'/healthz' | '/livez' | 'idle', RouteHealth>>;

const EVERY_MS = 50;
const TIMEOUT_MS = 5_000;

class Route {
  readonly #port: number;
  readonly #path: string;
  readonly #took: number[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #failures = 0;

  constructor(port: number, path: string) {
    this.#port = port;
    this.#path = path;
  }

  ask(): void {
    const asked = performance.now();
    const answered = this.#isOk().then((isOk) => {
      if (!isOk) this.#failures++;
      this.#took.push(performance.now() - asked);
      this.#underWay.delete(answered);
    });
    this.#underWay.add(answered);
  }

  #isOk(): Promise<boolean> {
    return new Promise((resolve) => {
      const options = { host: '127.0.0.1', port: this.#port, path: this.#path, agent: false };
      const request = get({ ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
      request.on('response', (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode === 200));
        response.on('error', () => resolve(false));
      });
      request.on('error', () => resolve(false));
    });
  }

  async health(): Promise<RouteHealth> {
    await Promise.all(this.#underWay);
    const sorted = this.#took.toSorted((a, b) => a - b);
    const quantile = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
    return {
      asked: sorted.length,
      failures: this.#failures,
      p50: quantile(0.5),
      p99: quantile(0.99),
      most: quantile(1),
    };
  }
}

const idle = createServer((_, response) => void response.end('ok\n')).listen(0, '127.0.0.1');
await once(idle, 'listening');
const [, , port] = process.argv;
const routes = {
  '/healthz': new Route(Number(port), '/healthz'),
  '/livez': new Route(Number(port), '/livez'),
  idle: new Route((idle.address() as AddressInfo).port, '/'),
};
let isOver = false;

async function askAll(): Promise<void> {
  for (let due = performance.now(); !isOver; due += EVERY_MS) {
    await sleep(due - performance.now());
    for (const route of Object.values(routes)) route.ask();
  }
}

process.on('message', (order: 'begin' | 'end') => {
  if (order === 'begin') {
    void askAll();
    process.send!('begun');
    return;
  }
  isOver = true;
  const all = Object.entries(routes).map(async ([name, route]) => [name, await route.health()] as const);
  void Promise.all(all).then((health) => process.send!(Object.fromEntries(health)));
});
process.on('disconnect', () => process.exit());
process.send!('ready');
