import { openAsBlob, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Client, credentials, Metadata, type ServiceError, status as Code } from '@grpc/grpc-js';
import { Conflict, errorOf, FileChanged, MediaDeleted, MediaError, MediaFailed } from './errors.js';
import { NotFound, StoreRefused, Unavailable } from './errors.js';
import { MediaService, MediaStatus_State as State, MediaVisibility } from './generated/avion/media_pb.js';
import type { Capabilities, MediaStatus, RequestMediaUploadRequestSchema } from './generated/avion/media_pb.js';
import type { SignMediaUrlsResponse, UndeleteMediaResponse, UploadPart } from './generated/avion/media_pb.js';

const RETRIES = {
  methodConfig: [
    {
      name: [{ service: MediaService.typeName }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: '0.2s',
        maxBackoff: '2s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE'],
      },
    },
  ],
};
const PAUSES_MS = [1_000, 2_000, 4_000, 8_000]; // between attempts to send bytes that the store did not take
const THIS_MACHINE = /^(unix(-abstract)?:.+|(dns:(\/\/\/)?)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?)$/;
const JOIN_MS = 60_000; // the least deadline of a call in which the store joins parts

/** What has to be kept to go on with an upload in parts, also in another process. */
export interface UploadInParts {
  mediaId: string;
  uploadId: string;
}

export interface ClientOptions {
  /** The certificates (PEM) of the authority that signed the service's; without, there is no TLS. */
  tlsCa?: Uint8Array | undefined;
  /** What names the caller; only over TLS, or to this machine, else the constructor throws. */
  token?: string | undefined;
  /** The deadline of each call, within which a call that ends with UNAVAILABLE is repeated. */
  callMs?: number | undefined;
  /** An attempt to send bytes ends when for so long the store takes no byte and answers nothing. */
  storeMs?: number | undefined;
}

export interface UploadOptions {
  owner?: string;
  filename?: string;
  visibility?: MediaVisibility;
  /** Called with the bytes that the store has, and the size of the file; once for each part. */
  progress?: (stored: number, size: number) => void;
  /** Called before the first byte of an upload in parts. Keep what it gets, to go on after an interruption. */
  begun?: (upload: UploadInParts) => void | Promise<void>;
  /** What `begun` got: only what the store does not have is sent. */
  resume?: UploadInParts | undefined;
  /** Other fields of RequestMediaUploadRequest. */
  more?: Omit<MessageInitShape<typeof RequestMediaUploadRequestSchema>, '$typeName' | '$unknown'>;
}

/** A client of one service. Close it at the end. */
export class MediaClient {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  readonly #callMs: number;
  readonly #storeMs: number;

  constructor(address: string, { tlsCa, token, callMs = 10_000, storeMs = 30_000 }: ClientOptions = {}) {
    if (token && !tlsCa && !THIS_MACHINE.test(address)) {
      throw new Error(`a token needs TLS to ${address}: pass tlsCa, or set AVION_MEDIA_CLIENT__TLS_CA`);
    }
    const tls = tlsCa ? credentials.createSsl(Buffer.from(tlsCa)) : credentials.createInsecure();
    this.#client = new Client(address, tls, { 'grpc.service_config': JSON.stringify(RETRIES) });
    if (token) this.#metadata.set('authorization', `Bearer ${token}`);
    this.#callMs = callMs;
    this.#storeMs = storeMs;
  }

  /**
   * A client by the settings of `avion-media upload`: AVION_MEDIA_CLIENT__ADDRESS, __TLS_CA, __TOKEN_FILE. Without an
   * address AVION_MEDIA_GRPC__BIND counts, which the line `export …` of `make demo` sets.
   */
  static fromEnvironment(times: Pick<ClientOptions, 'callMs' | 'storeMs'> = {}, environment = process.env): MediaClient {
    const setting = (name: string) => environment[`AVION_MEDIA_${name}`] || undefined;
    const [ca, tokenFile] = [setting('CLIENT__TLS_CA'), setting('CLIENT__TOKEN_FILE')];
    return new MediaClient(setting('CLIENT__ADDRESS') ?? setting('GRPC__BIND') ?? '127.0.0.1:50051', {
      ...times,
      tlsCa: ca && readFileSync(ca),
      token: tokenFile ? readFileSync(tokenFile, 'utf8').trim().split(/\s/)[0] : setting('CLIENT__TOKEN'),
    } as ClientOptions);
  }

  close(): void {
    this.#client.close();
  }

