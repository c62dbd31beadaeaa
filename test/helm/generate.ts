/**
 * Generates what the chart repeats from elsewhere: values.schema.json from the settings of the service, and the table
 * of helm/README.md from the comments of values.yaml. `npm run chart` writes them; a test compares them.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMap, isScalar, type Pair, parseDocument, type YAMLMap } from 'yaml';
import { valuesSchema } from './schema.ts';

const CHART = fileURLToPath(new URL('../../helm/', import.meta.url));
const MARKED = /(<!-- values -->\n)[\s\S]*(<!-- \/values -->)/;
const MEANING = '-- ';

/** What the files should contain, by their names in the chart. */
export async function generated(): Promise<Readonly<Record<string, string>>> {
  const readme = readFileSync(`${CHART}README.md`, 'utf8');
  return {
    'values.schema.json': `${JSON.stringify(await valuesSchema(), null, 2)}\n`,
    'README.md': readme.replace(MARKED, (_, begin, end) => `${begin}${valuesTable()}\n${end}`),
  };
}

interface Row {
  readonly path: string;
  readonly shown: string;
  readonly meaning: string;
}

function valuesTable(): string {
  const values = parseDocument(readFileSync(`${CHART}values.yaml`, 'utf8')).contents;
  const rows = rowsOf(values as YAMLMap, '');
  const lines = rows.map(({ path, shown, meaning }) => `| \`${path}\` | \`${shown}\` | ${meaning} |`);
  return ['| value | default | meaning |', '|---|---|---|', ...lines].join('\n');
}

/** Every value with a comment; of those below it, only the ones that have a comment too. Throws if a leaf has none. */
function rowsOf(map: YAMLMap, prefix: string): Row[] {
  return map.items.flatMap((pair: Pair, index) => {
    const key = pair.key as { value: string; commentBefore?: string };
    const path = `${prefix}${key.value}`;
    const comment = key.commentBefore ?? (index === 0 ? map.commentBefore : undefined) ?? '';
    const meaning = comment
      .split('\n')
      .map((line) => line.trim())
      .find((line) => line.startsWith(MEANING))
      ?.slice(MEANING.length);
    const below = isMap(pair.value) && hasMeanings(pair.value) ? rowsOf(pair.value, `${path}.`) : [];
    if (meaning === undefined && below.length === 0) throw new Error(`values.yaml: ${path} has no meaning`);
    const own = { path, shown: below.length > 0 ? 'see below' : shown(pair.value), meaning: meaning ?? '' };
    return meaning === undefined ? below : [own, ...below];
  });
}

function hasMeanings(map: YAMLMap): boolean {
  const comments = map.items.map(({ key }) => (key as { commentBefore?: string }).commentBefore);
  return (
    [map.commentBefore, ...comments].some((comment) => comment?.includes(MEANING)) ||
    map.items.some(({ value }) => isMap(value) && hasMeanings(value))
  );
}

function shown(value: unknown): string {
  if (isScalar(value)) return value.value === '' ? "''" : String(value.value);
  return JSON.stringify((value as YAMLMap).toJSON());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of Object.entries(await generated())) writeFileSync(`${CHART}${name}`, text);
}
