/** The part of the SDK that this sink uses. The package contains it, and nothing else of the SDK for S3. */
export {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