  /** Make any unary call: `call(media.MediaService.method.getUsage, { owner: 'alice' })`. Rejects with a `MediaError`. */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    callMs = this.#callMs,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        create(method.input, request),
        this.#metadata,
        { deadline: Date.now() + callMs },
        (error, response) => (error ? reject(errorOf(error, method.name)) : resolve(response as MessageShape<O>)),
      );
    });
  }

  /** The limits of the service, and a sentence for each reason of a failure. */
  capabilities(): Promise<Capabilities> {
    return this.call(MediaService.method.getCapabilities, {});
  }

  status(mediaId: string): Promise<MediaStatus> {
    return this.call(MediaService.method.getMediaStatus, { mediaId });
  }

  /** Yield each status of a media item; the last one is final. Of a media item that is READY it is the only one. */
  async *watch(mediaId: string, timeoutMs = 600_000): AsyncGenerator<MediaStatus> {
    const { input, output, name } = MediaService.method.watchMediaStatus;
    const statuses = this.#client.makeServerStreamRequest(
      `/${MediaService.typeName}/${name}`,
      (message: MessageShape<typeof input>) => Buffer.from(toBinary(input, message)),
      (bytes: Buffer) => fromBinary(output, bytes),
      create(input, { mediaId }),
      this.#metadata,
      { deadline: Date.now() + timeoutMs },
    );
    try {
      for await (const status of statuses) yield status as MediaStatus;
    } catch (error) {
      throw errorOf(error as ServiceError, name);
    } finally {
      statuses.cancel();
    }
  }

  /**
   * The status of a media item when it is READY, also through outages of the service. Rejects with `MediaFailed`, whose
   * message is for the person who uploaded it, with `MediaDeleted`, `NotFound`, or with `Unavailable` after the timeout.
   */
  async wait(mediaId: string, timeoutMs = 600_000): Promise<MediaStatus> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      let last: MediaStatus | undefined;
      try {
        for await (const status of this.watch(mediaId, Math.max(100, deadline - Date.now()))) last = status;
      } catch (error) {
        if (!(error instanceof Unavailable) || Date.now() + (error.retryAfterMs ?? 0) >= deadline) throw error;
        await sleep(error.retryAfterMs ?? 0);
        continue;
      }
      if (last?.state === State.READY) return last;
      if (last?.state === State.DELETED) throw new MediaDeleted(`${mediaId} was deleted`, { reason: 'DELETED' });
      const reason = last?.reason ?? '';
      const { reasons } = await this.capabilities();
      const sentence = reasons.find(({ code }) => code === reason)?.sentence;
      throw new MediaFailed(sentence ?? `This file cannot be published (${reason}).`, reason, last?.retryable ?? false);
    }
  }

  /**
   * Send a file to the store, and say that it is there. Resolves to its media id, for `wait`.
   *
   * A file above the service's threshold goes in parts. With `resume`, an upload that is complete already is left as it
   * is, and one that is gone begins again. Rejects, before anything is sent, with `FileChanged` if the file has not the
   * size of that upload, and with `Unavailable` if a replica of an earlier version would make private media public. If
   * an error has a `mediaId`, the file is in the store, and `complete` may be repeated instead.
   */
  async upload(path: string, contentType: string, options: UploadOptions = {}): Promise<string> {
    const { owner = '', filename = basename(path), begun, resume, progress = () => {}, more } = options;
    const { visibility = MediaVisibility.UNSPECIFIED } = options;
    await stat(path); // its error names the file
    const file = await openAsBlob(path);
    if (resume) {
      const mediaId = await this.#resumed(file, resume, progress);
      if (mediaId) return mediaId;
    }
    const { multipart, multipartThreshold } = await this.capabilities();
    const granted = await this.call(MediaService.method.requestMediaUpload, {
      ...more,
      filename,
      contentType,
      owner,
      visibility,
      size: BigInt(file.size),
      multipart: multipart && BigInt(file.size) > multipartThreshold,
    });
    if (visibility > MediaVisibility.PUBLIC && granted.visibility !== visibility) {
      throw new Unavailable('this replica does not know private media', { code: Code.UNAVAILABLE, retryAfterMs: 1000 });
    }
    const { mediaId, uploadId } = granted;
    if (uploadId) {
      await begun?.({ mediaId, uploadId });
      await this.#sendParts(file, { mediaId, uploadId }, progress);
    } else {
      for (const pauseMs of [...PAUSES_MS, undefined]) {
        const problem = await put(granted.uploadUrl, granted.uploadHeaders, file, this.#storeMs);
        if (!problem) break;
        if (pauseMs === undefined || problem.isFinal) throw new StoreRefused(`${path}: ${problem.text}`);
        await sleep(pauseMs);
      }
      progress(file.size, file.size);
    }
    await this.complete(mediaId, uploadId);
    return mediaId;
  }

  /** Say that the file is in the store, which joins its parts. It may be repeated; its errors have the id. */
  async complete(mediaId: string, uploadId = ''): Promise<void> {
    const callMs = uploadId ? Math.max(JOIN_MS, this.#callMs) : this.#callMs;
    try {
      await this.call(MediaService.method.completeMediaUpload, { mediaId, uploadId }, callMs);
    } catch (error) {
      if (error instanceof MediaError) error.mediaId = mediaId;
      throw error;
    }
  }

  /**
   * Delete media: nobody sees them any more when this resolves. Their files go after `delayMs`. Without it the service's
   * DELETE__DELAY counts, which is also the most. With an owner, media of others stay; their ids are the result. It may
   * be repeated.
   */
  async delete(
    mediaIds: string[],
    { owner = '', delayMs }: { owner?: string; delayMs?: number } = {},
  ): Promise<string[]> {
    const delay = delayMs === undefined ? {} : { delay: durationFromMs(delayMs) };
    return (await this.call(MediaService.method.deleteMedia, { mediaIds, owner, ...delay })).notOwned;
  }

  /** Take a deletion back, before its files are gone. The response says what became of each media item. */
  undelete(mediaIds: string[]): Promise<UndeleteMediaResponse> {
    return this.call(MediaService.method.undeleteMedia, { mediaIds });
  }

  /**
   * A token for each of these private media. It replaces `{token}` in the paths of the status. Without `ttlMs` the
   * service's time to live counts. `audience`: for whom the tokens are, so that theirs alone can be revoked.
   */
  sign(
    mediaIds: string[],
    { ttlMs, audience = '' }: { ttlMs?: number; audience?: string } = {},
  ): Promise<SignMediaUrlsResponse> {
    const ttl = ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) };
    return this.call(MediaService.method.signMediaUrls, { mediaIds, audience, ...ttl });
  }

  /** Refuse all tokens of these media, or those of an audience, that were signed before. It may be repeated. */
  async revoke(mediaIds: string[], audience = ''): Promise<void> {
    await this.call(MediaService.method.revokeMediaUrls, { mediaIds, audience });
  }

  /** Give up an upload in parts, so that the store forgets its bytes. It may be repeated. */
  async abort(upload: UploadInParts): Promise<void> {
    await this.call(MediaService.method.abortMediaUpload, { ...upload });
  }

  /** These parts, or all, with signed URLs, and whether the store has them. Rejects with `NotFound` at its end. */
  async parts(upload: UploadInParts, numbers: number[] = []): Promise<UploadPart[]> {
    return (await this.call(MediaService.method.signUploadParts, { ...upload, numbers })).parts;
  }

  /** Go on with an upload. Resolves to its media id; to nothing if it is gone. */
  async #resumed(file: Blob, upload: UploadInParts, progress: (stored: number, size: number) => void) {
    try {
      try {
        await this.#sendParts(file, upload, progress);
      } catch (error) {
        if (!(error instanceof NotFound)) throw error; // else it is joined, completed, aborted or expired
        const { state } = await this.status(upload.mediaId);
        if (state === State.FAILED || state === State.DELETED) return undefined;
      }
      await this.complete(upload.mediaId, upload.uploadId);
      return upload.mediaId;
    } catch (error) {
      if (error instanceof Conflict || error instanceof NotFound) return undefined;
      throw error;
    }
  }

  async #sendParts(file: Blob, upload: UploadInParts, progress: (stored: number, size: number) => void) {
    for (let attempt = 0; ; attempt += 1) {
      const parts = await this.parts(upload);
      const expected = parts.reduce((sum, { size }) => sum + Number(size), 0);
      if (expected !== file.size) {
        throw new FileChanged(`the upload was begun with a file of ${expected} bytes; this one has ${file.size}`);
      }
      let stored = parts.reduce((sum, part) => sum + (part.stored ? Number(part.size) : 0), 0);
      progress(stored, file.size);
      let problem;
      for (const { url, headers, offset, size } of parts.filter((part) => !part.stored)) {
        problem = await put(url, headers, file.slice(Number(offset), Number(offset + size)), this.#storeMs);
        if (problem) break; // a store that hangs would take its time for each part
        progress((stored += Number(size)), file.size);
        attempt = 0;
      }
      if (!problem) return;
      const pauseMs = PAUSES_MS[attempt];
      if (pauseMs === undefined) throw new StoreRefused(problem.text);
      await sleep(pauseMs);
    }
  }
}

