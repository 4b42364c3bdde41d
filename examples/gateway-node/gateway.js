// A gateway between browsers and avion-media: HTTP and JSON for pages, gRPC with TLS and a token for the service.
// README.md says how to run it. The routes are those of all gateways in this folder (../README.md).
import { readFileSync } from 'node:fs';
import express from 'express';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { detailsOf } from './details.js';

const PROTOS = process.env.PROTOS ?? '../../proto';
// Where browsers get media: the CDN, or the origin itself.
const ORIGIN = process.env.ORIGIN_URL ?? 'http://127.0.0.1:8080';
const PAGE = process.env.PAGE ?? '../web/dist';
const CALL_MS = 5_000;
const WATCH_MS = 600_000; // then the browser's EventSource connects again

// The library repeats a call that ends with UNAVAILABLE, within the call's deadline and after the pause that the
// service asks for. All methods of the service may be repeated.
const RETRIES = {
  methodConfig: [
    {
      name: [{ service: 'avion.MediaService' }],
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

const { status: Code } = grpc;
const HTTP_STATUS = {
  [Code.INVALID_ARGUMENT]: 400,
  [Code.NOT_FOUND]: 404,
  [Code.FAILED_PRECONDITION]: 409,
  [Code.RESOURCE_EXHAUSTED]: 429,
  [Code.UNAVAILABLE]: 503,
  [Code.DEADLINE_EXCEEDED]: 504,
};

/** A client that trusts one authority and sends a bearer token with every call. */
function openClient() {
  const { AVION_MEDIA_CLIENT__ADDRESS, AVION_MEDIA_CLIENT__TLS_CA, AVION_MEDIA_CLIENT__TOKEN_FILE } = process.env;
  const token = readFileSync(AVION_MEDIA_CLIENT__TOKEN_FILE, 'utf8').trim();
  const bearer = grpc.credentials.createFromMetadataGenerator((_, callback) => {
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    callback(null, metadata);
  });
  const tls = grpc.credentials.createSsl(readFileSync(AVION_MEDIA_CLIENT__TLS_CA));
  const definition = loadSync('avion/media.proto', {
    includeDirs: [PROTOS],
    longs: Number,
    enums: String,
    defaults: true,
    arrays: true,
    objects: true,
  });
  const { MediaService } = grpc.loadPackageDefinition(definition).avion;
  return new MediaService(AVION_MEDIA_CLIENT__ADDRESS, grpc.credentials.combineChannelCredentials(tls, bearer), {
    'grpc.service_config': JSON.stringify(RETRIES),
  });
}

const media = openClient();

/** One unary call, with a deadline. */
const call = (method, request) =>
  new Promise((resolve, reject) => {
    media[method](request, { deadline: Date.now() + CALL_MS }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });

/** Who uploads. Put your own session here: a user who is not logged in must not get here. */
const ownerOf = (request) => request.get('x-user') ?? 'alice';

const idsOf = ({ params, query }) => ({ mediaId: params.key, uploadId: query.uploadId ?? '' });

const describe = ({ state, reason, retryable, width, height, thumbnails }) => ({
  state,
  reason,
  retryable,
  width,
  height,
  thumbnails: Object.fromEntries(Object.entries(thumbnails).map(([size, path]) => [size, ORIGIN + path])),
});

const app = express();
app.use(express.json());

// createMultipartUpload for a large file, getUploadParameters for a small one.
app.post('/uploads', async (request, response) => {
  const { filename, type, size } = request.body ?? {};
  if (typeof filename !== 'string' || typeof type !== 'string' || !Number.isSafeInteger(size)) {
    return response.status(400).json({ error: 'expected a JSON object with filename, type and size' });
  }
  const limits = await call('getCapabilities', {});
  const granted = await call('requestMediaUpload', {
    filename,
    contentType: type,
    size,
    owner: ownerOf(request),
    multipart: limits.multipart && size > limits.multipartThreshold,
  });
  response.json(
    granted.uploadId
      ? { key: granted.mediaId, uploadId: granted.uploadId, partSize: granted.partSize }
      : { key: granted.mediaId, method: 'PUT', url: granted.uploadUrl, headers: granted.uploadHeaders },
  );
});

// listParts: what the store has.
app.get('/uploads/:key/parts', async (request, response) => {
  const { parts } = await call('signUploadParts', idsOf(request));
  const stored = parts.filter((part) => part.stored);
  response.json(stored.map(({ number, size, etag }) => ({ PartNumber: number, Size: size, ETag: etag })));
});

// signPart. `stored` is true if the store has this part already, and only its response was lost.
app.get('/uploads/:key/parts/:number', async (request, response) => {
  const number = Number(request.params.number);
  if (number !== (number | 0)) return response.status(400).json({ error: 'expected the number of a part' }); // an int32
  const { parts } = await call('signUploadParts', { ...idsOf(request), numbers: [number] });
  const [{ url, headers, stored, etag }] = parts;
  response.json({ url, headers, stored, etag });
});

// completeMultipartUpload, and what follows a single PUT.
app.post('/uploads/:key/complete', async (request, response) => {
  await call('completeMediaUpload', idsOf(request));
  response.json({ location: `${ORIGIN}/media/${request.params.key}` });
});

// abortMultipartUpload.
app.delete('/uploads/:key', async (request, response) => {
  await call('abortMediaUpload', idsOf(request));
  response.status(204).end();
});

// The states of a media item as server-sent events. The last one is final.
app.get('/uploads/:key/events', (request, response, next) => {
  const watch = media.watchMediaStatus({ mediaId: request.params.key }, { deadline: Date.now() + WATCH_MS });
  response.on('close', () => watch.cancel());
  watch.on('data', (status) => {
    if (!response.headersSent) response.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.write(`data: ${JSON.stringify(describe(status))}\n\n`);
  });
  watch.on('end', () => response.end());
  watch.on('error', (error) => (response.headersSent ? response.end() : next(error))); // the browser connects again
});

// For each reason of a failure, a sentence for the person who uploaded the file.
app.get('/reasons', async (_request, response) => {
  const { reasons } = await call('getCapabilities', {});
  response.json(Object.fromEntries(reasons.map(({ code, sentence }) => [code, sentence])));
});

app.use(express.static(PAGE));

// An error of the service as one of HTTP: reasons for programs, a sentence for people, Retry-After.
app.use((error, request, response, next) => {
  if (!(error.metadata instanceof grpc.Metadata)) return next(error);
  const status = HTTP_STATUS[error.code] ?? 502;
  const { fields, reason, retryAfterSeconds } = detailsOf(error);
  if (retryAfterSeconds !== undefined) response.set('Retry-After', String(Math.ceil(retryAfterSeconds)));
  const text = status === 502 ? 'the media service refused the call' : error.details;
  response.status(status).json({ error: text, fields, reason });
});

const server = app.listen(Number(process.env.PORT ?? 8000), '127.0.0.1');
process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
  media.close();
});
