/**
 * The dashboard: one HTML text with its style, its script and the chart library in it, so that a page needs nothing
 * else and a report is a file of its own. Only what has the right hash may run in it.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Charts } from './history.ts';
import type { View } from './view.ts';

export interface WebPage {
  readonly html: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** What a report has in place of a service that it could ask. */
export interface ReportData {
  readonly view: View;
  readonly charts: Charts;
  /** RFC 3339. */
  readonly from: string;
  readonly to: string;
  readonly url: string;
}

const FOLDER = fileURLToPath(new URL('./page/', import.meta.url));
/** Modules, in the order in which they import each other: in the page they are one. */
const MODULES = ['dom.js', 'charts.js', 'tables.js', 'main.js'];

interface Parts {
  readonly template: string;
  readonly style: string;
  readonly library: string;
  readonly script: string;
}

function readParts(): Parts {
  const ours = (name: string) => readFileSync(join(FOLDER, name), 'utf8');
  const { resolve } = createRequire(import.meta.url);
  const library = (name: string) => readFileSync(resolve(`uplot/dist/${name}`), 'utf8');
  return {
    template: ours('page.html'),
    style: library('uPlot.min.css') + ours('page.css'),
    library: library('uPlot.iife.min.js'),
    script: asOneModule(MODULES.map(ours)),
  };
}

/** All names are distinct, so what imports and exports them can go. */
function asOneModule(modules: readonly string[]): string {
  return modules.map((text) => text.replace(/^import [^;]*;$/gm, '').replace(/^export /gm, '')).join('\n');
}

/** `'self'` is where the page may ask for events: nothing else is ever loaded. */
function policy({ style, library, script }: Parts, connect: "'self'" | "'none'"): string {
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return [
    "default-src 'none'",
    `script-src ${hash(library)} ${hash(script)}`,
    `style-src ${hash(style)}`,
    `connect-src ${connect}`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}

function fill({ template, style, library, script }: Parts, head: string, data: string): string {
  const parts: Readonly<Record<string, string>> = {
    head,
    style: `<style>${style}</style>`,
    data,
    scripts: `<script>${library}</script>\n<script type="module">${script}</script>`,
  };
  // By a function, for a text may hold what `replace` takes for a pattern.
  return template.replace(/<!-- (head|style|data|scripts) -->/g, (_, name: string) => parts[name]!);
}

export function loadPage(): WebPage {
  const parts = readParts();
  const headers = {
    'content-security-policy': `${policy(parts, "'self'")}; frame-ancestors 'none'`,
    'referrer-policy': 'no-referrer',
  };
  return { html: fill(parts, '', ''), headers };
}

/** The same page with its data in it, to be opened as a file. */
export function reportPage(data: ReportData): string {
  const parts = readParts();
  const head = `<meta http-equiv="Content-Security-Policy" content="${policy(parts, "'none'")}">`;
  // A name may hold `</script>`: as JSON, a `<` can be written otherwise.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return fill(parts, head, `<script type="application/json" id="report">${json}</script>`);
}