/** Send bytes to the store. Resolves to what is wrong, or to nothing. */
async function put(url: string, headers: Record<string, string>, bytes: Blob, storeMs: number) {
  const stalled = new AbortController();
  const watchdog = setTimeout(() => stalled.abort(new Error(`nothing moved for ${storeMs / 1000} s`)), storeMs);
  const moving = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, body) {
      watchdog.refresh();
      body.enqueue(chunk);
    },
  });
  const body = bytes.stream().pipeThrough(moving);
  const length = { 'content-length': String(bytes.size) }; // of a stream it is not known, and the URL is signed for it
  const request = { method: 'PUT', headers: { ...headers, ...length }, body, duplex: 'half', redirect: 'manual' } as const;
  try {
    const answer = await fetch(url, { ...request, signal: stalled.signal });
    const text = await answer.text();
    if (answer.ok) return undefined;
    const isFinal = answer.status < 500 && answer.status !== 429;
    return { text: `the object store answered ${answer.status}: ${text.slice(0, 200)}`, isFinal };
  } catch (error) {
    const { message, code } = ((error as Error).cause ?? error) as NodeJS.ErrnoException;
    // An error of several addresses has no message.
    return { text: `the object store did not take it: ${message || code}`, isFinal: false };
  } finally {
    clearTimeout(watchdog);
  }
}
