/** Debian's Chromium, with a fresh profile, and without requests of its own. */
import { spawnSync } from 'node:child_process';
import { type Browser, chromium } from 'playwright-core';
import { LIMIT_MS } from '../limits.ts';

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Playwright makes the profile, and removes it at the end. */
export async function startBrowser(): Promise<Browser> {
  const found = spawnSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).stdout.trim();
  if (found === '') throw new Error('chromium is not installed');
  return await chromium.launch({
    executablePath: found,
    args: ARGUMENTS,
    chromiumSandbox: false,
    timeout: LIMIT_MS,
  });
}
