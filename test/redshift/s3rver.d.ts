declare module '@20minutes/s3rver' {
  /** What is used of it; it comes without types. */
  export default class S3rver {
    constructor(options: object);
    run(): Promise<object>;
    close(): Promise<void>;
  }
}
