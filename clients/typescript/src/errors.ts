import { fromBinary } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { type ServiceError, status as Code } from '@grpc/grpc-js';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from './generated/google/rpc/error_details_pb.js';
import { StatusSchema } from './generated/google/rpc/status_pb.js';

export interface Details {
  /** The gRPC status. */
  code?: Code;
  /** A stable code, such as NOTHING_UPLOADED; empty if there is none. */
  reason?: string;
  /** For each field that is not valid, its reason. */
  fields?: Record<string, string>;
  /** For the person who uploads; empty if neither the file nor what became of it is the cause. */
  sentence?: string;
  /** How long to wait at least before another attempt; undefined if another attempt makes no sense. */
  retryAfterMs?: number | undefined;
}

/** A call failed. The subclasses say how; `docs/errors.md` of the service names codes and reasons. */
export class MediaError extends Error {
  protected static readonly usualSentence: string = '';
  readonly code: Code;
  readonly reason: string;
  readonly fields: Record<string, string>;
  readonly sentence: string;
  readonly retryAfterMs: number | undefined;
  /** The upload whose bytes are all in the store; only `complete` is left to do. Else empty. */
  mediaId = '';

  constructor(
    message: string,
    { code = Code.UNKNOWN, reason = '', fields = {}, sentence = '', retryAfterMs }: Details = {},
  ) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.reason = reason;
    this.fields = fields;
    this.sentence = sentence || new.target.usualSentence;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Fields of the request are not valid. */
export class InvalidRequest extends MediaError {}
/** There is no such media item, or no such upload any more. */
export class NotFound extends MediaError {
  protected static override readonly usualSentence = 'This file is not there any more.';
}
/** The token is missing or not valid, or its caller is not allowed to do this. */
export class NotAllowed extends MediaError {}
/** The media item is not in a state for this: nothing is uploaded, parts are missing, or it is deleted. */
export class Conflict extends MediaError {}
/** Too many unfinished uploads or calls. Wait, and try again. */
export class TooMany extends MediaError {}
/** The service or what it needs is unavailable, or did not answer in time. Wait, and try again. */
export class Unavailable extends MediaError {}
/** The object store did not take the bytes. */
export class StoreRefused extends MediaError {}
/** The file has another size than the one with which the upload was begun, so it cannot go on. Nothing was sent. */
export class FileChanged extends MediaError {
  protected static override readonly usualSentence = 'The file has changed. Please upload it again.';
}
/** The media item was deleted while it was waited for. */
export class MediaDeleted extends MediaError {
  protected static override readonly usualSentence = 'This file was deleted.';
}

/** The file cannot be published. `reason` says why; the message is the `sentence`. */
export class MediaFailed extends MediaError {
  /** The same file may be accepted at another time. */
  readonly retryable: boolean;

  constructor(message: string, reason: string, retryable: boolean) {
    super(message, { reason, sentence: message });
    this.retryable = retryable;
  }
}

const KINDS: Partial<Record<Code, typeof MediaError>> = {
  [Code.INVALID_ARGUMENT]: InvalidRequest,
  [Code.NOT_FOUND]: NotFound,
  [Code.UNAUTHENTICATED]: NotAllowed,
  [Code.PERMISSION_DENIED]: NotAllowed,
  [Code.FAILED_PRECONDITION]: Conflict,
  [Code.RESOURCE_EXHAUSTED]: TooMany,
  [Code.UNAVAILABLE]: Unavailable,
  [Code.DEADLINE_EXCEEDED]: Unavailable,
};

/** Return what a failed call of a method means. Its message begins with the method. */
export function errorOf(failed: ServiceError, method: string): MediaError {
  const Kind = KINDS[failed.code] ?? MediaError;
  const details: Details = { code: failed.code };
  if (Kind === TooMany || Kind === Unavailable) details.retryAfterMs = 1000;
  const [trailer] = failed.metadata?.get('grpc-status-details-bin') ?? [];
  if (trailer instanceof Uint8Array) {
    for (const detail of fromBinary(StatusSchema, trailer).details) {
      const bad = anyUnpack(detail, BadRequestSchema);
      if (bad) {
        details.fields = Object.fromEntries(bad.fieldViolations.map(({ field, reason }) => [field, reason]));
        details.sentence = bad.fieldViolations.flatMap((each) => each.localizedMessage?.message ?? []).join(' ');
      }
      details.reason = anyUnpack(detail, ErrorInfoSchema)?.reason ?? details.reason ?? '';
      const delay = anyUnpack(detail, RetryInfoSchema)?.retryDelay;
      if (delay) details.retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    }
  }
  return new Kind(`${method}: ${failed.details || Code[failed.code]}`, details);
}
