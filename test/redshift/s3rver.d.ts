declare module '@20minutes/s3rver' {
  /** The part that is used here. The package has no types. */
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
