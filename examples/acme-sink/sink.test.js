// @ts-check
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeConformance } from 'metrics-fanout/conformance';
import acme from './sink.js';

const folder = mkdtempSync(join(tmpdir(), 'acme-'));

describeConformance(
  'acme',
  {
    // A sink of a server starts a real one here, and returns its port.
    start: async () => 0,
    stop: async () => rmSync(folder, { recursive: true }),
    variables: (namespace) => ({ FOLDER: join(folder, namespace) }),
    differs: { embedded: true, answersNothing: true },
  },
  async () => acme,
);
