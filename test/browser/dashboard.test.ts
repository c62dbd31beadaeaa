/** The dashboard in a real browser, on the real service and stores. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { loadConfig } from '../../src/config/config.ts';
import { comparisonOf } from '../../src/observe/comparison.ts';
import { Recording } from '../../src/observe/report.ts';
import type { Status } from '../../src/observe/status.ts';
import type { RecentAnswer } from '../../src/recent/question.ts';

import { type Program, startProgram } from '../../src/servers/fanout-program.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { WINDOWS } from '../e2e/support.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { LIMIT_MS } from '../limits.ts';
import { startBrowser } from './browser.ts';

const MAX_PAGE_BYTES = 150_000;
const RATE = 500;
const HOSTILE = '</script><img src=x onerror="document.title=1">';
const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 900 };

let stack: Stack;
let influxdb: FaultProxy;
let env: Record<string, string>;
let service: ServiceProgram;
let load: Program;
let bus: Bus;
let browser: Browser;
/** As an Ingress with a path, which it takes away. */
const PREFIX = '/metrics-fanout';
let ingress: Server;
const ingressUrl = () => `http://127.0.0.1:${(ingress.address() as AddressInfo).port}`;

beforeAll(async () => {
  stack = await startStack();
  influxdb = await FaultProxy.start(stack.influxdb.port);
  env = {
    ...stack.env,
    ...WINDOWS,
    HTTP_PORT: String(await freePort()),
    SINK_INFLUXDB_URL: `http://127.0.0.1:${influxdb.port}`,
  };
  service = await startServiceProgram(env);
  const traffic = ['--rate', String(RATE), '--series', '40', '--late', '0.05'];
  load = startProgram(['load', ...traffic], { NATS_URL: stack.nats.url, ...WINDOWS });
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  bus = await connect((await loadConfig({ NATS_URL: stack.nats.url })).core, silent);
  browser = await startBrowser();
  ingress = createServer((asked, answer) => {
    const { url = '', headers } = asked;
    if (!`${url}/`.startsWith(`${PREFIX}/`)) {
      answer.writeHead(404).end();
      return;
    }
    const onward = request(`${service.url}${url.slice(PREFIX.length) || '/'}`, { headers }, (reply) => {
      answer.writeHead(reply.statusCode!, reply.headers);
      reply.pipe(answer);
    });
    answer.on('close', () => onward.destroy());
    onward.on('error', () => answer.destroy()).end();
  });
  await new Promise<void>((resolve) => ingress.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  await browser?.close();
  ingress?.closeAllConnections();
  ingress?.close();
  await bus?.close();
  await load?.stop('SIGKILL');
  await service?.stop('SIGKILL');
  await influxdb?.stop();
  await stack?.stop();
});

/** What went wrong on the pages of a test, and what they requested. */
const seen = { errors: [] as string[], requests: [] as string[] };

const reportFile = () => join(stack.folder, 'report.html');

async function open(options: BrowserContextOptions = {}, url = service.url): Promise<Page> {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  page.setDefaultNavigationTimeout(LIMIT_MS);
  page.on('console', (message) => {
    if (message.type() === 'error') seen.errors.push(message.text());
  });
  page.on('pageerror', (error) => seen.errors.push(error.message));
  page.on('request', (request) => seen.requests.push(request.url()));
  await page.goto(url);
  await page.waitForSelector('#cards .state');
  return page;
}

afterEach(async () => {
  await Promise.all((browser?.contexts() ?? []).map((context) => context.close()));
  const { errors, requests } = seen;
  const own = [`${service.url}/`, `${ingressUrl()}${PREFIX}`, 'data:', pathToFileURL(reportFile()).href];
  const elsewhere = requests.filter((url) => !own.some((start) => url.startsWith(start)));
  // The console also shows that the service is gone.
  const faults = errors.filter((text) => !text.includes('net::ERR_'));
  seen.errors = [];
  seen.requests = [];
  expect(elsewhere).toEqual([]);
  expect(faults).toEqual([]);
});

const texts = (page: Page, selector: string) => page.locator(selector).allInnerTexts();
const factText = (page: Page, what: string) => page.locator(`[data-fact="${what}"] .value`).innerText();
const inSeconds = (text: string) => Number.parseFloat(text) / (text.endsWith('ms') ? 1000 : 1);
const card = (page: Page, sink: string) => page.locator(`#cards [data-sink="${sink}"]`);

describe('the page', () => {
  test.each(['', '/'])('works under a path of a proxy: %j at its end', async (end) => {
    const page = await open({}, `${ingressUrl()}${PREFIX}${end}`);
    for (const path of ['api/status', 'metrics']) {
      const link = page.locator(`#footer a[href="${path}"]`);
      // biome-ignore lint/suspicious/noExplicitAny: the DOM's types are not among Node's
      const address = await link.evaluate((a: any) => a.href as string);
      expect((await fetch(address)).status, address).toBe(200);
    }
  });

  test('shows what the status says', async () => {
    const page = await open();
    await expect.poll(() => factText(page, 'messages')).toMatch(/^(4|5)\d\d(\.\d)?\/s$/);
    await expect
      .poll(() => texts(page, '#headline'))
      .toEqual([expect.stringMatching(/^All 4 sinks are healthy\./)]);
    // Both keep changing: the page has to show something that the service says meanwhile.
    const statuses = [await service.status()];
    const [before] = statuses as [Status];
    const isOver = { yes: false };
    const watching = (async () => {
      for (; !isOver.yes; await sleep(100)) statuses.push(await service.status());
    })();
    const expectAmong = (shown: number, of: (status: Status) => number, tolerance: number, what: string) => {
      expect(shown, what).toBeGreaterThan(Math.min(...statuses.map(of)) - tolerance);
      expect(shown, what).toBeLessThan(Math.max(...statuses.map(of)) + tolerance);
    };
    const pointsOnPage = () =>
      page.locator('[data-row="points"] td').evaluateAll((cells) =>
        // biome-ignore lint/suspicious/noExplicitAny: the DOM's types are not among Node's
        cells.map((cell: any) => Number(cell.title.split('; ')[1].split(' ')[0].replaceAll(',', ''))),
      );
    await expect
      .poll(async () => (await pointsOnPage()).every((shown, i) => shown > before.sinks[i]!.written))
      .toBe(true);
    const [lags, points, states] = await Promise.all(
      ['lag', 'points', 'state'].map((row) => texts(page, `[data-row="${row}"] td`)),
    );
    const notes = await pointsOnPage();
    const names = await texts(page, '#names tbody th');
    const lateShown = Number.parseFloat(await factText(page, 'late'));
    isOver.yes = true;
    await watching;
    const after = await service.status();
    statuses.push(after);
    expect(await texts(page, '#comparison thead th')).toEqual([
      'measure',
      ...after.sinks.map(({ id }) => id),
    ]);
    expect(states).toEqual(Array(4).fill('healthy'));
    await expect
      .poll(() => page.locator('#proof').innerText())
      .toMatch(/^Verification: \d+ of \d+ windows \([\d.]+ %\): all equal, last look \d+ s ago\.$/);
    await expect
      .poll(() => page.locator('[data-row="write p50"] td[data-tone="best"]').count())
      .toBeGreaterThan(0);
    for (const [index, sink] of after.sinks.entries()) {
      expect(notes[index], sink.id).toBeGreaterThanOrEqual(before.sinks[index]!.written);
      expect(notes[index], sink.id).toBeLessThanOrEqual(sink.written);
      expectAmong(inSeconds(lags![index]!), ({ sinks }) => sinks[index]!.lagSeconds!, 1, sink.id);
      expectAmong(
        Number.parseFloat(points![index]!),
        ({ sinks }) => sinks[index]!.pointsPerSecond,
        10,
        sink.id,
      );
    }
    // The last ones are hardly more frequent than those that are not shown.
    expect(names).toHaveLength(after.topNames.length);
    expect(after.topNames.map(({ name }) => name)).toEqual(expect.arrayContaining(names.slice(0, 3)));
    const rows = comparisonOf(after).rows.map(({ what }) => what);
    expect(await texts(page, '#comparison tbody th')).toEqual(rows);
    expectAmong(lateShown, ({ samples }) => samples.lateShare * 100, 3, 'late');
    expect(await page.locator('#charts canvas').count()).toBe(await page.locator('#charts figure').count());
  });

  test('shows percentiles of the busiest timers, merged over the last minutes', async () => {
    const page = await open();
    await expect
      .poll(() => texts(page, '#names thead th'))
      .toEqual(['name', 'type', 'samples/s', 'share', 'p50 of 5 min', 'p99 of 5 min']);
    const rows = await page.locator('#names tbody tr').evaluateAll((all) =>
      // biome-ignore lint/suspicious/noExplicitAny: the DOM's types are not among Node's
      all.map((row: any) => Array.from(row.children, (cell: any) => String(cell.textContent))),
    );
    const timers = rows.filter(([, type]) => type === 'timer');
    expect(timers.length).toBeGreaterThan(0);
    for (const [name, , , , p50, p99] of timers) {
      // The samples of a few seconds more or less change little.
      const query = new URLSearchParams({ name: name!, last: '5m' });
      const { groups } = (await (await fetch(`${service.url}/api/query?${query}`)).json()) as RecentAnswer;
      const expected = groups.find((group) => group.name === name && group.type === 'timer')!;
      for (const [text, value] of [
        [p50, expected.p50!],
        [p99, expected.p99!],
      ] as const)
        expect(Math.abs(Number(text!.replaceAll(',', '')) / value - 1), `${name}: ${text}`).toBeLessThan(0.5);
    }
    for (const row of rows.filter(([, type]) => type !== 'timer')) expect(row.slice(4)).toEqual(['', '']);
  });

  test('shows a name as text, whatever it contains', async () => {
    const page = await open();
    const sample = { name: HOSTILE, type: 'counter', value: 1, dimensions: { app: HOSTILE } };
    const bytes = new TextEncoder().encode(JSON.stringify(sample));
    await expect
      .poll(async () => {
        for (let i = 0; i < 500; i++) bus.connection.publish('metrics', bytes);
        await sleep(500);
        return texts(page, '#names tbody th');
      })
      .toContain(HOSTILE);
    expect(await page.title()).toBe('metrics-fanout');
    expect(await page.locator('img').count()).toBe(0);
  });

  test('takes less than 150 KB, with the last hour in it', async () => {
    const response = await fetch(service.url, { headers: { accept: 'text/html' } });
    const policy = response.headers.get('content-security-policy');
    expect(policy).toMatch(/^default-src 'none'; script-src 'sha256-\S+ 'sha256-\S+; style-src 'sha256-\S+;/);
    const page = await response.arrayBuffer();
    expect(page.byteLength).toBeLessThan(MAX_PAGE_BYTES);
  });

  test('is also the report, in one file that makes no requests', async () => {
    const recording = new Recording(service.url, await service.status());
    for (let i = 0; i < 3; i++) {
      await sleep(1000);
      recording.add(await service.status());
    }
    writeFileSync(reportFile(), recording.html());
    const page = await open({ viewport: PHONE }, pathToFileURL(reportFile()).href);
    await page.waitForSelector('#charts canvas');
    expect(await page.locator('#headline').innerText()).toMatch(/^Report of http:\S+: .* \d+\.\d minutes\./);
    expect(await page.locator('#charts canvas').count()).toBe(6);
    // What is drawn is not how it is now.
    const lag = page.locator('#charts figure', { hasText: 'Lag beyond' });
    const shown = await lag.locator('.legend b').allTextContents();
    expect(shown.length).toBeGreaterThan(0);
    for (const text of shown) expect(text).toMatch(/^(–|highest .+)$/);
    expect(await texts(page, '.measures dt')).toContain('highest lag, overall');
    expect(await page.locator('#proof').innerText()).toMatch(/^Verification: /);
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(
      PHONE.width,
    );
    expect(seen.requests.filter((url) => !url.startsWith('data:'))).toHaveLength(1);
  });

  test('is plain text for clients that are not browsers', async () => {
    const response = await fetch(service.url);
    expect(response.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(await response.text()).toContain('/api/status');
  });
});

describe('in trouble, the page', () => {
  test('says that a sink is down, and only that one, until it is back', async () => {
    const page = await open();
    await expect.poll(() => card(page, 'influxdb').locator('.state').innerText()).toBe('healthy');
    await influxdb.refuse();
    await page.waitForSelector('#cards [data-sink="influxdb"][data-tone="bad"]');
    expect(await card(page, 'influxdb').locator('.state').innerText()).toBe('down');
    expect(await card(page, 'influxdb').locator('.note').innerText()).toMatch(/^connection: .*ECONNREFUSED/);
    // The stream has a limit of age.
    expect(await page.locator('#headline').innerText()).toMatch(
      /^influxdb is down\. Nothing is lost until (\S+ )?\d\d:\d\d UTC: the stream still holds [\d.]+ (h|min)\.$/,
    );
    const line = (what: string) => card(page, 'influxdb').locator(`[data-line="${what}"] dd`);
    expect(await line('since').innerText()).toMatch(/^\d\d:\d\d:\d\d UTC, for /);
    expect(await line('what to do').innerText()).toMatch(/^See that the store runs/);
    expect(await line('next attempt').innerText()).toMatch(/^(now|in \d+ s)$/);
    expect(await line('nothing is lost').innerText()).toMatch(/^until /);
    expect(await line('store').innerText()).toMatch(/^influxdb.*, http:\/\/127\.0\.0\.1:\d+$/i);
    // Nothing of what it was like before, from the first moment on.
    const index = (await texts(page, '#comparison thead th')).indexOf('influxdb');
    for (const row of ['write p50', 'write p99', 'query: sums', 'queries p95'])
      expect((await texts(page, `[data-row="${row}"] > *`))[index], row).toBe('–');
    expect(await texts(page, '#cards [data-tone="good"] h3 > span')).toEqual([
      'dynamodb',
      'redshift',
      'sqlite',
    ]);
    await influxdb.pass();
    await page.waitForSelector('#cards [data-sink="influxdb"][data-tone="good"]');
  });

  test('says that the bus cannot be reached', async () => {
    const page = await open();
    await stack.nats.halt();
    try {
      await expect.poll(() => page.locator('#headline').innerText()).toMatch(/^The bus cannot be reached/);
    } finally {
      await stack.nats.resume();
    }
    await page.waitForSelector('[data-fact="bus"][data-tone="good"]');
  });

  test('says that the service does not answer, and goes on with the next one', async () => {
    const page = await open();
    await service.stop('SIGKILL');
    await page.waitForSelector('body.stale');
    expect(await page.locator('#headline').innerText()).toMatch(/^The service has not answered since \d\d:/);
    service = await startServiceProgram(env);
    await page.waitForSelector('body:not(.stale)');
    const { instance } = await service.status();
    await expect.poll(() => page.locator('#about').innerText()).toContain(instance);
  });
});

describe('accessibility', () => {
  const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

  test.each([
    ['light', PHONE],
    ['light', DESKTOP],
    ['dark', PHONE],
    ['dark', DESKTOP],
  ] as const)('%s, %j: axe finds nothing, and nothing scrolls sideways', async (colorScheme, viewport) => {
    const page = await open({ colorScheme, viewport });
    await page.waitForSelector('#charts canvas');
    const width = await page.evaluate<number>('document.documentElement.scrollWidth');
    expect(width).toBeLessThanOrEqual(viewport.width);
    // Nor is the last column of the names out of sight.
    const names = "document.getElementById('names').parentElement";
    expect(await page.evaluate<number>(`${names}.scrollWidth - ${names}.clientWidth`)).toBe(0);
    await page.evaluate(axe);
    const found = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>(
      'axe.run()',
    );
    expect(
      found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
    ).toEqual([]);
  });

  test('the keyboard reaches everything that scrolls and every link, and a screen reader all figures', async () => {
    const page = await open({ viewport: PHONE });
    const reached: string[] = [];
    for (let i = 0; i < 5; i++) {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate<string>('document.activeElement.innerText.split(/\\s/)[0]'));
    }
    expect(reached).toEqual(['Skip', 'In', 'status', 'Prometheus', 'Skip']);
    expect(await page.locator('#comparison').isVisible()).toBe(false);
    const rows = comparisonOf(await service.status()).rows.map(({ what }) => what);
    expect(await card(page, 'sqlite').locator('.measures dt').allInnerTexts()).toEqual(rows.slice(1));
    await page.setViewportSize(DESKTOP);
    // The page hears of the new size a moment later.
    await expect.poll(() => texts(page, '#comparison tbody th')).toEqual(rows);
    await expect.poll(() => card(page, 'sqlite').locator('.measures dt').count()).toBe(0);
    const chart = page.locator('[role="img"]').first();
    await expect.poll(() => chart.getAttribute('aria-label')).toContain('now');
    const tree = await page.locator('body').ariaSnapshot();
    for (const part of ['- banner', '- main', '- contentinfo', 'rowheader "lag"'])
      expect(tree).toContain(part);
    // On a busy machine, it says more: that samples came late.
    expect(tree).toMatch(/- status: "?All 4 sinks are healthy\./);
    expect(tree).toMatch(/img "Chart\. Messages per second\. messages: now/);
  });
});
