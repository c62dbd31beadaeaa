declare module '@20minutes/s3rver' {
  /** What is used of it; it comes without types. */
  export default class S3rver {
    readonly store: {
      deleteObject(bucket: string, key: string): Promise<void>;
      getResourcePath(bucket: string, key: string, part: string): string;
    };
    constructor(options: object);
    run(): Promise<object>;
    close(): Promise<void>;
  }
}
