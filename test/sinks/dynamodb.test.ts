import { CreateTableCommand, DeleteTableCommand, DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { afterAll } from 'vitest';
import { startDynamoDb } from '../../src/servers/dynamodb.ts';
import type { Server } from '../../src/servers/server-process.ts';
import { describeConformance } from '../conformance.ts';

process.env.AWS_ACCESS_KEY_ID = 'AKIAFANOUTTEST';
process.env.AWS_SECRET_ACCESS_KEY = 'a-secret-access-key';

let server: Server;
let admin: DynamoDBClient;
afterAll(() => admin?.destroy());

describeConformance('dynamodb', {
  async start() {
    server = await startDynamoDb();
    admin = new DynamoDBClient({ region: 'us-east-1', endpoint: server.url });
    return server.port;
  },
  stop: () => server.stop(),
  variables: (namespace, port) => ({
    TABLE: `table_${namespace}`,
    REGION: 'us-east-1',
    ENDPOINT: `http://127.0.0.1:${port}`,
  }),
  missing: (variables) => ({ ...variables, TABLE: 'missing', CREATE: 'false' }),
  async unusable(namespace) {
    const command = new CreateTableCommand({
      TableName: `table_${namespace}`,
      BillingMode: 'PAY_PER_REQUEST',
      AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'S' }],
      KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
    });
    await admin.send(command);
  },
  async drop(namespace) {
    await admin.send(new DeleteTableCommand({ TableName: `table_${namespace}` }));
  },
  // The emulator does not count what it stores.
  differs: { saysNoSize: true },
  secrets: ['a-secret-access-key'],
});
