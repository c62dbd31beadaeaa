/** A real ClickHouse (`clickhouse-server`, Debian's package of the same name) for the tests. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, type Server, startProcess, temporaryFolder } from './server-process.ts';

export interface ClickHouseOptions {
  readonly user: string;
  readonly password: string;
}

export interface ClickHouse extends Server {
  /** Resolves to the output of the statement. */
  execute(statement: string): Promise<string>;
}

const SMALL_CACHE_BYTES = 67_108_864;

export async function startClickHouse({ user, password }: ClickHouseOptions): Promise<ClickHouse> {
  const folder = temporaryFolder('clickhouse');
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const config = join(folder.path, 'config.xml');
  writeFileSync(config, configText(folder.path, port));
  writeFileSync(join(folder.path, 'users.xml'), usersText(user, password));
  const ready = async () => (await fetch(url)).ok;
  const server = await startProcess('clickhouse-server', [`--config-file=${config}`], ready, {
    folder: folder.path,
  }).catch((error) => {
    folder.remove();
    throw error;
  });
  return {
    url,
    port,
    async execute(statement) {
      const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
      const response = await fetch(url, { method: 'POST', headers: { authorization }, body: statement });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return text;
    },
    async stop() {
      // At once, because nobody needs the data.
      await server.stop('SIGKILL');
      folder.remove();
    },
  };
}

function configText(folder: string, port: number): string {
  return `<yandex>
  <logger><level>error</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>${port}</http_port>
  <path>${folder}/data/</path>
  <tmp_path>${folder}/tmp/</tmp_path>
  <users_config>${folder}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>${SMALL_CACHE_BYTES}</mark_cache_size>
</yandex>
`;
}

function usersText(user: string, password: string): string {
  const xml = (text: string) => text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<yandex>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><${user}>
    <password>${xml(password)}</password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
  </${user}></users>
</yandex>
`;
}
