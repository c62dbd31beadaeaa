import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { SINKS } from '../../sinks/index.ts';

const folders = readdirSync('sinks', { withFileTypes: true }).filter((entry) => entry.isDirectory());

it('lists every folder of a sink', () => {
  expect(Object.keys(SINKS).sort()).toEqual(folders.map(({ name }) => name).sort());
});

it.each(Object.keys(SINKS))('%s is the kind of its module and passes the conformance suite', async (kind) => {
  expect((await SINKS[kind]!()).kind).toBe(kind);
  const test = readFileSync(`test/sinks/${kind}.test.ts`, 'utf8');
  expect(test).toContain(`describeConformance('${kind}', `);
});
