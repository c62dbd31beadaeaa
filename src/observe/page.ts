/**
 * The dashboard: one HTML text that contains its style, its scripts and the chart library. So a page needs nothing
 * else, and a report is a single file. Only scripts and styles with the right hash are accepted in it.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { ownFile } from '../base/own-program.ts';
import type { Charts } from './history.ts';
import type { View } from './view.ts';

export interface WebPage {
  /** Encoded, because many may ask for it at once. */
  readonly html: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
}

/** The data of a report, which has no service to ask. */
export interface ReportData {
  readonly view: View;
  readonly charts: Charts;
  /** RFC 3339. */
  readonly from: string;
  readonly to: string;
  readonly url: string;
}

const FOLDER = ownFile('observe/page/');
/** Modules, each after those that it imports: in the page they become one. */
const MODULES = ['dom.js', 'charts.js', 'tables.js', 'percentiles.js', 'main.js'];

interface Parts {
  readonly template: string;
  readonly style: string;
  readonly library: string;
  readonly script: string;
}

function readParts(): Parts {
  const ours = (name: string) => readFileSync(join(FOLDER, name), 'utf8');
  return {
    template: ours('page.html'),
    style: library('uPlot.min.css') + ours('page.css'),
    library: library('uPlot.iife.min.js'),
    script: asOneModule(MODULES.map(ours)),
  };
}

/** A file of the chart library: the package has it beside ours, a clone where npm installed it. */
function library(name: string): string {
  const packaged = join(FOLDER, name);
  const path = existsSync(packaged) ? packaged : createRequire(import.meta.url).resolve(`uplot/dist/${name}`);
  return readFileSync(path, 'utf8');
}

/** The modules share no names, so imports and exports can simply be removed. */
function asOneModule(modules: readonly string[]): string {
  return modules.map((text) => text.replace(/^import [^;]*;$/gm, '').replace(/^export /gm, '')).join('\n');
}

/** With `'self'` the page may fetch events from its own server. It never loads anything else. */
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
  // With a function, because the text may contain what `replace` treats as a pattern.
  return template.replace(/<!-- (head|style|data|scripts) -->/g, (_, name: string) => parts[name]!);
}

export function loadPage(): WebPage {
  const parts = readParts();
  const headers = {
    'content-security-policy': `${policy(parts, "'self'")}; frame-ancestors 'none'`,
    'referrer-policy': 'no-referrer',
  };
  return { html: Buffer.from(fill(parts, '', '')), headers };
}

/** Returns the same page with its data in it, to be opened as a file. */
export function reportPage(data: ReportData): string {
  const parts = readParts();
  const head = `<meta http-equiv="Content-Security-Policy" content="${policy(parts, "'none'")}">`;
  // A name may contain `</script>`. In JSON, `<` can be written as an escape.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return fill(parts, head, `<script type="application/json" id="report">${json}</script>`);
}
